package tarcopy

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// xattrPrefix is that of extended attributes in PAX records.
const xattrPrefix = "SCHILY.xattr."

// unpacker writes what a tar holds into a directory. Names in the tar are taken
// element by element: no link in or below the directory is followed.
type unpacker struct {
	ctx  context.Context
	o    Options
	dir  *os.File
	own  func(uid, gid int) (int, int) // see Place.Outside
	dirs []*tar.Header                 // whose times are set at the end
	buf  []byte
}

// unpack reads a tar to its end. A file takes the place of another, and a
// directory is merged with another, but neither takes the other's place.
func unpack(ctx context.Context, r io.Reader, dir *os.File, own func(uid, gid int) (int, int), o Options) error {
	u := &unpacker{ctx: ctx, o: o, dir: dir, own: own, buf: make([]byte, 256<<10)}
	in := tar.NewReader(r)
	for {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		h, err := in.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		if err := u.entry(h, in); err != nil {
			return err
		}
	}
	_, err := io.Copy(io.Discard, r) // what pads the tar
	return errors.Join(u.setTimes(), err)
}

// entry unpacks one file.
func (u *unpacker) entry(h *tar.Header, content io.Reader) error {
	name := path.Clean("/" + h.Name)[1:]
	if name == "" {
		return nil // the directory itself stays as it is
	}
	parent, base := path.Split(name)
	dir, err := u.openParent(parent)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	defer unix.Close(dir)
	if err := u.makeRoom(dir, base, h); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if err := u.make(dir, base, h, content); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// openParent opens the directory that a file goes to, made if it is missing.
func (u *unpacker) openParent(name string) (int, error) {
	if name = strings.TrimRight(name, "/"); name == "" {
		name = "."
	}
	fd, err := u.open(name, unix.O_PATH|unix.O_DIRECTORY)
	if err != unix.ENOENT {
		return fd, err
	}
	parent, base := path.Split(name)
	dir, err := u.openParent(parent)
	if err != nil {
		return -1, err
	}
	defer unix.Close(dir)
	err = unix.Mkdirat(dir, base, 0o755)
	if err == nil && u.own != nil {
		uid, gid := u.own(0, 0)
		err = unix.Fchownat(dir, base, uid, gid, unix.AT_SYMLINK_NOFOLLOW)
	}
	if err != nil && err != unix.EEXIST {
		return -1, err
	}
	return u.open(name, unix.O_PATH|unix.O_DIRECTORY)
}

func (u *unpacker) open(name string, flags int) (int, error) {
	return unix.Openat2(int(u.dir.Fd()), name, &unix.OpenHow{
		Flags: uint64(flags | unix.O_CLOEXEC), Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS,
	})
}

// makeRoom removes what a file is to replace. A file on which something is mounted
// is left, to be written into: removing it would take the mount away, where that is
// another mount namespace's.
func (u *unpacker) makeRoom(dir int, base string, h *tar.Header) error {
	var st unix.Statx_t
	err := unix.Statx(dir, base, unix.AT_SYMLINK_NOFOLLOW, unix.STATX_TYPE, &st)
	if err == unix.ENOENT {
		return nil
	}
	if err != nil {
		return err
	}
	isDir, wantDir := st.Mode&unix.S_IFMT == unix.S_IFDIR, h.Typeflag == tar.TypeDir
	switch {
	case isDir && wantDir:
		return nil
	case isDir:
		return errors.New("cannot overwrite directory with non-directory")
	case wantDir:
		return errors.New("cannot overwrite non-directory with directory")
	case st.Attributes&unix.STATX_ATTR_MOUNT_ROOT == 0:
		return unix.Unlinkat(dir, base, 0)
	case h.Typeflag != tar.TypeReg:
		return errors.New("cannot replace what is mounted")
	}
	return nil
}

// make makes a file in dir.
func (u *unpacker) make(dir int, base string, h *tar.Header, content io.Reader) error {
	switch h.Typeflag {
	case tar.TypeReg:
		return u.makeRegular(dir, base, h, content)
	case tar.TypeDir:
		err := unix.Mkdirat(dir, base, 0o700)
		if err != nil && err != unix.EEXIST {
			return err
		}
		u.dirs = append(u.dirs, h)
		return u.finish(dir, base, h, err == nil)
	case tar.TypeLink:
		return u.makeLink(dir, base, h)
	case tar.TypeSymlink:
		if err := unix.Symlinkat(h.Linkname, dir, base); err != nil {
			return err
		}
		return u.finish(dir, base, h, true)
	case tar.TypeFifo, tar.TypeChar, tar.TypeBlock:
		kind := map[byte]uint32{tar.TypeFifo: unix.S_IFIFO, tar.TypeChar: unix.S_IFCHR, tar.TypeBlock: unix.S_IFBLK}[h.Typeflag]
		dev := unix.Mkdev(uint32(h.Devmajor), uint32(h.Devminor))
		if err := unix.Mknodat(dir, base, kind|0o600, int(dev)); err != nil {
			return err
		}
		return u.finish(dir, base, h, true)
	}
	return fmt.Errorf("files of type %q in a tar are not supported", h.Typeflag)
}

func (u *unpacker) makeRegular(dir int, base string, h *tar.Header, content io.Reader) (err error) {
	fd, err := unix.Openat(dir, base, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	made := err == nil
	if err == unix.EEXIST {
		fd, err = openMounted(dir, base)
	}
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), base)
	defer func() { err = errors.Join(err, f.Close()) }()
	if err := u.write(f, content); err != nil {
		return err
	}
	if err := u.finish(dir, base, h, made); err != nil {
		return err
	}
	if value := h.PAXRecords[xattrPrefix+capability]; value != "" {
		err := unix.Fsetxattr(fd, capability, []byte(value), 0)
		if err != nil && err != unix.EPERM && err != unix.EOPNOTSUPP {
			return fmt.Errorf("set %s: %w", capability, err)
		}
	}
	return nil
}

