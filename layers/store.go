package layers

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"

	digest "github.com/opencontainers/go-digest"
	"go.podman.io/storage"
	graphdriver "go.podman.io/storage/drivers"
	"go.podman.io/storage/types"
)

// ErrNotFound is what a lookup of a layer, image or record that the store does
// not have wraps.
var ErrNotFound = errors.New("not found in the store")

// ErrInUse is wrapped by the error of a removal that other layers, images or
// containers still stand in the way of.
var ErrInUse = errors.New("in use")

// ErrClosed is wrapped by the error of anything begun on a closed Store.
var ErrClosed = errors.New("store is closed")

// Options says which store Open opens. The zero value is the system's own, the
// one podman and buildah use for the same user.
type Options struct {
	// Root holds layers and images; RunRoot what need not survive a
	// reboot. "" = as storage.conf says, rootless included.
	Root, RunRoot string
	// Driver is a storage driver's name. "" = as storage.conf says, else
	// overlay; when overlay cannot mount there, vfs.
	Driver string
	// DriverOptions are as in storage.conf or podman's --storage-opt
	// ("overlay.mountopt=nodev"). They are added to the configured ones.
	DriverOptions []string
}

// Layer is an immutable set of changes on its parent. The zero Layer is the
// empty parent of a first layer (scratch).
type Layer struct {
	ID, Parent string
	// DiffID is the digest of the uncompressed tar.
	DiffID digest.Digest
	// Size is the length of the uncompressed tar in bytes.
	Size int64
}

// Store is an open containers/storage. Its methods may be called concurrently,
// and other processes may use the same store at the same time.
type Store struct {
	store   storage.Store
	driver  graphdriver.Driver
	overlay bool // layers are overlay directories the kernel mounts itself
	mounts  []string

	background sync.WaitGroup // commits

	mu      sync.Mutex
	closed  bool
	cleanup []func() error
}

// Open opens the store, making it when it is not there. The caller closes it.
func Open(ctx context.Context, o Options) (*Store, error) {
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	return nil, errors.ErrUnsupported
}

// storeOptions merges o over the system's configuration.
func storeOptions(o Options) (types.StoreOptions, error) {
	so, err := types.DefaultStoreOptions()
	if err != nil {
		return so, fmt.Errorf("read storage.conf: %w", err)
	}
	return so, nil
}

// Close waits for running commits, drops snapshots that were neither committed
// nor removed, and sweeps what killed processes left behind. It is idempotent.
func (s *Store) Close() error {
	return nil
}

// DriverName returns the storage driver in use, "overlay" or "vfs".
func (s *Store) DriverName() string { return s.store.GraphDriverName() }

// Root returns the directory that holds layers and images.
func (s *Store) Root() string { return s.store.GraphRoot() }

// RunRoot returns the directory for state that need not survive a reboot.
func (s *Store) RunRoot() string { return s.store.RunRoot() }

// Containers returns the underlying store, for containers/image's
// containers-storage transport, which needs it to pull and push.
func (s *Store) Containers() storage.Store { return s.store }

// Dir returns Root()/cooper/name, made when missing with mode 0700: room for
// files of ours beside the store's.
func (s *Store) Dir(name string) (string, error) {
	dir := filepath.Join(s.Root(), "cooper", filepath.FromSlash(name))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	return dir, nil
}

// Layer looks a layer up by its ID, else wraps ErrNotFound. The ID "" is the
// zero Layer.
func (s *Store) Layer(id string) (Layer, error) {
	if id == "" {
		return Layer{}, nil
	}
	l, err := s.store.Layer(id)
	if errors.Is(err, storage.ErrLayerUnknown) || errors.Is(err, fs.ErrNotExist) {
		return Layer{}, fmt.Errorf("layer %s: %w", id, ErrNotFound)
	}
	if err != nil {
		return Layer{}, fmt.Errorf("layer %s: %w", id, err)
	}
	return Layer{ID: l.ID, Parent: l.Parent, DiffID: l.UncompressedDigest, Size: l.UncompressedSize}, nil
}

// Chain returns the layer and all below it, the base first.
func (s *Store) Chain(id string) ([]Layer, error) {
	var chain []Layer
	for id != "" {
		l, err := s.Layer(id)
		if err != nil {
			return nil, err
		}
		chain = append(chain, l)
		id = l.Parent
	}
	slices.Reverse(chain)
	return chain, nil
}

// LayerID returns the ID that a layer with this DiffID has on this parent ("" =
// none): the one containers/image gives it, so that pulled and built layers meet.
func (s *Store) LayerID(parent string, diffID digest.Digest) string {
	if parent == "" {
		return diffID.Encoded()
	}
	return digest.FromString(parent + "+" + diffID.Encoded()).Encoded()
}

// View opens a read-only view of the layer and all below it; "" is an empty
// view. The caller closes it.
func (s *Store) View(id string) (*View, error) {
	return nil, errors.ErrUnsupported
}

// Delete removes a layer. The error wraps ErrInUse when an image, a container
// or another layer stands on it, and ErrNotFound when it is not there.
func (s *Store) Delete(id string) error {
	return errors.ErrUnsupported
}
