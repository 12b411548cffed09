package run

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"cooper/layers"
	"cooper/run/internal/life"
)

// ErrNoContainer is wrapped by the error of a lookup of a container that does not
// exist, or does no longer.
var ErrNoContainer = errors.New("no such container")

// ErrNameInUse is wrapped by the error of Create and Rename when another
// container has the name.
var ErrNameInUse = errors.New("the name is in use")

// Containers are the containers of one store. Its methods may be called
// concurrently, and other processes may use the same containers at the same time.
//
// On disk, below Store.Dir("containers"):
//
//	ID/options.json  ContainerOptions; a container exists once it is there
//	ID/state.json    State; the monitor's while it holds the lock
//	ID/lock          held by the monitor as long as it lives, and by whoever
//	                 starts or removes the container
//	ID/log, log.1... what the container wrote, log.1 being older than log
//	names/NAME       a symbolic link to the ID
//	.new-ID, .old-ID on the way to be the container's directory, or away
//
// What happens to containers is in the journal events.log (see Events), and what
// need not outlive a boot in RunRoot()/cooper/ and the first 16 digits of the ID.
type Containers struct {
	// Warn is called with what the user should know of a container that was
	// started all the same; nil discards it.
	Warn func(text string)

	store  *layers.Store
	dir    string
	runDir string
}

// Container is one container. It may be used concurrently.
type Container struct {
	cs  *Containers
	id  string
	dir string
	// present are the options as this process knows them. Who changes them
	// replaces them.
	present atomic.Pointer[ContainerOptions]
	// held is the lock of a container that CreateToStart made.
	held atomic.Pointer[os.File]
}

// OpenContainers returns the containers of a store.
func OpenContainers(store *layers.Store) (*Containers, error) {
	dir, err := store.Dir("containers")
	if err != nil {
		return nil, err
	}
	return &Containers{store: store, dir: dir, runDir: filepath.Join(store.RunRoot(), "cooper")}, nil
}

// RunDir is the directory for what need not outlive a boot. It may be missing.
func (cs *Containers) RunDir() string { return cs.runDir }

// container returns the container with this ID, which may not exist.
func (cs *Containers) container(id string) *Container {
	c := &Container{cs: cs, id: id, dir: filepath.Join(cs.dir, id)}
	c.present.Store(new(ContainerOptions))
	return c
}

func (c *Container) opts() *ContainerOptions { return c.present.Load() }

// newContainerID returns a random ID whose short form is not a number: that would
// be taken for a process id or the like.
func newContainerID() string {
	for {
		var b [32]byte
		rand.Read(b[:])
		id := hex.EncodeToString(b[:])
		if strings.ContainsAny(id[:12], "abcdef") {
			return id
		}
	}
}

// Create makes a container, with a writable layer on its image unless it is to
// run in the foreground or on Rootfs. ID, Name and Created are filled in where
// they are empty. The error wraps ErrNameInUse if the name is taken.
func (cs *Containers) Create(ctx context.Context, o ContainerOptions) (*Container, error) {
	c, err := cs.CreateToStart(ctx, o)
	if err != nil {
		return nil, err
	}
	c.Release()
	return c, nil
}

// CreateToStart is Create for a container that is to be started now: it is locked
// until it has been, so that nobody's prune takes it before. Remove and Release take
// the lock away too, and the end of this process.
func (cs *Containers) CreateToStart(ctx context.Context, o ContainerOptions) (_ *Container, err error) {
	if o.ID == "" {
		o.ID = newContainerID()
	}
	if !validID(o.ID) {
		return nil, fmt.Errorf("create container: the id %q is not 64 hexadecimal digits", o.ID)
	}
	if o.Created.IsZero() {
		o.Created = time.Now()
	}
	c := cs.container(o.ID)
	lock, err := c.makeDir()
	if err != nil {
		return nil, fmt.Errorf("create container: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, c.discard(), lock.Close())
		}
	}()
	if o.Name, err = cs.claim(o.Name, o.ID); err != nil {
		return nil, err
	}
	release, err := cs.chooseIDs(&o)
	if err != nil {
		return nil, err
	}
	defer release()
	c.present.Store(&o)
	if err := c.writeState(State{Status: StatusCreated}); err != nil {
		return nil, err
	}
	if c.kept() {
		if _, err := cs.store.CreateContainerLayer(ctx, o.ID, o.ImageID, c.layerOptions()); err != nil {
			return nil, err
		}
	}
	if err := c.complete(ctx); err != nil {
		return nil, c.fail("create", err)
	}
	c.held.Store(lock)
	c.event("create", nil)
	return c, nil
}

