package layers

import (
	"context"
	"fmt"
	"io"
	"os"
	"runtime"
	"sync"

	digest "github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

const (
	// batchNodes and batchSize bound what a worker takes at a time. A file
	// larger than batchSize is streamed in chunks.
	batchNodes = 64
	batchSize  = 512 << 10 // bytes
	chunkSize  = 256 << 10 // bytes
	// batchesAhead bounds, per worker, how far writing may run ahead of the
	// tar's digest, and with it memory.
	batchesAhead = 4
	chunksAhead  = 4
)

// writer is one running Write. Workers take batches of nodes in tar order and
// write them; if the tar is wanted too, one goroutine gets the same content, in
// order, and digests it.
type writer struct {
	plan    *plan
	options WriteOptions
	upper   *os.File
	opaque  string // name of the xattr; "" if the upper directory is no overlay's
	root    Entry  // the root directory when the snapshot was made
	// replaced are the directories that files take the place of.
	replaced []string
	stream   *streamWriter

	uid, gid uint32
	singleID bool

	claims sync.Mutex // held while waiting for digestAll; guards next
	next   int        // in plan.order

	callbacks sync.Mutex // serialises the functions in options
}

// newWriter checks p against the snapshot and makes a stream if nothing is
// written in it yet.
func newWriter(sn *Snapshot, p *plan, o WriteOptions) (*writer, error) {
	w := &writer{plan: p, options: o.withDefaults(), root: sn.root,
		uid: uint32(os.Geteuid()), gid: uint32(os.Getegid()), singleID: SingleID()}
	v, err := sn.View()
	if err != nil {
		return nil, err
	}
	defer v.Close()
	if err := w.check(v); err != nil {
		return nil, err
	}
	p.clamp(sn.limit)
	if err := removeAll(sn.area.upper(), w.replaced); err != nil {
		return nil, err
	}
	if w.upper, err = os.Open(sn.area.upper()); err != nil {
		return nil, err
	}
	if !sn.store.overlay {
		return w, nil
	}
	w.opaque = sn.store.overlayXattr() + "opaque"
	if names, _ := w.upper.Readdirnames(1); len(names) > 0 {
		return w, nil
	}
	if w.stream, err = newStreamWriter(nil); err != nil {
		w.upper.Close()
		return nil, err
	}
	return w, nil
}

// removeAll removes the paths below dir, as far as they are there.
func removeAll(dir string, paths []string) error {
	if len(paths) == 0 {
		return nil
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	for _, p := range paths {
		if err := root.RemoveAll(p); err != nil {
			return err
		}
	}
	return nil
}

func (w *writer) close() {
	w.upper.Close()
	if w.stream != nil {
		w.stream.close()
	}
}

// batch is a run of nodes that one worker writes.
type batch struct {
	nodes []*node
	ready chan struct{} // closed when content can be taken
	// content of the regular files, one after another, with their CRC64s.
	content *[]byte
	crcs    []uint64
	// chunks carries the content of a single large file instead.
	chunks chan *chunk
}

// run writes everything.
func (w *writer) run(ctx context.Context) error {
	for _, n := range w.plan.order {
		n.dir.left.Add(1)
		if n.self != nil {
			n.self.left.Add(1)
		}
	}
	w.plan.root.self.left.Add(1)
	workers := max(runtime.GOMAXPROCS(0), 2)
	g, ctx := errgroup.WithContext(ctx)
	batches := make(chan *batch, workers*batchesAhead)
	g.Go(func() error { return w.digestAll(ctx, batches) })
	var running sync.WaitGroup
	running.Add(workers)
	for range workers {
		g.Go(func() error {
			defer running.Done()
			return w.work(ctx, batches)
		})
	}
	go func() {
		running.Wait()
		close(batches)
	}()
	if err := g.Wait(); err != nil {
		return err
	}
	if err := w.makeLinks(); err != nil {
		return err
	}
	return w.plan.root.self.done(w)
}

// work writes one batch after another.
func (w *writer) work(ctx context.Context, batches chan<- *batch) error {
	var at held
	defer at.release()
	for {
		b, err := w.claim(ctx, batches)
		if b == nil || err != nil {
			return err
		}
		// After an error digestAll is left waiting, until the group's
		// context ends.
		if b.chunks != nil {
			close(b.ready)
			if err := w.writeLarge(ctx, b, &at); err != nil {
				return err
			}
			close(b.chunks)
			continue
		}
		if err := w.writeBatch(b, &at); err != nil {
			return err
		}
		close(b.ready)
	}
}

// claim takes the next nodes and hands them to digestAll, which sees batches in
// the order of the plan; there it waits when writing is too far ahead.
func (w *writer) claim(ctx context.Context, batches chan<- *batch) (*batch, error) {
	w.claims.Lock()
	defer w.claims.Unlock()
	order := w.plan.order
	if w.next == len(order) || ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	start, size := w.next, int64(0)
	for w.next < len(order) && w.next-start < batchNodes {
		if n := order[w.next]; n.entry.IsRegular() {
			if size+n.entry.Size > batchSize && w.next > start {
				break
			}
			size += n.entry.Size
		}
		w.next++
		if size > batchSize {
			break
		}
	}
	b := &batch{nodes: order[start:w.next], ready: make(chan struct{})}
	if size > batchSize {
		b.chunks = make(chan *chunk, chunksAhead)
	}
	select {
	case batches <- b:
		return b, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// held is the directory that a worker has open.
type held struct {
	dir *dirNode
	fd  int
}

func (h *held) release() {
	if h.dir != nil {
		h.dir.release()
		h.dir = nil
	}
}

func (h *held) enter(w *writer, d *dirNode) (err error) {
	if h.dir == d {
		return nil
	}
	fd, err := d.acquire(w)
	if err != nil {
		return err
	}
	h.release()
	h.dir, h.fd = d, fd
	return nil
}

var batchBuffers = sync.Pool{New: func() any { b := make([]byte, 0, batchSize+1); return &b }}

// writeBatch writes small files and everything that has no content.
func (w *writer) writeBatch(b *batch, at *held) error {
	b.content = batchBuffers.Get().(*[]byte)
	*b.content = (*b.content)[:0]
	for _, n := range b.nodes {
		err := w.writeNode(b, n, at)
		if err != nil {
			return fmt.Errorf("write /%s: %w", n.entry.Path, err)
		}
	}
	w.report(int64(len(*b.content)))
	if w.stream == nil {
		batchBuffers.Put(b.content)
	}
	return nil
}

func (w *writer) writeNode(b *batch, n *node, at *held) error {
	if n.self != nil {
		if err := at.enter(w, n.self); err != nil {
			return err
		}
		return n.self.done(w)
	}
	if n.link != nil {
		return nil // when its target is there
	}
	if err := at.enter(w, n.dir); err != nil {
		return err
	}
	var err error
	if n.entry.IsRegular() {
		err = w.writeSmall(b, n, at.fd)
	} else {
		err = w.makeNode(at.fd, n)
	}
	if err != nil {
		return err
	}
	return n.dir.done(w)
}

// writeSmall reads a file into the batch's buffer and writes it from there.
func (w *writer) writeSmall(b *batch, n *node, dir int) error {
	from := len(*b.content)
	if err := readContent(b, n.entry); err != nil {
		return err
	}
	content := (*b.content)[from:]
	fd, err := create(dir, n.name())
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := writeAll(fd, content); err != nil {
		return err
	}
	if err := w.setMetadata(fd, n.entry, w.needsChown(n.dir, n.entry)); err != nil {
		return err
	}
	if w.stream != nil {
		b.crcs = append(b.crcs, crc64ISO(0, content))
	}
	if w.options.Digests != nil && n.index >= 0 {
		w.tell(n, digest.FromBytes(content))
	}
	return nil
}

// readContent appends e's content to the batch's buffer.
func readContent(b *batch, e *Entry) (err error) {
	if e.Size == 0 || e.Open == nil {
		if e.Size != 0 {
			return io.ErrUnexpectedEOF
		}
		return nil
	}
	r, err := e.Open()
	if err != nil {
		return err
	}
	defer r.Close()
	// One byte more is asked for than there should be, so that a file that
	// grew is noticed, and one read shows the end.
	from := len(*b.content)
	space := (*b.content)[from : from+int(e.Size)+1]
	for got := 0; ; {
		n, err := r.Read(space[got:])
		got += n
		if got > int(e.Size) || (err == io.EOF && got < int(e.Size)) {
			return errUnstable
		}
		if got == int(e.Size) && (err == nil || err == io.EOF) {
			*b.content = (*b.content)[:from+got]
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// errUnstable says that a source file does not have the size it had.
var errUnstable = fmt.Errorf("the file changed while it was read: %w", unix.EAGAIN)

// tell passes on the digest of a file's content.
func (w *writer) tell(n *node, d digest.Digest) {
	w.callbacks.Lock()
	defer w.callbacks.Unlock()
	w.options.Digests(n.index, d)
}

func (w *writer) report(bytes int64) {
	if w.options.OnProgress == nil || bytes == 0 {
		return
	}
	w.callbacks.Lock()
	defer w.callbacks.Unlock()
	w.options.OnProgress(bytes)
}

// makeLinks makes the hard links, whose targets are all there by now.
func (w *writer) makeLinks() error {
	for _, n := range w.plan.links {
		if err := w.makeLink(n); err != nil {
			return fmt.Errorf("write /%s: %w", n.entry.Path, err)
		}
		if err := n.dir.done(w); err != nil {
			return err
		}
	}
	return nil
}

func (w *writer) makeLink(n *node) error {
	from, err := n.link.dir.acquire(w)
	if err != nil {
		return err
	}
	defer n.link.dir.release()
	to, err := n.dir.acquire(w)
	if err != nil {
		return err
	}
	defer n.dir.release()
	err = unix.Linkat(from, n.link.name(), to, n.name(), 0)
	if err == unix.EEXIST {
		if err = unix.Unlinkat(to, n.name(), 0); err == nil {
			err = unix.Linkat(from, n.link.name(), to, n.name(), 0)
		}
	}
	return err
}
