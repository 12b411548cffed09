package layers

import (
	"context"
	"errors"
)

// Commit is a snapshot on its way into the store. It can be the Parent of the
// next snapshot at once. Its methods may be called concurrently.
type Commit struct {
	dirs  []dir
	done  chan struct{}
	layer Layer
	err   error
}

// Commit begins to turn what the snapshot holds into a layer and returns at
// once: digest and rename go on in the background, in order after the parent's
// commit. An unchanged snapshot gives the parent's layer. The snapshot must not
// be written to or mounted any more. Cancelling ctx makes Wait return its cause
// and drops the snapshot.
func (sn *Snapshot) Commit(ctx context.Context) *Commit {
	c := &Commit{done: make(chan struct{}), err: errors.ErrUnsupported}
	close(c.done)
	return c
}

// Wait waits until the layer is in the store. The error is that of the first
// commit below that failed. Any number of callers may wait.
func (c *Commit) Wait(ctx context.Context) (Layer, error) {
	select {
	case <-c.done:
		return c.layer, c.err
	case <-ctx.Done():
		return Layer{}, context.Cause(ctx)
	}
}

// View opens a view of the layer and those below, before or after it reached
// the store. The caller closes it.
func (c *Commit) View() (*View, error) { return nil, errors.ErrUnsupported }

func (c *Commit) stack(s *Store) ([]dir, error) { return c.dirs, nil }
