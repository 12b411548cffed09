package layers

import (
	"archive/tar"
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"

	"golang.org/x/sys/unix"
)

// WriteTar writes the whole tree as one tar, as a single layer would hold it:
// names in byte order, owners as the container sees them, hard links kept.
// Sockets are left out. OnProgress of o, if not nil, is told how many bytes were
// written since its last call.
func (v *View) WriteTar(ctx context.Context, w io.Writer, o WriteOptions) error {
	return WriteTars(ctx, w, o, Tree{View: v})
}

// Tree is a View's tree as a part of a tar.
type Tree struct {
	View *View
	// Dir is the directory of the tar that the tree lies in; "" is the top.
	Dir string
}

// WriteTars is WriteTar for several trees, one after the other. Each Dir gets an
// entry with mode 0755 and o's DirTime.
func WriteTars(ctx context.Context, w io.Writer, o WriteOptions, trees ...Tree) error {
	out := bufio.NewWriterSize(w, digestBlock)
	t := &treeTar{tar: tar.NewWriter(out), report: o.OnProgress, buf: make([]byte, digestBlock)}
	for _, tree := range trees {
		t.v, t.dir, t.seen = tree.View, tree.Dir, map[inode]string{}
		if t.dir != "" {
			e := Entry{Path: t.dir, Mode: unix.S_IFDIR | 0o755, ModTime: o.withDefaults().DirTime}
			if err := t.tar.WriteHeader(e.header()); err != nil {
				return err
			}
		}
		if err := tree.View.Walk(ctx, ".", nil, t.add); err != nil {
			return err
		}
	}
	return errors.Join(t.tar.Close(), out.Flush())
}

// treeTar is one running WriteTars.
type treeTar struct {
	v      *View
	dir    string
	tar    *tar.Writer
	seen   map[inode]string // first names of files with several
	report func(int64)
	buf    []byte
}

func (t *treeTar) add(info Info) error {
	if info.Path == "." || info.Type() == unix.S_IFSOCK {
		return nil
	}
	e, err := t.v.Entry(info)
	if t.v.gone(err) && info.IsDir() {
		return fs.SkipDir
	}
	if t.v.gone(err) {
		return nil
	}
	if err != nil {
		return err
	}
	e.Path = path.Join(t.dir, e.Path)
	id := inode{info.Dev, info.Ino}
	linked := info.IsRegular() && info.Nlink > 1
	if first, ok := t.seen[id]; ok && linked {
		e.Hardlink, e.Linkname, e.Xattrs, e.Open = true, first, nil, nil
	}
	var content io.ReadCloser
	if e.Open != nil && e.Size > 0 {
		if content, err = e.Open(); err != nil {
			if t.v.gone(err) {
				return nil
			}
			return err
		}
		defer content.Close()
	}
	if linked && !e.Hardlink {
		t.seen[id] = e.Path
	}
	if err := t.tar.WriteHeader(e.header()); err != nil {
		return fmt.Errorf("tar header of /%s: %w", info.Path, err)
	}
	if content == nil {
		return nil
	}
	return t.content(&e, content)
}

// content copies a file, which must have the size it had unless the tree is live.
func (t *treeTar) content(e *Entry, f io.Reader) error {
	if t.v.live {
		f = io.LimitReader(f, e.Size)
	}
	// Neither side may take a short cut around the buffer: one would be
	// allocated for each file.
	n, err := io.CopyBuffer(struct{ io.Writer }{t.tar}, struct{ io.Reader }{f}, t.buf)
	if err == nil && n < e.Size && t.v.live {
		clear(t.buf)
		n, err = e.Size, t.fill(e.Size-n)
	}
	if errors.Is(err, tar.ErrWriteTooLong) || err == nil && n < e.Size {
		err = errUnstable
	}
	if err != nil {
		return &fs.PathError{Op: "read", Path: e.Path, Err: err}
	}
	if t.report != nil {
		t.report(n)
	}
	return nil
}

// fill writes n zeros.
func (t *treeTar) fill(n int64) error {
	for n > 0 {
		m, err := t.tar.Write(t.buf[:min(n, int64(len(t.buf)))])
		if err != nil {
			return err
		}
		n -= int64(m)
	}
	return nil
}
