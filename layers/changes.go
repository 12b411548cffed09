package layers

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// Names that OCI layers use for what is gone.
const (
	whiteoutPrefix = ".wh."
	opaqueName     = ".wh..wh..opq"
)

const (
	// prefetchItems bounds how far reading runs ahead of the tar, and with
	// it memory (prefetchItems * smallFile) and open files.
	prefetchItems = 128
	smallFile     = 256 << 10 // bytes
)

// item is one entry on its way from a directory into the tar. It is found by a
// walk, described and read by a worker, and written in the walk's order.
type item struct {
	path string
	name string   // in dir; "" when dir is the entry itself
	dir  *openDir // released by the writer

	ready chan struct{}
	// The following are the worker's until ready is closed.
	err    error
	kind   itemKind
	entry  Entry
	inode  inode
	linked bool   // other names exist
	small  []byte // content, or
	large  *os.File
}

type itemKind int

const (
	itemEntry itemKind = iota
	itemSkip
	itemWhiteout
	itemOpaque // an entry, then an opaque mark
)

type inode struct{ dev, ino uint64 }

// openDir is a directory kept open until the last item in it is written.
type openDir struct {
	fd   int
	refs atomic.Int32
}

func (d *openDir) hold() *openDir {
	d.refs.Add(1)
	return d
}

func (d *openDir) release() {
	if d.refs.Add(-1) == 0 && d.fd >= 0 {
		unix.Close(d.fd)
	}
}

// changes writes the content of an overlay upper directory as a layer's tar.
type changes struct {
	w      *streamWriter
	root   Entry // the root directory when the snapshot was made
	xattr  string
	limit  time.Time  // of modification times; zero = none
	lowers []*os.File // O_PATH, top first: what opaque marks may hide
	live   bool       // files may change and vanish meanwhile
	owners Owners     // that the directory's files have in their container
	links  map[inode]string
	walk   func(ctx context.Context, emit func(*item) error) error
}

// write runs walk, the readers and the tar side by side.
func (c *changes) write(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	ordered := make(chan *item, prefetchItems)
	todo := make(chan *item, prefetchItems)
	var walkErr error
	var running sync.WaitGroup
	running.Go(func() {
		defer close(ordered)
		defer close(todo)
		walkErr = c.walk(ctx, func(it *item) error {
			it.ready = make(chan struct{})
			if err := send(ctx, ordered, it); err != nil {
				it.dir.release()
				return err
			}
			if err := send(ctx, todo, it); err != nil {
				it.err = err
				close(it.ready)
				return err
			}
			return nil
		})
	})
	for range max(2, runtime.GOMAXPROCS(0)) {
		running.Go(func() {
			for it := range todo {
				if it.err = c.read(it); it.err == nil {
					it.err = c.clamp(it)
				}
				if c.live && errors.Is(it.err, unix.ENOENT) {
					it.kind, it.err = itemSkip, nil
				}
				close(it.ready)
			}
		})
	}
	var err error
	for it := range ordered {
		<-it.ready
		if err == nil {
			if err = c.add(ctx, it); err != nil {
				cancel(err)
			}
		}
		it.release()
	}
	running.Wait()
	if err == nil {
		err = walkErr
	}
	return err
}

