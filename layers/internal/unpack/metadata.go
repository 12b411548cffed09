package unpack

import (
	"archive/tar"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const xattrRecord = "SCHILY.xattr."

// describeOpen gives an open file or directory its owner, mode, attributes and
// time. The order matters: a new owner takes away set-id bits and capabilities.
func (t *Tree) describeOpen(fd int, h *tar.Header, chown bool) error {
	if chown {
		if err := t.ignore(unix.Fchown(fd, h.Uid, h.Gid)); err != nil {
			return fmt.Errorf("chown to %d:%d: %w", h.Uid, h.Gid, err)
		}
	}
	if err := unix.Fchmod(fd, uint32(h.Mode)&0o7777); err != nil {
		return err
	}
	err := t.setXattrs(h, func(name string, value []byte) error { return unix.Fsetxattr(fd, name, value, 0) })
	if err != nil || h.Typeflag == tar.TypeDir { // see Finish
		return err
	}
	return futimens(fd, h.ModTime)
}

// describe does the same for any other file, which has just been made.
func (t *Tree) describe(parent *dir, base string, h *tar.Header, kind uint32) error {
	if t.needsChown(parent, h) {
		if err := t.chownAt(parent, base, h); err != nil {
			return err
		}
	}
	if kind != unix.S_IFLNK {
		if err := unix.Fchmodat(parent.fd, base, uint32(h.Mode)&0o7777, 0); err != nil {
			return err
		}
	}
	if err := t.setXattrsAt(parent, base, h); err != nil {
		return err
	}
	return utimensat(parent.fd, base, h.ModTime)
}

// describeLink gives a file what the entry for another name of it says, which
// ought to be nothing new.
func (t *Tree) describeLink(parent *dir, base string, h *tar.Header) error {
	var st unix.Stat_t
	if err := unix.Fstatat(parent.fd, base, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	chown := st.Uid != uint32(h.Uid) || st.Gid != uint32(h.Gid)
	if chown {
		if err := t.chownAt(parent, base, h); err != nil {
			return err
		}
	}
	if st.Mode&unix.S_IFMT == unix.S_IFLNK {
		return t.setXattrsAt(parent, base, h)
	}
	if chown || (st.Mode^uint32(h.Mode))&0o7777 != 0 {
		if err := unix.Fchmodat(parent.fd, base, uint32(h.Mode)&0o7777, 0); err != nil {
			return err
		}
	}
	if err := t.setXattrsAt(parent, base, h); err != nil {
		return err
	}
	return utimensat(parent.fd, base, h.ModTime)
}

func (t *Tree) chownAt(parent *dir, base string, h *tar.Header) error {
	if err := t.ignore(unix.Fchownat(parent.fd, base, h.Uid, h.Gid, unix.AT_SYMLINK_NOFOLLOW)); err != nil {
		return fmt.Errorf("chown to %d:%d: %w", h.Uid, h.Gid, err)
	}
	return nil
}

// needsChown reports whether a file just made in parent does not have h's owner.
func (t *Tree) needsChown(parent *dir, h *tar.Header) bool {
	return h.Uid != t.uid || h.Gid != t.gid || parent.setgid
}

// ignore drops the error of a chown if it is to be ignored.
func (t *Tree) ignore(err error) error {
	if t.options.IgnoreChown {
		return nil
	}
	return err
}

func (t *Tree) setXattrsAt(parent *dir, base string, h *tar.Header) error {
	return t.setXattrs(h, func(name string, value []byte) error {
		return unix.Lsetxattr("/proc/self/fd/"+strconv.Itoa(parent.fd)+"/"+base, name, value, 0)
	})
}

// setXattrs sets the extended attributes but for the label of the host's security
// module. What the file system does not have is left out.
func (t *Tree) setXattrs(h *tar.Header, set func(name string, value []byte) error) error {
	for key, value := range h.PAXRecords {
		name, ok := strings.CutPrefix(key, xattrRecord)
		if !ok || name == "security.selinux" {
			continue
		}
		err := set(name, []byte(value))
		if err == unix.ENOTSUP || err == unix.EPERM && t.options.UserNS {
			continue
		}
		if err != nil {
			return fmt.Errorf("set xattr %s: %w", name, err)
		}
	}
	return nil
}

// timespecs keeps the access time: layers do not have one. Times before 1970 are
// taken for 1970, as other tools have it.
func timespecs(mtime time.Time) [2]unix.Timespec {
	const latest = (1<<63 - 1) / 1_000_000_000 // seconds; later ones are 1970 too
	ts := unix.Timespec{Sec: mtime.Unix(), Nsec: int64(mtime.Nanosecond())}
	if ts.Sec < 0 || ts.Sec > latest {
		ts = unix.Timespec{}
	}
	return [2]unix.Timespec{{Nsec: unix.UTIME_OMIT}, ts}
}

func utimensat(dir int, name string, mtime time.Time) error {
	ts := timespecs(mtime)
	return unix.UtimesNanoAt(dir, name, ts[:], unix.AT_SYMLINK_NOFOLLOW)
}

// futimens sets the modification time of an open file.
func futimens(fd int, mtime time.Time) error {
	ts := timespecs(mtime)
	_, _, errno := unix.Syscall6(unix.SYS_UTIMENSAT, uintptr(fd), 0, uintptr(unsafe.Pointer(&ts)), 0, 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
}
