package layers

import (
	"time"

	"golang.org/x/sys/unix"
)

// Info describes one file of a View, as lstat would. Of a directory that
// several layers share it describes the topmost.
type Info struct {
	// Path is relative to the root, clean and free of symbolic links except
	// for its last element. The root itself is ".".
	Path string
	// Linkname is the target of a symbolic link, unresolved.
	Linkname string
	// Mode holds the type and permission bits as in struct stat.
	Mode uint32
	UID  uint32
	GID  uint32
	// Size is in bytes.
	Size       int64
	ModTime    time.Time
	ChangeTime time.Time
	Dev        uint64
	Ino        uint64
	Rdev       uint64
	Nlink      uint64

	layer int // index into View.layers
}

// Type returns the file type bits (unix.S_IFREG, S_IFDIR, ...).
func (i *Info) Type() uint32 { return i.Mode & unix.S_IFMT }

// IsDir reports whether i is a directory.
func (i *Info) IsDir() bool { return i.Type() == unix.S_IFDIR }

// IsRegular reports whether i is a regular file.
func (i *Info) IsRegular() bool { return i.Type() == unix.S_IFREG }

// IsSymlink reports whether i is a symbolic link.
func (i *Info) IsSymlink() bool { return i.Type() == unix.S_IFLNK }

// set fills i from st, leaving Linkname alone.
func (i *Info) set(path string, layer int, st *unix.Stat_t) {
	i.Path, i.layer = path, layer
	i.Mode, i.UID, i.GID = st.Mode, st.Uid, st.Gid
	i.Size = st.Size
	i.ModTime = time.Unix(st.Mtim.Unix())
	i.ChangeTime = time.Unix(st.Ctim.Unix())
	i.Dev, i.Ino, i.Rdev = uint64(st.Dev), st.Ino, uint64(st.Rdev)
	i.Nlink = uint64(st.Nlink)
}

// isWhiteout reports whether st is overlayfs's mark for a deleted file.
func isWhiteout(st *unix.Stat_t) bool {
	return st.Mode&unix.S_IFMT == unix.S_IFCHR && st.Rdev == 0
}
