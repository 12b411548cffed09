package layers

import (
	"fmt"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// makeNode makes anything but a regular file or a directory.
func (w *writer) makeNode(dir int, n *node) error {
	e, name := n.entry, n.name()
	make := func() error {
		if e.Type() == unix.S_IFLNK {
			return unix.Symlinkat(e.Linkname, dir, name)
		}
		return unix.Mknodat(dir, name, e.Type()|0o600, int(e.Rdev))
	}
	err := make()
	if err == unix.EEXIST {
		if err = unix.Unlinkat(dir, name, 0); err == nil {
			err = make()
		}
	}
	if err != nil {
		return err
	}
	if w.needsChown(n.dir, e) {
		err := unix.Fchownat(dir, name, int(e.UID), int(e.GID), unix.AT_SYMLINK_NOFOLLOW)
		if err != nil && !w.mayIgnoreChown(err) {
			return fmt.Errorf("chown to %d:%d: %w", e.UID, e.GID, err)
		}
	}
	if e.Type() != unix.S_IFLNK {
		if err := unix.Fchmodat(dir, name, e.Mode&0o7777, 0); err != nil {
			return err
		}
	}
	for x, value := range e.Xattrs {
		if err := unix.Lsetxattr(procName(dir, name), x, []byte(value), 0); err != nil {
			return fmt.Errorf("set xattr %s: %w", x, err)
		}
	}
	return unix.UtimesNanoAt(dir, name, times(e.ModTime), unix.AT_SYMLINK_NOFOLLOW)
}

// create makes an empty regular file, in place of any non-directory.
func create(dir int, name string) (int, error) {
	const flags = unix.O_CREAT | unix.O_EXCL | unix.O_WRONLY | unix.O_NOFOLLOW | unix.O_CLOEXEC
	fd, err := openat(dir, name, flags, 0o600)
	if err != unix.EEXIST {
		return fd, err
	}
	if err := unix.Unlinkat(dir, name, 0); err != nil {
		return -1, err
	}
	return openat(dir, name, flags, 0o600)
}

// setMetadata gives an open file or directory e's owner, mode, attributes and
// time. The order matters: a new owner takes away set-id bits and capabilities.
func (w *writer) setMetadata(fd int, e *Entry, chown bool) error {
	if chown {
		if err := unix.Fchown(fd, int(e.UID), int(e.GID)); err != nil && !w.mayIgnoreChown(err) {
			return fmt.Errorf("chown to %d:%d: %w", e.UID, e.GID, err)
		}
	}
	if err := unix.Fchmod(fd, e.Mode&0o7777); err != nil {
		return err
	}
	for name, value := range e.Xattrs {
		if err := unix.Fsetxattr(fd, name, []byte(value), 0); err != nil {
			return fmt.Errorf("set xattr %s: %w", name, err)
		}
	}
	return futimens(fd, e.ModTime)
}

// needsChown reports whether a file just made in d does not have e's owner.
func (w *writer) needsChown(d *dirNode, e *Entry) bool {
	return e.UID != w.uid || e.GID != w.gid || d.setgid
}

// mayIgnoreChown reports whether err is what a user namespace with a single id
// says to any other.
func (w *writer) mayIgnoreChown(err error) bool {
	return w.singleID && (err == unix.EINVAL || err == unix.EPERM)
}

// times keeps the access time: layers do not have one.
func times(mtime time.Time) []unix.Timespec {
	ts, _ := unix.TimeToTimespec(mtime)
	return []unix.Timespec{{Nsec: unix.UTIME_OMIT}, ts}
}

// futimens sets the modification time of an open file.
func futimens(fd int, mtime time.Time) error {
	ts, err := unix.TimeToTimespec(mtime)
	if err != nil {
		return err
	}
	both := [2]unix.Timespec{{Nsec: unix.UTIME_OMIT}, ts}
	_, _, errno := unix.Syscall6(unix.SYS_UTIMENSAT, uintptr(fd), 0, uintptr(unsafe.Pointer(&both)), 0, 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
}

// writeAll writes p to fd.
func writeAll(fd int, p []byte) error {
	for len(p) > 0 {
		n, err := unix.Write(fd, p)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return err
		}
		p = p[n:]
	}
	return nil
}
