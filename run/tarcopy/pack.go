package tarcopy

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// packer writes a tree as a tar.
type packer struct {
	ctx  context.Context
	tar  *tar.Writer
	o    Options
	seen map[inode]string // first names of files with several
	own  func(uid, gid int) (int, int)
	buf  []byte
}

type inode struct{ dev, ino uint64 }

// pack writes s, named name, and all below it. Sockets are left out.
func pack(ctx context.Context, s *source, name string, w io.Writer, o Options) error {
	p := &packer{ctx: ctx, tar: tar.NewWriter(w), o: o, own: s.owner, seen: make(map[inode]string), buf: make([]byte, 256<<10)}
	if err := p.add(s.fd, &s.st, name); err != nil {
		return err
	}
	return p.tar.Close()
}

// add adds the file with the descriptor fd, an O_PATH one, and all below it.
func (p *packer) add(fd int, st *unix.Stat_t, name string) error {
	if err := context.Cause(p.ctx); err != nil {
		return err
	}
	h, err := p.header(fd, st, name)
	if h == nil || err != nil {
		return err
	}
	switch h.Typeflag {
	case tar.TypeReg:
		return p.addRegular(fd, h)
	case tar.TypeDir:
		if err := p.tar.WriteHeader(h); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		return p.addContent(fd, name)
	}
	return p.tar.WriteHeader(h)
}

// header describes a file; nil for one that a tar can't hold.
func (p *packer) header(fd int, st *unix.Stat_t, name string) (*tar.Header, error) {
	kind, ok := types[st.Mode&unix.S_IFMT]
	if !ok {
		return nil, nil
	}
	h := &tar.Header{
		Name: name, Typeflag: kind, Mode: int64(st.Mode & 0o7777), ModTime: time.Unix(st.Mtim.Unix()),
		Uid: int(st.Uid), Gid: int(st.Gid), Format: tar.FormatPAX,
	}
	if p.own != nil {
		h.Uid, h.Gid = p.own(h.Uid, h.Gid)
	}
	if kind != tar.TypeDir && st.Nlink > 1 {
		id := inode{st.Dev, st.Ino}
		if first, ok := p.seen[id]; ok {
			h.Typeflag, h.Linkname = tar.TypeLink, first
			return h, nil
		}
		p.seen[id] = name
	}
	switch kind {
	case tar.TypeDir:
		h.Name += "/"
	case tar.TypeReg:
		h.Size = st.Size
	case tar.TypeSymlink:
		var err error
		if h.Linkname, err = readlinkat(fd, ""); err != nil {
			return nil, &os.PathError{Op: "readlink", Path: name, Err: err}
		}
	case tar.TypeChar, tar.TypeBlock:
		h.Devmajor, h.Devminor = int64(unix.Major(st.Rdev)), int64(unix.Minor(st.Rdev))
	}
	return h, nil
}

// reopen opens for reading what the O_PATH descriptor fd stands for.
func reopen(fd, flags int) (int, error) {
	return unix.Open("/proc/self/fd/"+strconv.Itoa(fd), flags|unix.O_RDONLY|unix.O_CLOEXEC, 0)
}

// capability is the one attribute that changes what a program may do.
const capability = "security.capability"

// addRegular adds a file with its content. One that grows meanwhile is cut, one
// that shrinks is an error.
func (p *packer) addRegular(fd int, h *tar.Header) error {
	in, err := reopen(fd, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: h.Name, Err: err}
	}
	f := os.NewFile(uintptr(in), h.Name)
	defer f.Close()
	var value [64]byte
	if n, err := unix.Fgetxattr(in, capability, value[:]); err == nil {
		h.PAXRecords = map[string]string{xattrPrefix + capability: string(value[:n])}
	}
	if err := p.tar.WriteHeader(h); err != nil {
		return fmt.Errorf("%s: %w", h.Name, err)
	}
	for left := h.Size; left > 0; {
		if err := context.Cause(p.ctx); err != nil {
			return err
		}
		n, err := f.Read(p.buf[:min(left, int64(len(p.buf)))])
		if n > 0 {
			if _, err := p.tar.Write(p.buf[:n]); err != nil {
				return err
			}
			left -= int64(n)
			if p.o.OnProgress != nil {
				p.o.OnProgress(int64(n))
			}
		}
		if errors.Is(err, io.EOF) && left > 0 {
			return fmt.Errorf("%s: the file became smaller while it was copied", h.Name)
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
	}
	return nil
}

// addContent adds what is in a directory, in the order of names.
func (p *packer) addContent(fd int, name string) error {
	in, err := reopen(fd, unix.O_DIRECTORY)
	if err != nil {
		return &os.PathError{Op: "open", Path: name, Err: err}
	}
	dir := os.NewFile(uintptr(in), name)
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return err
	}
	slices.Sort(names)
	for _, base := range names {
		if err := p.addIn(dir, base, path.Join(name, base)); err != nil {
			return err
		}
	}
	return nil
}

// addIn adds a file of a directory. One that is gone by now is left out.
func (p *packer) addIn(dir *os.File, base, name string) error {
	fd, err := unix.Openat(int(dir.Fd()), base, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err == unix.ENOENT {
		return nil
	}
	if err != nil {
		return &os.PathError{Op: "open", Path: name, Err: err}
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return &os.PathError{Op: "stat", Path: name, Err: err}
	}
	return p.add(fd, &st, name)
}