func send(ctx context.Context, to chan<- *item, it *item) error {
	select {
	case to <- it:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// release closes what the item holds and reuses its buffer.
func (it *item) release() {
	it.dir.release()
	if it.large != nil {
		it.large.Close()
	}
	if it.small != nil {
		contentBuffers.Put(&it.small)
	}
}

var contentBuffers = sync.Pool{New: func() any { return new([]byte) }}

// add writes an item into the tar.
func (c *changes) add(ctx context.Context, it *item) error {
	if it.err != nil {
		return fmt.Errorf("read /%s: %w", it.path, it.err)
	}
	e := &it.entry
	switch it.kind {
	case itemSkip:
		return nil
	case itemWhiteout:
		return c.w.header(whiteout(path.Join(path.Dir(it.path), whiteoutPrefix+path.Base(it.path))))
	}
	if it.path == "." && sameRoot(e, &c.root) {
		return nil
	}
	if it.linked {
		if first, ok := c.links[it.inode]; ok {
			e.Hardlink, e.Linkname = true, first
			return c.w.entry(e)
		}
		c.links[it.inode] = it.path
	}
	if err := c.w.entry(e); err != nil {
		return err
	}
	if it.kind == itemOpaque {
		return c.w.header(whiteout(path.Join(it.path, opaqueName)))
	}
	return c.addContent(ctx, it)
}

func (c *changes) addContent(ctx context.Context, it *item) error {
	if it.large == nil {
		_, err := c.w.Write(it.small)
		return err
	}
	n, err := io.Copy(c.w, io.LimitReader(untilDone{ctx, it.large}, it.entry.Size))
	if err == nil && n < it.entry.Size {
		err = c.short(it.entry.Size - n)
	}
	if err != nil {
		return fmt.Errorf("read /%s: %w", it.path, err)
	}
	return nil
}

// untilDone reads until its context ends: a file may be of any size.
type untilDone struct {
	ctx context.Context
	r   io.Reader
}

func (u untilDone) Read(p []byte) (int, error) {
	if u.ctx.Err() != nil {
		return 0, context.Cause(u.ctx)
	}
	return u.r.Read(p)
}

// short fills a file up that has become shorter, if it may.
func (c *changes) short(missing int64) error {
	if !c.live {
		return io.ErrUnexpectedEOF
	}
	zeros := make([]byte, min(missing, smallFile))
	for missing > 0 {
		n, err := c.w.Write(zeros[:min(missing, smallFile)])
		if err != nil {
			return err
		}
		missing -= int64(n)
	}
	return nil
}

// whiteout returns the header of a whiteout. It has no time and no owner, so
// that deleting the same file gives the same layer.
func whiteout(name string) *tar.Header {
	return &tar.Header{Format: tar.FormatPAX, Typeflag: tar.TypeReg, Name: name, ModTime: time.Unix(0, 0)}
}

// sameRoot reports whether the root directory is as the parent's: then the
// layer has no entry for it.
func sameRoot(a, b *Entry) bool {
	return a.Mode == b.Mode && a.UID == b.UID && a.GID == b.GID && maps.Equal(a.Xattrs, b.Xattrs)
}

// read describes an item and reads its content when it is small.
func (c *changes) read(it *item) error {
	it.entry.Path = it.path
	if it.kind == itemWhiteout {
		return nil // the walk knew
	}
	if strings.HasPrefix(path.Base(it.path), whiteoutPrefix) {
		return errPath
	}
	var st unix.Stat_t
	if it.name == "" {
		if err := unix.Fstat(it.dir.fd, &st); err != nil {
			return err
		}
		c.describe(&it.entry, &st)
		return c.readDir(it)
	}
	if err := unix.Fstatat(it.dir.fd, it.name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	c.describe(&it.entry, &st)
	switch {
	case isWhiteout(&st):
		it.kind = itemWhiteout
	case st.Mode&unix.S_IFMT == unix.S_IFSOCK:
		it.kind = itemSkip
	case st.Mode&unix.S_IFMT == unix.S_IFLNK:
		target, err := readlinkat(it.dir.fd, it.name)
		it.entry.Linkname = target
		return err
	case st.Mode&unix.S_IFMT == unix.S_IFREG:
		it.inode, it.linked = inode{st.Dev, st.Ino}, st.Nlink > 1
		return c.readFile(it)
	}
	return nil
}

// describe fills in what struct stat knows, with the owner that the container sees.
func (c *changes) describe(e *Entry, st *unix.Stat_t) {
	e.set(st)
	e.UID, e.GID = c.owners.Inside(e.UID, e.GID)
}

// set fills in what struct stat knows.
func (e *Entry) set(st *unix.Stat_t) {
	e.Mode, e.UID, e.GID = st.Mode, st.Uid, st.Gid
	e.ModTime = time.Unix(st.Mtim.Unix())
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		e.Size = st.Size
	case unix.S_IFCHR, unix.S_IFBLK:
		e.Rdev = st.Rdev
	}
}

func (c *changes) readDir(it *item) error {
	xattrs, marks, err := c.xattrs(it.dir.fd)
	if err != nil {
		return err
	}
	it.entry.Xattrs = xattrs
	if it.path == "." || marks["opaque"] != "y" {
		return nil
	}
	// The kernel also marks directories that are simply new. Only one that
	// hides something needs a mark in the tar, and then tools that know
	// nothing of overlayfs need it badly.
	hides, err := c.inLower(it.path)
	if hides {
		it.kind = itemOpaque
	}
	return err
}

func (c *changes) readFile(it *item) error {
	fd, err := openat(it.dir.fd, it.name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	xattrs, marks, err := c.xattrs(fd)
	if err != nil {
		unix.Close(fd)
		return err
	}
	it.entry.Xattrs = xattrs
	if _, ok := marks["whiteout"]; ok && it.entry.Size == 0 {
		it.kind = itemWhiteout
	}
	if it.entry.Size > smallFile {
		it.large = os.NewFile(uintptr(fd), it.name)
		return nil
	}
	defer unix.Close(fd)
	if it.entry.Size == 0 {
		return nil
	}
	it.small, err = readSmall(fd, int(it.entry.Size))
	if c.live && err == io.ErrUnexpectedEOF {
		return nil // the rest is zeros
	}
	return err
}

// readSmall reads size bytes into a buffer of contentBuffers.
func readSmall(fd, size int) ([]byte, error) {
	buf := *contentBuffers.Get().(*[]byte)
	buf = slices.Grow(buf[:0], size)[:size]
	for n := 0; n < size; {
		m, err := read(fd, buf[n:])
		if err == nil && m == 0 {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			clear(buf[n:])
			return buf, err
		}
		n += m
	}
	return buf, nil
}

// xattrs returns the attributes that belong into the layer, and overlayfs' own
// marks by their short names.
func (c *changes) xattrs(fd int) (keep, marks map[string]string, err error) {
	var buf [1024]byte
	names := buf[:]
	n, err := unix.Flistxattr(fd, names)
	for err == unix.ERANGE {
		names = make([]byte, 64<<10) // XATTR_LIST_MAX
		n, err = unix.Flistxattr(fd, names)
	}
	if n == 0 || err == unix.ENOTSUP {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, os.NewSyscallError("flistxattr", err)
	}
	for name := range bytes.SplitSeq(bytes.TrimSuffix(names[:n], []byte{0}), []byte{0}) {
		name := string(name)
		to, key := &keep, name
		if mark, ok := strings.CutPrefix(name, c.xattr); ok {
			to, key = &marks, mark
		} else if !keepXattr(name) || strings.Contains(name, "=") {
			continue // a PAX key ends at the first "="
		}
		value, err := fgetxattr(fd, name)
		if errors.Is(err, unix.ENODATA) {
			continue
		}
		if err != nil {
			return nil, nil, err
		}
		if *to == nil {
			*to = make(map[string]string)
		}
		(*to)[key] = value
	}
	return keep, marks, nil
}

func fgetxattr(fd int, name string) (string, error) {
	buf := make([]byte, 256)
	n, err := unix.Fgetxattr(fd, name, buf)
	for err == unix.ERANGE {
		buf = make([]byte, 64<<10) // XATTR_SIZE_MAX
		n, err = unix.Fgetxattr(fd, name, buf)
	}
	if err != nil {
		return "", fmt.Errorf("getxattr %s: %w", name, err)
	}
	return string(buf[:n]), nil
}
