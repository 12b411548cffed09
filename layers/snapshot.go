package layers

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Parent is what a Snapshot stands on: a Layer, or a Commit that may still be
// at work. nil is the empty parent.
type Parent interface {
	// Wait returns the parent's layer once it is in the store.
	Wait(ctx context.Context) (Layer, error)
	// stack returns the directories that make up the parent, top first.
	stack(s *Store) ([]dir, error)
}

// dir is one layer directory. Its path may be renamed as long as a commit is
// at work, then file (O_PATH) is set and finds it wherever it lies.
type dir struct {
	path string
	file *os.File
}

// open returns an O_PATH file of the directory, which the caller closes.
func (d dir) open() (*os.File, error) {
	path := d.path
	if d.file != nil {
		path = procPath(d.file)
	}
	return os.OpenFile(path, unix.O_PATH|unix.O_DIRECTORY, 0)
}

// procPath returns a path of an open file that survives a rename.
func procPath(f *os.File) string { return fmt.Sprintf("/proc/self/fd/%d", f.Fd()) }

func openDirs(dirs []dir) ([]*os.File, error) {
	files := make([]*os.File, 0, len(dirs))
	for _, d := range dirs {
		f, err := d.open()
		if err != nil {
			closeFiles(files)
			return nil, fmt.Errorf("open layer directory: %w", err)
		}
		files = append(files, f)
	}
	return files, nil
}

func closeFiles(files []*os.File) {
	for _, f := range files {
		f.Close()
	}
}

// Wait returns the layer itself.
func (l Layer) Wait(context.Context) (Layer, error) { return l, nil }

func (l Layer) stack(s *Store) ([]dir, error) { return s.layerDirs(l.ID) }

// Rootfs says how to put a snapshot's root file system together. Mounting it
// needs nothing but this, so a runner does it in its own mount namespace.
type Rootfs struct {
	// Lower are the read-only directories, top first. An entry that may be
	// renamed while the snapshot is in use is "/proc/self/fd/N" of this
	// process and LowerFiles has its O_PATH file at the same index; for all
	// others LowerFiles is nil there. The files stay the store's.
	Lower      []string
	LowerFiles []*os.File `json:"-"`
	// Data are directories below Lower of which nothing shows but the content of
	// files that a lower directory refers to: see Store.ShiftLayer.
	Data []string `json:",omitempty"`
	// MapLower: Lower is to be mounted with the owners that files have in the
	// container's user namespace.
	MapLower bool `json:",omitempty"`
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

// area is the directory a snapshot is written in. It lies on the store's own
// file system and is locked, so that nobody sweeps it while it is in use.
type area interface {
	// upper is where changes are written.
	upper() string
	rootfs(lower []dir) Rootfs
	// stream makes the tar of what changed.
	stream(ctx context.Context, sn *Snapshot) (*stream, error)
	// extract unpacks a foreign tar into the area, safely. root reports
	// whether the tar described the root directory.
	extract(r io.Reader) (_ *stream, root bool, err error)
	// commit makes the area the layer with this id. After an error the area
	// is still to be removed.
	commit(id, parent string, st *stream) error
	// remove drops whatever of the area is not a layer. It is idempotent.
	remove() error
}

// Snapshot is a writable directory on top of a parent. It is used by one
// goroutine at a time and ends with Commit or Remove.
type Snapshot struct {
	store    *Store
	parent   Parent
	lower    []dir // top first
	area     area
	root     Entry     // the root directory as it was made
	detached bool      // see Detach
	limit    time.Time // of modification times; zero = none, see Clamp

	mu     sync.Mutex
	stream *stream // the finished tar of upper, when Write made it on the way
	mount  string  // mount point of Mount
	done   bool    // committed or removed
}

// Prepare makes a snapshot on parent. Nothing is mounted. The context is only
// for waiting here; the snapshot outlives it.
func (s *Store) Prepare(ctx context.Context, parent Parent) (*Snapshot, error) {
	return s.prepare(ctx, parent, true)
}

// prepare makes a snapshot; without tree, one to extract a tar into, which does
// not need the parent's files.
func (s *Store) prepare(ctx context.Context, parent Parent, tree bool) (*Snapshot, error) {
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	if parent == nil {
		parent = Layer{}
	}
	sn := &Snapshot{store: s, parent: parent}
	if !s.overlay {
		// The parent is copied, so it has to be there.
		layer, err := parent.Wait(ctx)
		if err != nil {
			return nil, err
		}
		sn.parent = layer
	}
	var err error
	if sn.lower, err = sn.parent.stack(s); err != nil {
		return nil, fmt.Errorf("prepare snapshot: %w", err)
	}
	if err := s.begin(sn); err != nil {
		return nil, err
	}
	if s.overlay {
		sn.area, err = s.newOverlayArea()
	} else {
		sn.area, err = s.newPlainArea(sn.lower, tree)
	}
	if err == nil {
		err = sn.copyRoot()
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("prepare snapshot: %w", err), sn.Remove())
	}
	return sn, nil
}

