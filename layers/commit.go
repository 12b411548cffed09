package layers

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Commit is a snapshot on its way into the store. It can be the Parent of the
// next snapshot at once. Its methods may be called concurrently.
type Commit struct {
	store *Store
	dirs  []dir // top first; valid before and after the rename
	done  chan struct{}
	// layer and err are set when done is closed.
	layer Layer
	err   error
}

// Commit begins to turn what the snapshot holds into a layer and returns at
// once: digest and rename go on in the background, in order after the parent's
// commit. An unchanged snapshot gives a layer too, the empty tar, as BuildKit
// has it for a step that changes nothing. The snapshot must not be written to or
// mounted any more. Cancelling ctx makes Wait return its cause and drops the
// snapshot.
func (sn *Snapshot) Commit(ctx context.Context) *Commit {
	c := &Commit{store: sn.store, done: make(chan struct{})}
	sn.mu.Lock()
	done := sn.done
	sn.done = true
	sn.mu.Unlock()
	if done {
		return c.finish(Layer{}, errors.New("commit: the snapshot was committed or removed before"))
	}
	if err := sn.seal(c); err != nil {
		err = errors.Join(fmt.Errorf("commit: %w", err), sn.area.remove())
		sn.store.end(sn)
		return c.finish(Layer{}, err)
	}
	sn.store.background.Go(func() {
		defer sn.store.end(sn)
		c.finish(sn.apply(ctx))
	})
	return c
}

func (c *Commit) finish(layer Layer, err error) *Commit {
	c.layer, c.err = layer, err
	close(c.done)
	return c
}

// seal unmounts the snapshot and takes hold of its directories.
func (sn *Snapshot) seal(c *Commit) error {
	if err := sn.Unmount(); err != nil {
		return err
	}
	if !sn.store.overlay {
		return nil
	}
	upper := dir{path: sn.area.upper()}
	var err error
	if upper.file, err = upper.open(); err != nil {
		return err
	}
	sn.store.keep(upper.file)
	c.dirs = append([]dir{upper}, sn.lower...)
	return nil
}

// apply makes the snapshot's area a layer.
func (sn *Snapshot) apply(ctx context.Context) (layer Layer, err error) {
	keep := false
	defer func() {
		if keep {
			return
		}
		if removeErr := sn.area.remove(); err == nil {
			err = removeErr
		}
	}()
	st, err := sn.finishedStream(ctx)
	if err != nil {
		return Layer{}, fmt.Errorf("commit: %w", err)
	}
	defer func() { st.close() }()
	parent, err := sn.parent.Wait(ctx)
	if err == nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		return Layer{}, err
	}
	layer = Layer{ID: sn.store.LayerID(parent.ID, st.digest), Parent: parent.ID, DiffID: st.digest, Size: st.size}
	unlock, err := sn.store.lockCommits()
	if err != nil {
		return Layer{}, fmt.Errorf("commit layer %s: %w", layer.ID, err)
	}
	defer unlock()
	existing, err := sn.store.Layer(layer.ID)
	if err == nil {
		// Somebody made it before. Snapshots above may be standing on
		// this area, so it goes when the store is closed.
		keep = sn.store.overlay
		if keep {
			sn.store.atClose(sn.area.remove)
		}
		return existing, nil
	}
	if !errors.Is(err, ErrNotFound) {
		return Layer{}, fmt.Errorf("commit: %w", err)
	}
	if err := sn.area.commit(layer.ID, parent.ID, st); err != nil {
		return Layer{}, fmt.Errorf("commit layer %s: %w", layer.ID, err)
	}
	return layer, nil
}

// finishedStream returns the tar that Write made, or makes it from the area.
func (sn *Snapshot) finishedStream(ctx context.Context) (*stream, error) {
	sn.mu.Lock()
	st := sn.stream
	sn.stream = nil
	sn.mu.Unlock()
	if st != nil {
		return st, nil
	}
	return sn.area.stream(ctx, sn)
}

// lockCommits keeps other processes, and other commits here, from making the
// same layer at the same time: the storage library would replace the first
// one's directory under its users.
func (s *Store) lockCommits() (unlock func(), err error) {
	dir, err := s.Dir("")
	if err != nil {
		return nil, err
	}
	fd, err := unix.Open(filepath.Join(dir, "commit.lock"), unix.O_RDWR|unix.O_CREAT|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock: %w", err)
	}
	for {
		err = unix.Flock(fd, unix.LOCK_EX)
		if err == nil {
			return func() { unix.Close(fd) }, nil
		}
		if err != unix.EINTR {
			unix.Close(fd)
			return nil, fmt.Errorf("lock: %w", err)
		}
	}
}

// Wait waits until the layer is in the store. The error is that of the first
// commit below that failed. Any number of callers may wait.
func (c *Commit) Wait(ctx context.Context) (Layer, error) {
	select {
	case <-c.done:
		return c.layer, c.err
	default:
	}
	select {
	case <-c.done:
		return c.layer, c.err
	case <-ctx.Done():
		return Layer{}, context.Cause(ctx)
	}
}

// View opens a view of the layer and those below, before or after it reached
// the store. The caller closes it.
func (c *Commit) View() (*View, error) {
	dirs, err := c.stack(c.store)
	if err != nil {
		return nil, err
	}
	return c.store.view(dirs)
}

func (c *Commit) stack(s *Store) ([]dir, error) {
	if !s.overlay {
		<-c.done
	}
	select {
	case <-c.done:
		if c.err != nil {
			return nil, c.err
		}
		return s.layerDirs(c.layer.ID)
	default:
		return c.dirs, nil
	}
}