// Release lets others at a container that CreateToStart made and that was not
// started. For others it does nothing.
func (c *Container) Release() {
	if lock := c.held.Swap(nil); lock != nil {
		lock.Close()
	}
}

// Beginnings of the names of directories that are not yet or no longer a
// container's.
const (
	newDir = ".new-"
	oldDir = ".old-"
)

// newDirAge is how long a directory may be new: what is older was left behind.
const newDirAge = time.Minute

// makeDir makes the container's directory, locked from the first moment that others
// see it.
func (c *Container) makeDir() (_ *os.File, err error) {
	aside := filepath.Join(c.cs.dir, newDir+c.id)
	if err := os.Mkdir(aside, 0o700); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(aside))
		}
	}()
	lock, err := os.OpenFile(filepath.Join(aside, life.LockFile), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	err = unix.FcntlFlock(lock.Fd(), unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_WRLCK})
	if err == nil {
		err = os.Rename(aside, c.dir)
	}
	if err != nil {
		lock.Close()
		return nil, err
	}
	return lock, nil
}

// removeDir removes the container's directory, which others see to the end or not at
// all.
func (c *Container) removeDir() error {
	aside := filepath.Join(c.cs.dir, oldDir+c.id)
	err := os.Rename(c.dir, aside)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return os.RemoveAll(aside)
}

// complete makes the volumes that the container is to have, and then the
// container itself by writing its options. No volume is removed between.
func (c *Container) complete(ctx context.Context) error {
	write := func() error { return c.writeOptions(c.opts()) }
	if len(c.opts().Mounts) == 0 {
		return write()
	}
	return c.cs.lockedVolumes(unix.LOCK_SH, func() error {
		if err := c.prepareMounts(ctx); err != nil {
			return err
		}
		return write()
	})
}

// discard takes back what Create did.
func (c *Container) discard() error {
	return errors.Join(c.removeLayer(), c.removeVolumes(), c.cs.release(c.opts().Name, c.id), c.removeDir())
}

func validID(id string) bool {
	return len(id) == 64 && strings.Trim(id, "0123456789abcdef") == ""
}

// Find finds a container by its name, its ID or a prefix of the ID that only one
// has. The error wraps ErrNoContainer if there is none.
func (cs *Containers) Find(nameOrID string) (*Container, error) {
	if nameOrID == "" {
		return nil, fmt.Errorf("%w: the name is empty", ErrNoContainer)
	}
	nameOrID = strings.TrimPrefix(nameOrID, "/") // as docker's inspect shows it
	if validID(nameOrID) {
		return cs.open(nameOrID)
	}
	if validName(nameOrID) == nil {
		c, err := cs.named(nameOrID)
		if err == nil || !errors.Is(err, ErrNoContainer) {
			return c, err
		}
	}
	if strings.Trim(nameOrID, "0123456789abcdef") != "" {
		return nil, fmt.Errorf("%w: %s", ErrNoContainer, nameOrID)
	}
	ids, err := cs.ids()
	if err != nil {
		return nil, err
	}
	var found *Container
	for _, id := range ids {
		if !strings.HasPrefix(id, nameOrID) {
			continue
		}
		c, err := cs.open(id)
		switch {
		case errors.Is(err, ErrNoContainer):
		case err != nil:
			return nil, err
		case found != nil:
			return nil, fmt.Errorf("the id prefix %s is that of several containers, %s and %s: give more of it", nameOrID, found.id[:12], id[:12])
		default:
			found = c
		}
	}
	if found == nil {
		return nil, fmt.Errorf("%w: %s", ErrNoContainer, nameOrID)
	}
	return found, nil
}