// copyRoot gives the root directory the parent's mode, owner and attributes: in
// an overlay the topmost layer's are what counts.
func (sn *Snapshot) copyRoot() error {
	// What the storage library gives the root of a tar that says nothing of it.
	sn.root = Entry{Path: ".", Mode: unix.S_IFDIR | 0o555}
	if len(sn.lower) > 0 {
		var err error
		if sn.root, err = sn.store.describeRoot(sn.lower[0]); err != nil {
			return err
		}
	}
	return sn.root.giveTo(sn.area.upper())
}

// giveTo gives a new directory of ours the mode, owner and attributes of e.
func (e Entry) giveTo(path string) error {
	for name, value := range e.Xattrs {
		if err := unix.Setxattr(path, name, []byte(value), 0); err != nil {
			return fmt.Errorf("setxattr %s: %w", name, err)
		}
	}
	if e.UID != 0 || e.GID != 0 {
		if err := os.Chown(path, int(e.UID), int(e.GID)); err != nil {
			return err
		}
	}
	return unix.Chmod(path, e.Mode&0o7777)
}

// describeRoot describes the root directory of a layer.
func (s *Store) describeRoot(d dir) (Entry, error) {
	path := d.path
	if d.file != nil {
		path = procPath(d.file)
	}
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return Entry{}, fmt.Errorf("open %s: %w", d.path, err)
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return Entry{}, err
	}
	e := Entry{Path: "."}
	e.set(&st)
	c := changes{xattr: s.overlayXattr()}
	e.Xattrs, _, err = c.xattrs(fd)
	return e, err
}

// Rootfs returns what to mount. Whoever mounts it has unmounted it before
// Commit or Remove.
func (sn *Snapshot) Rootfs() Rootfs {
	sn.dropStream()
	return sn.area.rootfs(sn.lower)
}

// dropStream forgets a tar that Write made: others may write now.
func (sn *Snapshot) dropStream() {
	sn.mu.Lock()
	defer sn.mu.Unlock()
	sn.stream.close()
	sn.stream = nil
}

// Upper returns the directory that holds what was written so far (with vfs: the
// whole tree).
func (sn *Snapshot) Upper() string { return sn.area.upper() }

// View opens a view of the lower layers and what has been written so far. The
// caller closes it.
func (sn *Snapshot) View() (*View, error) {
	dirs := []dir{{path: sn.area.upper()}}
	if sn.store.overlay && !sn.detached {
		dirs = append(dirs, sn.lower...)
	}
	return sn.store.view(dirs)
}

func (s *Store) view(dirs []dir) (*View, error) {
	files, err := openDirs(dirs)
	if err != nil {
		return nil, err
	}
	return newView(files, s.overlayXattr()), nil
}

// Mount mounts the root file system in this process's mount namespace and
// returns the mount point. Commit and Remove unmount it.
func (sn *Snapshot) Mount() (string, error) {
	r := sn.Rootfs()
	if r.Dir != "" {
		return r.Dir, nil
	}
	sn.mu.Lock()
	defer sn.mu.Unlock()
	if sn.mount != "" {
		return sn.mount, nil
	}
	for _, old := range []string{"work", "index"} {
		if err := os.RemoveAll(filepath.Join(r.Work, old)); err != nil {
			return "", fmt.Errorf("mount snapshot: %w", err)
		}
	}
	target := filepath.Join(filepath.Dir(r.Work), "merged")
	if err := os.MkdirAll(target, 0o700); err != nil {
		return "", fmt.Errorf("mount snapshot: %w", err)
	}
	options := append(r.Options, "lowerdir="+strings.Join(r.Lower, ":"), "upperdir="+r.Upper, "workdir="+r.Work)
	if err := unix.Mount("overlay", target, "overlay", 0, strings.Join(options, ",")); err != nil {
		return "", fmt.Errorf("mount snapshot: overlay on %s: %w", target, err)
	}
	sn.mount = target
	return target, nil
}

// Unmount undoes Mount; it is a no-op when nothing is mounted.
func (sn *Snapshot) Unmount() error {
	sn.mu.Lock()
	defer sn.mu.Unlock()
	if sn.mount == "" {
		return nil
	}
	if err := unix.Unmount(sn.mount, 0); err != nil {
		return fmt.Errorf("unmount %s: %w", sn.mount, err)
	}
	sn.mount = ""
	return nil
}

// Remove drops the snapshot. It is idempotent, and a no-op after Commit.
func (sn *Snapshot) Remove() error {
	sn.mu.Lock()
	done := sn.done
	sn.done = true
	sn.mu.Unlock()
	if done {
		return nil
	}
	defer sn.store.end(sn)
	sn.dropStream()
	if err := sn.Unmount(); err != nil {
		return err
	}
	if sn.area == nil {
		return nil
	}
	return sn.area.remove()
}
