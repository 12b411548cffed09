package layers

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	digest "github.com/opencontainers/go-digest"
	"go.podman.io/storage"
	graphdriver "go.podman.io/storage/drivers"
	"go.podman.io/storage/types"
	"golang.org/x/sys/unix"
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
//
// Beside the storage library's files it keeps its own below Root()/cooper:
//
//	commit.lock   held while a layer is put in place
//	areas/        snapshots being written, when the driver is not overlay
type Store struct {
	store   storage.Store
	driver  graphdriver.Driver
	overlay bool // layers are overlay directories the kernel mounts itself

	mountOnce sync.Once
	mounts    []string

	background sync.WaitGroup // commits

	mu     sync.Mutex
	closed bool
	live   map[*Snapshot]struct{} // neither removed nor in the store yet
	last   []func() error         // what Close does in the end
}

// begin registers a snapshot, unless the store is closed.
func (s *Store) begin(sn *Snapshot) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return ErrClosed
	}
	s.live[sn] = struct{}{}
	return nil
}

func (s *Store) end(sn *Snapshot) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.live, sn)
}

// atClose has f called when the store is closed.
func (s *Store) atClose(f func() error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.last = append(s.last, f)
}

// keep closes f when the store is closed.
func (s *Store) keep(f *os.File) { s.atClose(f.Close) }

// Open opens the store, making it when it is not there. The caller closes it.
func Open(ctx context.Context, o Options) (*Store, error) {
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	so, err := storeOptions(o)
	if err != nil {
		return nil, err
	}
	// We never shift ids. To find out whether it could, the library forks this
	// process without executing anything; should we be killed just then, the
	// fork lives on and holds our locks for ever.
	os.Setenv("_CONTAINERS_OVERLAY_DISABLE_IDMAP", "yes")
	s, err := open(so)
	if err == nil {
		return s, nil
	}
	// What asks for a driver gets that driver or an error. Otherwise a place
	// where overlay cannot mount (another overlay, a sandbox) has vfs.
	if o.Driver != "" || os.Getenv("STORAGE_DRIVER") != "" || so.GraphDriverName != "overlay" || !unsupported(err) {
		return nil, openError(so, err)
	}
	s, vfsErr := open(vfsOptions(so))
	if vfsErr != nil {
		return nil, openError(so, errors.Join(err, vfsErr))
	}
	return s, nil
}

// openError says what to do about a store that cannot be written.
func openError(so types.StoreOptions, err error) error {
	if errors.Is(err, unix.EROFS) || errors.Is(err, unix.EACCES) {
		return fmt.Errorf("open store %s: %w: choose places that can be written with --root and --runroot (now %s), or mount them there "+
			"(Kubernetes: an emptyDir)", so.GraphRoot, err, so.RunRoot)
	}
	return fmt.Errorf("open store %s: %w", so.GraphRoot, err)
}

// errMountProgram says that the library would use fuse-overlayfs or the like,
// because the kernel refuses or somebody configured it: such directories are not
// what the kernel's overlayfs would read.
var errMountProgram = errors.New("the kernel cannot mount overlay there, or the store belongs to a mount program such as fuse-overlayfs: choose another --root, or --storage-driver vfs")

// unsupported reports whether err says that a driver cannot work in this place.
func unsupported(err error) bool {
	return errors.Is(err, graphdriver.ErrNotSupported) || errors.Is(err, graphdriver.ErrPrerequisites) ||
		errors.Is(err, graphdriver.ErrIncompatibleFS) || errors.Is(err, errMountProgram) ||
		errors.Is(err, unix.EPERM) || errors.Is(err, unix.EINVAL) || remembered(err)
}

// remembered reports whether err is what the library has noted below RunRoot of an
// earlier attempt: it keeps the text alone.
func remembered(err error) bool {
	text := err.Error()
	return strings.HasSuffix(text, graphdriver.ErrNotSupported.Error()) || strings.HasSuffix(text, graphdriver.ErrIncompatibleFS.Error())
}

