package unpack

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strconv"

	"golang.org/x/sys/unix"
)

// addDir makes a directory, or takes the one that is there.
func (t *Tree) addDir(parent *dir, base, name string, h *tar.Header) error {
	err := unix.Mkdirat(parent.fd, base, 0o700)
	made := err == nil
	if err == unix.EEXIST {
		var st unix.Stat_t
		if err := unix.Fstatat(parent.fd, base, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return err
		}
		if st.Mode&unix.S_IFMT != unix.S_IFDIR {
			made = true
			if err := t.remove(parent, base); err != nil {
				return err
			}
			if err := t.reopen(parent); err != nil {
				return err
			}
			if err := unix.Mkdirat(parent.fd, base, 0o700); err != nil {
				return err
			}
		}
	} else if err != nil {
		return err
	}
	d := parent.sub(base)
	if d.fd < 0 {
		fd, err := openDir(parent.fd, base)
		if err != nil {
			return err
		}
		t.dirs.opened(d, fd)
	}
	d.setgid = h.Mode&unix.S_ISGID != 0
	t.dirs.by[name] = d
	t.made = append(t.made, finalDir{name, h.ModTime})
	return t.describeOpen(d.fd, h, !made || t.needsChown(parent, h))
}

// addFile makes a regular file.
func (t *Tree) addFile(parent *dir, base string, h *tar.Header, content io.Reader) error {
	fd := -1
	err := t.makeNew(parent, base, func() (err error) {
		fd, err = openat(parent.fd, base, unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
		return err
	})
	if err != nil {
		return err
	}
	defer func() {
		if fd >= 0 {
			unix.Close(fd)
		}
	}()
	if Sparse(h) {
		err = t.writeSparse(fd, h.Size, content)
	} else {
		err = t.write(fd, h.Size, content)
	}
	if err != nil {
		return err
	}
	if err := t.describeOpen(fd, h, t.needsChown(parent, h)); err != nil {
		return err
	}
	err = unix.Close(fd)
	fd = -1
	return err
}

// write copies content to fd.
func (t *Tree) write(fd int, size int64, content io.Reader) error {
	for size > 0 {
		p := t.buf[:min(size, int64(len(t.buf)))]
		if _, err := io.ReadFull(content, p); err != nil {
			return unexpected(err)
		}
		if err := writeAll(fd, p); err != nil {
			return err
		}
		size -= int64(len(p))
	}
	return nil
}

func unexpected(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// maxSparse bounds the length of a file with holes: a tar of a few bytes can
// claim any, and all of it is read.
const maxSparse = 1 << 40 // bytes

var zeros [bufSize]byte

// writeSparse copies content to fd and leaves out what is zero.
func (t *Tree) writeSparse(fd int, size int64, content io.Reader) error {
	if size > maxSparse {
		return fmt.Errorf("the sparse file claims to have %d bytes: %w", size, unix.EFBIG)
	}
	for at := int64(0); at < size; {
		p := t.buf[:min(size-at, int64(len(t.buf)))]
		if _, err := io.ReadFull(content, p); err != nil {
			return unexpected(err)
		}
		if !bytes.Equal(p, zeros[:len(p)]) {
			if _, err := unix.Seek(fd, at, io.SeekStart); err != nil {
				return err
			}
			if err := writeAll(fd, p); err != nil {
				return err
			}
		}
		at += int64(len(p))
	}
	return unix.Ftruncate(fd, size)
}

// addNode makes a fifo or device file.
func (t *Tree) addNode(parent *dir, base string, h *tar.Header) error {
	kind, dev := uint32(unix.S_IFIFO), uint64(0)
	if h.Typeflag != tar.TypeFifo {
		dev = unix.Mkdev(uint32(h.Devmajor), uint32(h.Devminor))
		kind = unix.S_IFCHR
		if h.Typeflag == tar.TypeBlock {
			kind = unix.S_IFBLK
		}
	}
	err := t.makeNew(parent, base, func() error { return unix.Mknodat(parent.fd, base, kind|0o600, int(dev)) })
	if err != nil {
		return err
	}
	return t.describe(parent, base, h, kind)
}

// skipDevice is all that comes of a device file in a user namespace: it still takes
// the place of what was there.
func (t *Tree) skipDevice(parent *dir, base string) error {
	err := t.remove(parent, base)
	if err == unix.ENOENT {
		return nil
	}
	return err
}

// addLink makes a hard link to a file that the tar has had before.
func (t *Tree) addLink(parent *dir, base string, h *tar.Header) error {
	target := path.Clean("/" + h.Linkname)
	if target == "/" {
		return fmt.Errorf("link to %q: %w", h.Linkname, unix.EPERM)
	}
	from, err := t.resolve(path.Dir(target), false)
	if err != nil {
		return fmt.Errorf("link to %q: %w", h.Linkname, err)
	}
	// The walk may have closed the parent.
	if err := t.reopen(parent); err != nil {
		return err
	}
	err = t.makeNew(parent, base, func() error {
		if err := t.reopen(from); err != nil {
			return err
		}
		return unix.Linkat(from.fd, path.Base(target), parent.fd, base, 0)
	})
	if err != nil {
		return fmt.Errorf("link to %q: %w", h.Linkname, err)
	}
	return t.describeLink(parent, base, h)
}

// makeNew runs make, which makes base in parent, if need be in place of what is
// there.
func (t *Tree) makeNew(parent *dir, base string, make func() error) error {
	err := make()
	if err != unix.EEXIST {
		return err
	}
	if err := t.remove(parent, base); err != nil {
		return err
	}
	if err := t.reopen(parent); err != nil {
		return err
	}
	return make()
}

// remove removes base from parent, with all that is in it. Afterwards parent may
// be closed.
func (t *Tree) remove(parent *dir, base string) error {
	var st unix.Stat_t
	if err := unix.Fstatat(parent.fd, base, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		if err := removeAll(parent.fd, base); err != nil {
			return err
		}
	case unix.S_IFLNK:
		if err := unix.Unlinkat(parent.fd, base, 0); err != nil {
			return err
		}
	default:
		return unix.Unlinkat(parent.fd, base, 0)
	}
	t.dirs.forget()
	return nil
}

// removeAll removes the directory name in at.
func removeAll(at int, name string) error {
	root, err := os.OpenRoot("/proc/self/fd/" + strconv.Itoa(at))
	if err != nil {
		return err
	}
	return errors.Join(root.RemoveAll(name), root.Close())
}
