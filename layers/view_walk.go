package layers

import (
	"context"
	"io/fs"
	"runtime"
	"slices"
	"sync"
)

// maxAhead is how many files Walk may have read before fn sees them.
const maxAhead = 64 << 10

// walk is one running Walk: its own goroutine visits the tree in order, and
// readers list the directories that will come next. The queue is a stack, so
// that the readers work just ahead of the visitor.
type walk struct {
	v    *View
	skip func(path string, isDir bool) bool
	fn   func(Info) error

	wg    sync.WaitGroup
	mu    sync.Mutex
	wake  sync.Cond  // for readers: queue, ahead or ended changed
	queue []*walkDir // next on top
	ahead int        // files listed by readers and not yet visited
	ended bool
}

// walkDir is a directory that is to be listed, by a reader or by the visitor,
// whoever claims it first.
type walkDir struct {
	path    string
	layers  []int
	claimed bool // guarded by walk.mu
	listing listing
	err     error
	done    chan struct{} // closed when listing and err are there; nil until a reader claims it
}

func newWalk(v *View, skip func(path string, isDir bool) bool, fn func(Info) error) *walk {
	w := &walk{v: v, skip: skip, fn: fn}
	w.wake.L = &w.mu
	return w
}

// run visits root. Readers start once there is something to read ahead.
func (w *walk) run(ctx context.Context, root Info) error {
	if err := w.fn(root); err != nil || !root.IsDir() {
		return err
	}
	for range max(runtime.GOMAXPROCS(0), 2) {
		w.wg.Go(w.reader)
	}
	return w.visit(ctx, &walkDir{path: root.Path})
}

// stop ends the readers and waits for them.
func (w *walk) stop() {
	w.mu.Lock()
	w.ended = true
	w.mu.Unlock()
	w.wake.Broadcast()
	w.wg.Wait()
}

// reader lists queued directories until the walk ends.
func (w *walk) reader() {
	for {
		d := w.next()
		if d == nil {
			return
		}
		d.listing, d.err = w.v.list(d.path, d.layers)
		w.mu.Lock()
		w.ahead += len(d.listing.infos)
		w.mu.Unlock()
		close(d.done)
	}
}

// next waits for a directory that nobody has claimed; nil ends the reader.
func (w *walk) next() *walkDir {
	w.mu.Lock()
	defer w.mu.Unlock()
	for {
		for len(w.queue) == 0 || w.ahead > maxAhead {
			if w.ended {
				return nil
			}
			w.wake.Wait()
		}
		if w.ended {
			return nil
		}
		last := len(w.queue) - 1
		d := w.queue[last]
		w.queue = w.queue[:last]
		if !d.claimed {
			d.claimed, d.done = true, make(chan struct{})
			return d
		}
	}
}

// read returns the listing of d, made by a reader or here and now.
func (w *walk) read(d *walkDir) (listing, error) {
	w.mu.Lock()
	mine := !d.claimed
	d.claimed = true
	w.mu.Unlock()
	if mine {
		return w.v.list(d.path, d.layers)
	}
	<-d.done
	w.mu.Lock()
	w.ahead -= len(d.listing.infos)
	w.mu.Unlock()
	w.wake.Broadcast()
	return d.listing, d.err
}

// visit calls fn for the content of d, in order.
func (w *walk) visit(ctx context.Context, d *walkDir) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	l, err := w.read(d)
	if w.v.gone(err) {
		return nil
	}
	if err != nil {
		return &fs.PathError{Op: "readdir", Path: d.path, Err: err}
	}
	dirs := w.plan(l)
	next := 0
	for i := range l.infos {
		info := &l.infos[i]
		if info.Path == "" {
			continue // skipped
		}
		var sub *walkDir
		if info.IsDir() {
			sub = dirs[next]
			next++
		}
		err := w.fn(*info)
		if sub != nil && err == fs.SkipDir {
			w.forget(sub)
			continue
		}
		if sub != nil && err == nil {
			err = w.visit(ctx, sub)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// plan drops what skip leaves out, by clearing its Path, and queues the
// directories that remain; it returns them in order.
func (w *walk) plan(l listing) []*walkDir {
	var dirs []*walkDir
	for i := range l.infos {
		info := &l.infos[i]
		if w.skip != nil && w.skip(info.Path, info.IsDir()) {
			info.Path = ""
			continue
		}
		if info.IsDir() {
			d := &walkDir{path: info.Path}
			if l.layers != nil {
				d.layers = l.layers[i]
			}
			dirs = append(dirs, d)
		}
	}
	if len(dirs) == 0 {
		return nil
	}
	w.mu.Lock()
	for _, d := range slices.Backward(dirs) {
		w.queue = append(w.queue, d)
	}
	w.mu.Unlock()
	w.wake.Broadcast()
	return dirs
}

// forget keeps a directory that fn refused from being listed or counted.
func (w *walk) forget(d *walkDir) {
	w.mu.Lock()
	mine := !d.claimed
	d.claimed = true
	w.mu.Unlock()
	if !mine {
		w.read(d)
	}
}
