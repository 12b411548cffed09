package layers

import (
	"archive/tar"
	"io"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Entry is one file to be written into a Snapshot, or one file found in a
// View or in a layer's tar. Its owner ids are the container's.
type Entry struct {
	// Path is relative to the root, slash separated and clean: no leading
	// slash, no "." or ".." elements. The root itself is ".".
	Path string
	// Mode holds the type and permission bits as in struct stat (S_IFMT
	// and 07777).
	Mode uint32
	UID  uint32
	GID  uint32
	// ModTime is kept to the nanosecond on disk and to the second in tar.
	ModTime time.Time
	// Size is in bytes, for regular files only.
	Size int64
	// Linkname is the target of a symbolic link. With Mode&S_IFMT ==
	// S_IFREG and Hardlink set, it is the Path of an earlier Entry.
	Linkname string
	Hardlink bool
	// Rdev is the device number of a character or block device.
	Rdev uint64
	// Xattrs are extended attributes by full name ("security.capability").
	Xattrs map[string]string
	// Open returns the content of a regular file; nil means empty. Write
	// may call it from any goroutine, once, and closes what it returns.
	Open func() (io.ReadCloser, error)
}

// Type returns the file type bits (unix.S_IFREG, S_IFDIR, ...).
func (e *Entry) Type() uint32 { return e.Mode & unix.S_IFMT }

// IsDir reports whether e is a directory.
func (e *Entry) IsDir() bool { return e.Type() == unix.S_IFDIR }

// IsRegular reports whether e is a regular file or a hard link to one.
func (e *Entry) IsRegular() bool { return e.Type() == unix.S_IFREG }

// xattrPrefix is the PAX key prefix that tar implementations agree on for
// extended attributes.
const xattrPrefix = "SCHILY.xattr."

// header makes the tar header every layer of ours uses for e: whole-second
// modification time and no access or change time, so that the same tree gives
// the same bytes.
func (e *Entry) header() *tar.Header {
	h := &tar.Header{
		Format:  tar.FormatPAX,
		Name:    e.Path,
		Mode:    int64(e.Mode & 0o7777),
		Uid:     int(e.UID),
		Gid:     int(e.GID),
		ModTime: e.ModTime.Truncate(time.Second),
	}
	switch e.Type() {
	case unix.S_IFDIR:
		h.Typeflag = tar.TypeDir
		if !strings.HasSuffix(h.Name, "/") {
			h.Name += "/"
		}
	case unix.S_IFLNK:
		h.Typeflag, h.Linkname = tar.TypeSymlink, e.Linkname
	case unix.S_IFCHR:
		h.Typeflag = tar.TypeChar
	case unix.S_IFBLK:
		h.Typeflag = tar.TypeBlock
	case unix.S_IFIFO:
		h.Typeflag = tar.TypeFifo
	default:
		h.Typeflag, h.Size = tar.TypeReg, e.Size
		if e.Hardlink {
			h.Typeflag, h.Size, h.Linkname = tar.TypeLink, 0, e.Linkname
		}
	}
	if h.Typeflag == tar.TypeChar || h.Typeflag == tar.TypeBlock {
		h.Devmajor, h.Devminor = int64(unix.Major(e.Rdev)), int64(unix.Minor(e.Rdev))
	}
	if len(e.Xattrs) > 0 {
		h.PAXRecords = make(map[string]string, len(e.Xattrs))
		for k, v := range e.Xattrs {
			h.PAXRecords[xattrPrefix+k] = v
		}
	}
	return h
}