// open returns the container with exactly this ID.
func (cs *Containers) open(id string) (*Container, error) {
	c := cs.container(id)
	if err := c.reload(); err != nil {
		return nil, err
	}
	return c, nil
}

// reload reads the options.
func (c *Container) reload() error {
	var o ContainerOptions
	err := readJSON(filepath.Join(c.dir, optionsFile), &o)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: %s", ErrNoContainer, c.id)
	}
	if errors.Is(err, errDamaged) {
		// The machine crashed before they were on disk. One such container
		// does not hide the others, and it can be removed.
		o, err = ContainerOptions{ID: c.id, Name: c.id[:12], Labels: map[string]string{"damaged": err.Error()}}, nil
	}
	if err != nil {
		return fmt.Errorf("options of container %s: %w", c.id, err)
	}
	c.present.Store(&o)
	return nil
}

// writeOptions writes the options. A container that is not removed at its end is to
// be there after a crash too.
func (c *Container) writeOptions(o *ContainerOptions) error {
	path := filepath.Join(c.dir, optionsFile)
	if o.AutoRemove {
		return writeJSON(path, o)
	}
	return writeDurable(path, o)
}

// ids lists the directories of containers, whether finished or not, and removes those
// that killed processes have left half made or half removed.
func (cs *Containers) ids() ([]string, error) {
	entries, err := os.ReadDir(cs.dir)
	if err != nil {
		return nil, fmt.Errorf("list containers: %w", err)
	}
	var ids []string
	for _, e := range entries {
		switch name := e.Name(); {
		case validID(name):
			ids = append(ids, name)
		case strings.HasPrefix(name, oldDir):
			err = errors.Join(err, os.RemoveAll(filepath.Join(cs.dir, name)))
		case strings.HasPrefix(name, newDir):
			if made, statErr := e.Info(); statErr == nil && time.Since(made.ModTime()) > newDirAge {
				err = errors.Join(err, os.RemoveAll(filepath.Join(cs.dir, name)))
			}
		}
	}
	return ids, err
}

// List returns all containers, the newest first. What killed processes have left
// is cleared away first, so a container that is in the list was there a moment ago.
func (cs *Containers) List() ([]*Container, error) {
	list, _, err := cs.ListStates()
	return list, err
}

// ListStates is List with the state of each container, by the same index.
func (cs *Containers) ListStates() ([]*Container, []State, error) {
	ids, err := cs.ids()
	if err != nil {
		return nil, nil, err
	}
	type found struct {
		c  *Container
		st State
	}
	all := make([]found, 0, len(ids))
	for _, id := range ids {
		c, err := cs.open(id)
		if errors.Is(err, ErrNoContainer) {
			if err := cs.sweep(id); err != nil {
				return nil, nil, err
			}
			continue
		}
		if err != nil {
			return nil, nil, err
		}
		st, err := c.State()
		if errors.Is(err, ErrNoContainer) {
			continue // removed just now, or at last
		}
		if err != nil && st.Status != StatusDead {
			return nil, nil, err
		}
		all = append(all, found{c, st})
	}
	slices.SortStableFunc(all, func(a, b found) int { return b.c.opts().Created.Compare(a.c.opts().Created) })
	list, states := make([]*Container, len(all)), make([]State, len(all))
	for i, f := range all {
		list[i], states[i] = f.c, f.st
	}
	return list, states, nil
}

// sweep removes what is left of a container that was not made or not removed to
// the end, unless somebody is at it.
func (cs *Containers) sweep(id string) error {
	c := cs.container(id)
	lock, err := c.lock()
	switch {
	case errors.Is(err, errLocked), errors.Is(err, ErrNoContainer):
		return nil
	case errors.Is(err, fs.ErrNotExist):
		return c.removeDir() // not even a lock: it is none of ours
	case err != nil:
		return err
	}
	defer lock.Close()
	if err := c.reload(); !errors.Is(err, ErrNoContainer) {
		return err // it has been finished meanwhile
	}
	names, err := cs.namesOf(id)
	for _, name := range names {
		err = errors.Join(err, cs.release(name, id))
	}
	return errors.Join(err, c.discard())
}

