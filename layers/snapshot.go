package layers

import (
	"context"
	"errors"
	"os"
	"sync"
)

// Parent is what a Snapshot stands on: a Layer, or a Commit that may still be
// at work. nil is the empty parent.
type Parent interface {
	// stack returns the directories that make up the parent, top first.
	stack(s *Store) ([]dir, error)
	// Wait returns the parent's layer once it is in the store.
	Wait(ctx context.Context) (Layer, error)
}

// dir is one layer directory. Its path may be renamed as long as a commit is
// at work, then file (O_PATH) is set and finds it wherever it lies.
type dir struct {
	path string
	file *os.File
}

// Wait returns the layer itself.
func (l Layer) Wait(context.Context) (Layer, error) { return l, nil }

func (l Layer) stack(s *Store) ([]dir, error) { return nil, errors.ErrUnsupported }

// Rootfs says how to put a snapshot's root file system together. Mounting it
// needs nothing but this, so a runner does it in its own mount namespace.
type Rootfs struct {
	// Lower are the read-only directories, top first. An entry that may be
	// renamed while the snapshot is in use is "/proc/self/fd/N" of this
	// process and LowerFiles has its O_PATH file at the same index; for all
	// others LowerFiles is nil there. The files stay the store's.
	Lower      []string
	LowerFiles []*os.File
	// Upper and Work are overlayfs' upperdir and workdir. Work must be
	// emptied between two mounts (the volatile option insists).
	Upper, Work string
	// Options are the other overlay mount options, as the kernel here
	// accepts them.
	Options []string
	// Dir is set instead of all the above when the driver has no overlay:
	// a plain directory that is the root file system.
	Dir string
}

// Snapshot is a writable directory on top of a parent. It is used by one
// goroutine at a time and ends with Commit or Remove.
type Snapshot struct {
	store *Store
	lower []dir // top first

	mu     sync.Mutex
	stream *stream // the finished tar of upper, when Write made it on the way
}

// Prepare makes a snapshot on parent. Nothing is mounted. The context is only
// for waiting here; the snapshot outlives it.
func (s *Store) Prepare(ctx context.Context, parent Parent) (*Snapshot, error) {
	return nil, errors.ErrUnsupported
}

// Rootfs returns what to mount. Whoever mounts it has unmounted it before
// Commit or Remove.
func (sn *Snapshot) Rootfs() Rootfs { return Rootfs{} }

// Upper returns the directory that holds what was written so far (with vfs: the
// whole tree).
func (sn *Snapshot) Upper() string { return "" }

// View opens a view of the lower layers and what has been written so far. The
// caller closes it.
func (sn *Snapshot) View() (*View, error) { return nil, errors.ErrUnsupported }

// Mount mounts the root file system in this process's mount namespace and
// returns the mount point. Commit and Remove unmount it.
func (sn *Snapshot) Mount() (string, error) { return "", errors.ErrUnsupported }

// Unmount undoes Mount; it is a no-op when nothing is mounted.
func (sn *Snapshot) Unmount() error { return errors.ErrUnsupported }

// Remove drops the snapshot. It is idempotent, and a no-op after Commit.
func (sn *Snapshot) Remove() error { return errors.ErrUnsupported }
