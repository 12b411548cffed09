package layers

import (
	"archive/tar"
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"golang.org/x/sys/unix"
)

// WriteTar writes the whole tree as one tar, as a single layer would hold it:
// names in byte order, owners as the container sees them, hard links kept.
// Sockets are left out. OnProgress of o, if not nil, is told how many bytes were
// written since its last call.
func (v *View) WriteTar(ctx context.Context, w io.Writer, o WriteOptions) error {
	out := bufio.NewWriterSize(w, digestBlock)
	t := &treeTar{v: v, tar: tar.NewWriter(out), seen: map[inode]string{}, report: o.OnProgress, buf: make([]byte, digestBlock)}
	if err := v.Walk(ctx, ".", nil, t.add); err != nil {
		return err
	}
	return errors.Join(t.tar.Close(), out.Flush())
}

// treeTar is one running WriteTar.
type treeTar struct {
	v      *View
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
	if err != nil {
		return err
	}
	if info.IsRegular() && info.Nlink > 1 {
		id := inode{info.Dev, info.Ino}
		if first, ok := t.seen[id]; ok {
			e.Hardlink, e.Linkname, e.Xattrs, e.Open = true, first, nil, nil
		} else {
			t.seen[id] = info.Path
		}
	}
	if err := t.tar.WriteHeader(e.header()); err != nil {
		return fmt.Errorf("tar header of /%s: %w", info.Path, err)
	}
	if e.Open == nil || e.Size == 0 {
		return nil
	}
	return t.content(&e)
}

// content copies a file, which must have the size it had.
func (t *treeTar) content(e *Entry) error {
	f, err := e.Open()
	if err != nil {
		return err
	}
	defer f.Close()
	// Neither side may take a short cut around the buffer: one would be
	// allocated for each file.
	n, err := io.CopyBuffer(struct{ io.Writer }{t.tar}, struct{ io.Reader }{f}, t.buf)
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