// ID returns the container's ID.
func (c *Container) ID() string { return c.id }

// Options returns what the container was made from. The maps and slices in it
// are not to be changed.
func (c *Container) Options() ContainerOptions { return *c.opts() }

// Name returns the container's name.
func (c *Container) Name() string { return c.opts().Name }

// Dir returns the directory of the container's own files.
func (c *Container) Dir() string { return c.dir }

// RunDir returns the directory of the container's control socket and other things
// that need not outlive a boot. It may be missing.
func (c *Container) RunDir() string { return filepath.Join(c.cs.runDir, c.id[:16]) }

func (c *Container) removeRunDir() error { return os.RemoveAll(c.RunDir()) }

// kept reports whether the container has a writable layer of its own in the
// store.
func (c *Container) kept() bool { return !c.opts().Foreground && c.opts().Rootfs == "" }

func (c *Container) layerOptions() layers.ContainerLayerOptions {
	return layers.ContainerLayerOptions{Volatile: c.opts().AutoRemove, Owners: c.opts().Config.UserNS.owners()}
}

// Layer returns the container's writable layer. Containers that run in the
// foreground or on Rootfs have none: the error wraps layers.ErrNotFound.
func (c *Container) Layer() (*layers.ContainerLayer, error) {
	return c.cs.store.ContainerLayer(c.id, c.opts().ImageID, c.layerOptions())
}

// Rootfs returns the container's root file system, for mounting.
func (c *Container) Rootfs() (layers.Rootfs, error) {
	switch {
	case c.opts().Rootfs != "":
		return layers.Rootfs{Dir: c.opts().Rootfs}, nil
	case c.opts().Snapshot != nil:
		return *c.opts().Snapshot, nil
	}
	l, err := c.Layer()
	if err != nil {
		return layers.Rootfs{}, err
	}
	return l.Rootfs()
}

// View opens a view of the container's files, without what is mounted in it. The
// caller closes it.
func (c *Container) View() (*layers.View, error) {
	r, err := c.Rootfs()
	if err != nil {
		return nil, err
	}
	v, err := openRootfs(r)
	if err != nil || c.opts().Rootfs != "" {
		return v, err
	}
	return v.OwnedBy(c.opts().Config.UserNS.owners()), nil
}

// warn tells the user.
func (cs *Containers) warn(text string) {
	if cs.Warn != nil {
		cs.Warn(text)
	}
}

// DiskUsage returns how many bytes the container takes on disk: what it wrote, and
// its log. Volumes are not part of it.
func (c *Container) DiskUsage(ctx context.Context) (int64, error) {
	size, err := layers.DiskUsage(ctx, c.dir)
	if err != nil {
		return 0, c.fail("size", err)
	}
	own, err := c.Layer()
	if errors.Is(err, layers.ErrNotFound) {
		return size, nil
	}
	if err != nil {
		return 0, err
	}
	written, err := own.DiskUsage(ctx)
	return size + written, err
}

// Edit changes the container's options on disk. change gets what they are now.
// Edits are made one after the other, whoever makes them, and none while the
// container is being started.
func (c *Container) Edit(change func(*ContainerOptions) error) error {
	return c.edit(change, func() error { return nil })
}

// edit is Edit with what is to be done after it, before others edit.
func (c *Container) edit(change func(*ContainerOptions) error, then func() error) error {
	dir, err := lockDir(c.dir)
	if err != nil {
		return c.fail("edit", err)
	}
	defer dir.Close()
	if err := c.reload(); err != nil {
		return err
	}
	o := *c.opts()
	if err := change(&o); err != nil {
		return err
	}
	if err := c.writeOptions(&o); err != nil {
		return c.fail("edit", err)
	}
	c.present.Store(&o)
	return then()
}

// lockDir locks a directory until the file is closed.
func lockDir(path string) (*os.File, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX)
		if err == nil {
			return f, nil
		}
		if err != unix.EINTR {
			f.Close()
			return nil, fmt.Errorf("lock %s: %w", path, err)
		}
	}
}