// storeOptions merges o over the system's configuration.
func storeOptions(o Options) (types.StoreOptions, error) {
	so, err := types.DefaultStoreOptions()
	if err != nil {
		return so, fmt.Errorf("read storage.conf: %w", err)
	}
	so.GraphDriverOptions = slices.Clone(so.GraphDriverOptions)
	for _, path := range []struct {
		to   *string
		from string
	}{{&so.GraphRoot, o.Root}, {&so.RunRoot, o.RunRoot}} {
		if path.from == "" {
			continue
		}
		if *path.to, err = filepath.Abs(path.from); err != nil {
			return so, err
		}
	}
	if o.Driver != "" {
		so.GraphDriverName = o.Driver
	}
	if so.GraphDriverName == "" || so.GraphDriverName == "overlay2" {
		so.GraphDriverName = "overlay"
	}
	so.GraphDriverOptions = append(so.GraphDriverOptions, o.DriverOptions...)
	// The library would bind mount the store's directory on itself, to keep
	// its own mounts private, and leave that behind when killed. It mounts
	// nothing for us.
	so.GraphDriverOptions = append(so.GraphDriverOptions, "overlay.skip_mount_home=true")
	if SingleID() {
		so.GraphDriverOptions = append(so.GraphDriverOptions, so.GraphDriverName+".ignore_chown_errors=true")
	}
	return so, nil
}

// vfsOptions changes options meant for overlay into ones for vfs, which refuses
// those it does not know.
func vfsOptions(so types.StoreOptions) types.StoreOptions {
	so.GraphDriverName = "vfs"
	so.GraphDriverOptions = slices.DeleteFunc(slices.Clone(so.GraphDriverOptions), func(option string) bool {
		key, _, _ := strings.Cut(option, "=")
		return !strings.Contains(key, ".") && key != "imagestore"
	})
	if SingleID() {
		so.GraphDriverOptions = append(so.GraphDriverOptions, "vfs.ignore_chown_errors=true")
	}
	return so
}

func open(so types.StoreOptions) (*Store, error) {
	store, err := storage.GetStore(so)
	if err != nil {
		return nil, err
	}
	driver, err := store.GraphDriver()
	if err != nil {
		return nil, err
	}
	s := &Store{store: store, driver: driver, overlay: driver.String() == "overlay", live: make(map[*Snapshot]struct{})}
	if s.overlay {
		flag, err := os.ReadFile(filepath.Join(store.GraphRoot(), "overlay", ".has-mount-program"))
		if err == nil && string(flag) == "true" {
			return nil, errMountProgram
		}
	}
	return s, nil
}

// Close waits for running commits, drops snapshots that were neither committed
// nor removed, and sweeps what killed processes left behind. It is idempotent.
func (s *Store) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	s.mu.Unlock()
	s.background.Wait()
	var errs []error
	for _, sn := range slices.Collect(maps.Keys(s.live)) {
		errs = append(errs, sn.Remove())
	}
	for _, f := range s.last {
		errs = append(errs, f())
	}
	errs = append(errs, s.sweep())
	return errors.Join(errs...)
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

// LayerOf returns a layer that was made of the blob, compressed or not; there may
// be others on other parents.
func (s *Store) LayerOf(blob digest.Digest) (Layer, bool) {
	for _, by := range []func(digest.Digest) ([]storage.Layer, error){s.store.LayersByUncompressedDigest, s.store.LayersByCompressedDigest} {
		found, err := by(blob)
		if err != nil {
			continue
		}
		for _, l := range found {
			if l.UncompressedDigest != "" {
				return Layer{ID: l.ID, Parent: l.Parent, DiffID: l.UncompressedDigest, Size: l.UncompressedSize}, true
			}
		}
	}
	return Layer{}, false
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
	dirs, err := s.layerDirs(id)
	if err != nil {
		return nil, err
	}
	return s.view(dirs)
}
