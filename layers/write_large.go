package layers

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"sync"
	"sync/atomic"

	digest "github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"
)

// chunk is a piece of a large file, shared by those who digest it.
type chunk struct {
	buf  []byte
	n    int
	refs atomic.Int32
}

var chunks = sync.Pool{New: func() any { return &chunk{buf: make([]byte, chunkSize)} }}

func (c *chunk) data() []byte { return c.buf[:c.n] }

func (c *chunk) release() {
	if c.refs.Add(-1) == 0 {
		chunks.Put(c)
	}
}

// writeLarge streams the only file of b.
func (w *writer) writeLarge(ctx context.Context, b *batch, at *held) (err error) {
	n := b.nodes[0]
	defer func() {
		if err != nil {
			err = fmt.Errorf("write /%s: %w", n.entry.Path, err)
		}
	}()
	if err := at.enter(w, n.dir); err != nil {
		return err
	}
	if n.entry.Open == nil {
		return io.ErrUnexpectedEOF
	}
	r, err := n.entry.Open()
	if err != nil {
		return err
	}
	defer r.Close()
	fd, err := create(at.fd, n.name())
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := w.copyLarge(ctx, b, fd, r); err != nil {
		return err
	}
	if err := w.setMetadata(fd, n.entry, w.needsChown(n.dir, n.entry)); err != nil {
		return err
	}
	return n.dir.done(w)
}

// copyLarge copies r to fd, and each chunk to the tar and to the file's own
// digest, each in its own goroutine.
func (w *writer) copyLarge(ctx context.Context, b *batch, fd int, r io.Reader) error {
	n := b.nodes[0]
	var own chan *chunk
	var digesting sync.WaitGroup
	if w.options.Digests != nil && n.index >= 0 {
		own = make(chan *chunk, chunksAhead)
		digesting.Go(func() {
			sum := digest.SHA256.Digester()
			for c := range own {
				sum.Hash().Write(c.data())
				c.release()
			}
			if ctx.Err() == nil {
				w.tell(n, sum.Digest())
			}
		})
	}
	err := w.copyChunks(ctx, b, own, fd, r)
	if own != nil {
		close(own)
		digesting.Wait()
	}
	return err
}

func (w *writer) copyChunks(ctx context.Context, b *batch, own chan<- *chunk, fd int, r io.Reader) error {
	size := b.nodes[0].entry.Size
	sparse := isSparse(r)
	var offset int64
	for offset < size {
		c := chunks.Get().(*chunk)
		c.refs.Store(1)
		n, err := io.ReadFull(r, c.buf[:min(int64(chunkSize), size-offset)])
		c.n = n
		if err == nil {
			err = writeChunk(fd, c.data(), offset, sparse)
		} else if err == io.EOF || err == io.ErrUnexpectedEOF {
			err = errUnstable
		}
		if err == nil {
			err = w.pass(ctx, c, b.chunks, own)
		}
		c.release()
		if err != nil {
			return err
		}
		offset += int64(n)
		w.report(int64(n))
	}
	var more [1]byte
	if n, err := r.Read(more[:]); n > 0 {
		return errUnstable
	} else if err != nil && err != io.EOF {
		return err
	}
	if sparse {
		return unix.Ftruncate(fd, size)
	}
	return nil
}

// pass hands c to those who digest it.
func (w *writer) pass(ctx context.Context, c *chunk, tar, own chan<- *chunk) error {
	if w.stream == nil {
		tar = nil
	}
	for _, to := range []chan<- *chunk{tar, own} {
		if to == nil {
			continue
		}
		c.refs.Add(1)
		select {
		case to <- c:
		case <-ctx.Done():
			c.release()
			return context.Cause(ctx)
		}
	}
	return nil
}

// isSparse reports whether r is a file with holes.
func isSparse(r io.Reader) bool {
	f, ok := r.(interface{ Fd() uintptr })
	if !ok {
		return false
	}
	var st unix.Stat_t
	return unix.Fstat(int(f.Fd()), &st) == nil && st.Blocks*512 < st.Size
}

// zeros is what a hole of a sparse file reads as.
var zeros [64 << 10]byte

// writeChunk writes p at offset, leaving holes for zeros if sparse.
func writeChunk(fd int, p []byte, offset int64, sparse bool) error {
	if !sparse {
		return writeAll(fd, p)
	}
	for len(p) > 0 {
		n := min(len(p), len(zeros))
		if !bytes.Equal(p[:n], zeros[:n]) {
			for done := 0; done < n; {
				m, err := unix.Pwrite(fd, p[done:n], offset+int64(done))
				if err != nil && err != unix.EINTR {
					return err
				}
				done += max(m, 0)
			}
		}
		p, offset = p[n:], offset+int64(n)
	}
	return nil
}