// write writes a new file's content. Zeros become holes: a file with few blocks and
// many bytes is copied as such.
func (u *unpacker) write(f *os.File, content io.Reader) error {
	size, hole := int64(0), false // the hole is the file's end
	for {
		if err := context.Cause(u.ctx); err != nil {
			return err
		}
		n, err := content.Read(u.buf)
		if block := u.buf[:n]; n > 0 {
			if hole = len(bytes.Trim(block, "\x00")) == 0; !hole {
				if _, err := f.WriteAt(block, size); err != nil {
					return err
				}
			}
			size += int64(n)
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
	}
	if hole {
		return f.Truncate(size)
	}
	return nil
}

// openMounted opens a file on which something is mounted, to be written anew. It is
// made sure that it is a file before anything is opened for writing.
func openMounted(dir int, base string) (int, error) {
	fd, err := unix.Openat(dir, base, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return -1, err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return -1, unix.EEXIST
	}
	return unix.Open(fmt.Sprintf("/proc/self/fd/%d", fd), unix.O_WRONLY|unix.O_TRUNC|unix.O_CLOEXEC, 0)
}

// makeLink makes a further name of a file that was unpacked before.
func (u *unpacker) makeLink(dir int, base string, h *tar.Header) error {
	parent, old := path.Split(path.Clean("/" + h.Linkname)[1:])
	from, err := u.openParent(parent)
	if err != nil {
		return err
	}
	defer unix.Close(from)
	return unix.Linkat(from, old, dir, base, 0)
}

// setOwner gives a file the owner in the tar, if that is wanted. A new file in a
// container with a user namespace of its own is not that of the container's root yet.
func (u *unpacker) setOwner(dir int, base string, h *tar.Header, made bool) error {
	uid, gid := 0, 0
	switch {
	case u.o.Archive:
		uid, gid = h.Uid, h.Gid
	case u.own == nil || !made:
		return nil
	}
	if u.own != nil {
		uid, gid = u.own(uid, gid)
	}
	if err := unix.Fchownat(dir, base, uid, gid, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return fmt.Errorf("chown to %d:%d: %w", uid, gid, err)
	}
	return nil
}

// finish gives a file its owner, mode and time; made says that it is a new one.
func (u *unpacker) finish(dir int, base string, h *tar.Header, made bool) error {
	if err := u.setOwner(dir, base, h, made); err != nil {
		return err
	}
	if h.Typeflag != tar.TypeSymlink {
		if err := chmodIn(dir, base, uint32(h.Mode&0o7777)); err != nil {
			return err
		}
	}
	if h.Typeflag == tar.TypeDir {
		return nil
	}
	return setTime(dir, base, h.ModTime)
}

// chmodIn changes the mode of a file that is no link.
func chmodIn(dir int, base string, mode uint32) error {
	fd, err := unix.Openat(dir, base, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Mode&unix.S_IFMT == unix.S_IFLNK {
		return err
	}
	return unix.Chmod(fmt.Sprintf("/proc/self/fd/%d", fd), mode)
}

func setTime(dir int, base string, t time.Time) error {
	ts := unix.NsecToTimespec(t.UnixNano())
	return unix.UtimesNanoAt(dir, base, []unix.Timespec{ts, ts}, unix.AT_SYMLINK_NOFOLLOW)
}

// setTimes sets the times of directories, which change as files are made in them.
func (u *unpacker) setTimes() error {
	for _, h := range u.dirs {
		parent, base := path.Split(path.Clean("/" + h.Name)[1:])
		dir, err := u.openParent(parent)
		if err != nil {
			return fmt.Errorf("%s: %w", h.Name, err)
		}
		err = setTime(dir, base, h.ModTime)
		unix.Close(dir)
		if err != nil {
			return fmt.Errorf("%s: %w", h.Name, err)
		}
	}
	return nil
}
