package run

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"cooper/layers"
	"cooper/run/internal/idmap"
	"cooper/run/internal/wire"
)

// ContainerRoot is a container's root directory with what is mounted in it, open
// whether the container runs or not.
type ContainerRoot struct {
	// File is for openat2 with RESOLVE_IN_ROOT only: the container may change
	// what is in it at any time.
	File *os.File

	closing chan struct{} // of one that is mounted for the while
	done    chan error
}

// OpenRoot opens the container's root directory: as its processes see it, or,
// when it does not run, mounted for the while with its volumes and directories of
// the host. Then it can't be started before Close.
func (c *Container) OpenRoot(ctx context.Context) (*ContainerRoot, error) {
	for {
		f, err := c.Root(ctx)
		if err == nil {
			return &ContainerRoot{File: f}, nil
		}
		if !errors.Is(err, ErrNotRunning) {
			return nil, err
		}
		lock, err := c.lockToStart(ctx)
		if errors.Is(err, ErrRunning) {
			continue
		}
		if err != nil {
			return nil, err
		}
		root, err := c.mountRoot(lock)
		if err != nil {
			lock.Close()
			return nil, c.fail("mount the root file system", err)
		}
		return root, nil
	}
}

// Close closes the directory and takes back what was mounted for it.
func (r *ContainerRoot) Close() error {
	if r.closing == nil {
		return r.File.Close()
	}
	close(r.closing)
	return <-r.done
}

// mountRoot mounts the root file system in a mount namespace that one thread has
// to itself. It ends with the thread, at the latest with this process. The lock is
// released with it.
func (c *Container) mountRoot(lock *os.File) (*ContainerRoot, error) {
	m, err := c.newRootMount()
	if err != nil {
		return nil, err
	}
	r := &ContainerRoot{closing: make(chan struct{}), done: make(chan error, 1)}
	opened := make(chan error)
	onOwnThread(func() {
		var err error
		if r.File, err = m.mount(); err != nil {
			opened <- errors.Join(err, m.unmount())
			return
		}
		opened <- nil
		<-r.closing
		r.done <- errors.Join(r.File.Close(), m.unmount(), lock.Close())
	})
	return r, <-opened
}

// onOwnThread runs f in a goroutine on a thread that ends with it.
func onOwnThread(f func()) {
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() != unix.Getpid() {
			f()
			return
		}
		// The main thread never ends. It is held here until f has another.
		started := make(chan struct{})
		onOwnThread(func() {
			close(started)
			f()
		})
		<-started
		runtime.UnlockOSThread()
	}()
}

// rootMount is the root file system of a container that does not run.
type rootMount struct {
	dir    string // where all is mounted
	rootfs layers.Rootfs
	stubs  []wire.Stub
	binds  []specs.Mount
	// readOnly is for the root file system alone.
	readOnly bool
	// userns is the container's own user namespace; nil for none.
	userns *UserNS
}

func (c *Container) newRootMount() (*rootMount, error) {
	m := &rootMount{dir: filepath.Join(c.RunDir(), "root"), readOnly: c.opts().Config.ReadOnly}
	var err error
	m.userns = c.opts().Config.UserNS
	if m.rootfs, err = c.mountRootfs(); err != nil {
		return nil, err
	}
	for _, asked := range c.opts().Mounts {
		var mount specs.Mount
		switch {
		case asked.Overlay:
			continue
		case asked.Type == "volume":
			if mount, err = c.cs.volumeMount(asked); err != nil {
				return nil, err
			}
		case asked.Type == "bind":
			mount = specs.Mount{Type: "bind", Source: asked.Source, Destination: asked.Destination, Options: asked.Options}
		}
		if _, err := os.Stat(mount.Source); mount.Type == "bind" && err == nil {
			m.binds = append(m.binds, mount)
		}
	}
	slices.SortStableFunc(m.binds, func(a, b specs.Mount) int {
		return strings.Count(a.Destination, "/") - strings.Count(b.Destination, "/")
	})
	points, err := mountPoints(&Task{}, m.binds, nil)
	if err != nil {
		return nil, err
	}
	view, err := c.View()
	if err != nil {
		return nil, err
	}
	defer view.Close()
	m.stubs, err = missing(view, points)
	return m, err
}

// mount mounts it and opens it. What fails leaves work for unmount.
func (m *rootMount) mount() (*os.File, error) {
	if err := os.MkdirAll(m.dir, 0o700); err != nil {
		return nil, err
	}
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return nil, os.NewSyscallError("unshare", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, ""); err != nil {
		return nil, os.NewSyscallError("mount", err)
	}
	if err := unix.Mount("cooper", m.dir, "tmpfs", 0, "mode=700"); err != nil {
		return nil, os.NewSyscallError("mount", err)
	}
	at := filepath.Join(m.dir, "root")
	if err := os.Mkdir(at, 0o755); err != nil {
		return nil, err
	}
	if err := m.mountRootfs(at); err != nil {
		return nil, err
	}
	root, err := os.OpenFile(at, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, err
	}
	if m.readOnly {
		if err := makeReadOnly(root, 0); err != nil {
			root.Close()
			return nil, err
		}
	}
	for _, b := range m.binds {
		if err := bindIn(root, b); err != nil {
			root.Close()
			return nil, fmt.Errorf("mount %s: %w", b.Destination, err)
		}
	}
	return root, nil
}

// mountRootfs mounts the root file system alone. The lowest layer holds the
// mount points that it lacks.
func (m *rootMount) mountRootfs(at string) error {
	r := m.rootfs
	if r.Dir != "" {
		return os.NewSyscallError("mount", unix.Mount(r.Dir, at, "", unix.MS_BIND|unix.MS_REC, ""))
	}
	stubs := filepath.Join(m.dir, "stubs")
	if err := makePoints(stubs, m.stubs); err != nil {
		return err
	}
	if err := m.cleanWork(); err != nil {
		return err
	}
	if m.userns != nil && !r.MapLower {
		uid, gid := m.userns.Owners.Outside(0, 0)
		if err := idmap.Adopt(stubs, r.Lower[0], int(uid), int(gid)); err != nil {
			return err
		}
	}
	// By descriptors: hundreds of layers have to fit into one page.
	lower, err := openAll(append(slices.Clone(r.Lower), stubs))
	defer closeAll(lower)
	if err != nil {
		return err
	}
	if r.MapLower {
		mapped, unmount, err := m.mapOwners(lower)
		defer closeAll(mapped)
		defer unmount()
		if err != nil {
			return err
		}
		lower = mapped
	}
	data, err := openAll(r.Data)
	defer closeAll(data)
	if err != nil {
		return err
	}
	options := append(slices.Clone(r.Options), "lowerdir="+idmap.LowerOption(lower, data), "upperdir="+escapeOverlay(r.Upper), "workdir="+escapeOverlay(r.Work))
	return os.NewSyscallError("mount overlay", unix.Mount("overlay", at, "overlay", 0, strings.Join(options, ",")))
}

// mapOwners mounts directories with the owners of the container's user namespace.
func (m *rootMount) mapOwners(dirs []*os.File) ([]*os.File, func(), error) {
	n, err := idmap.Make(mappings(m.userns.Owners.UIDs), mappings(m.userns.Owners.GIDs), false)
	if err != nil {
		return nil, func() {}, err
	}
	defer n.Close()
	return idmap.Mount(dirs, n.User, filepath.Join(m.dir, "lower"))
}

// openAll opens directories to be mounted. Those that were opened are returned with an
// error too.
func openAll(paths []string) ([]*os.File, error) {
	var files []*os.File
	for _, path := range paths {
		f, err := os.OpenFile(path, unix.O_PATH|unix.O_DIRECTORY, 0)
		if err != nil {
			return files, err
		}
		files = append(files, f)
	}
	return files, nil
}

// makePoints makes mount points.
func makePoints(dir string, stubs []wire.Stub) error {
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	for _, s := range stubs {
		path := filepath.Join(dir, s.Path)
		if s.Dir {
			if err := os.MkdirAll(path, 0o755); err != nil {
				return err
			}
			continue
		}
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, nil, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// bindIn mounts b below root, where no link leads out of it. A mount point that is
// missing in another mount is left out.
func bindIn(root *os.File, b specs.Mount) error {
	at, err := openPoint(root, b.Destination)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return err
	}
	defer at.Close()
	if err := unix.Mount(b.Source, fdPath(at), "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return err
	}
	if !slices.Contains(b.Options, "ro") {
		return nil
	}
	top, err := openPoint(root, b.Destination) // at is what lies below it now
	if err != nil {
		return err
	}
	defer top.Close()
	return makeReadOnly(top, unix.AT_RECURSIVE)
}

// makeReadOnly makes the mount that f is the root of read-only.
func makeReadOnly(f *os.File, flags uint) error {
	err := unix.MountSetattr(int(f.Fd()), "", unix.AT_EMPTY_PATH|flags, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY})
	return os.NewSyscallError("mount_setattr", err)
}

func openPoint(root *os.File, name string) (*os.File, error) {
	fd, err := unix.Openat2(int(root.Fd()), strings.TrimLeft(name, "/"), &unix.OpenHow{
		Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS,
	})
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), name), nil
}

// unmount takes all of it away again.
func (m *rootMount) unmount() error {
	err := unix.Unmount(m.dir, unix.MNT_DETACH)
	if err == unix.EINVAL || err == unix.ENOENT {
		err = nil // it did not come so far
	}
	err = errors.Join(os.NewSyscallError("unmount", err), m.cleanWork(), os.Remove(m.dir))
	os.Remove(filepath.Dir(m.dir)) // if nothing else is in it
	return err
}

// cleanWork empties the work directory, which a volatile overlay has to find so.
func (m *rootMount) cleanWork() error {
	if m.rootfs.Work == "" {
		return nil
	}
	return os.RemoveAll(filepath.Join(m.rootfs.Work, "work"))
}

func fdPath(f *os.File) string { return "/proc/self/fd/" + strconv.Itoa(int(f.Fd())) }

// escapeOverlay protects what overlayfs' option parser would split.
func escapeOverlay(path string) string {
	return strings.NewReplacer(`\`, `\\`, `,`, `\,`, `:`, `\:`).Replace(path)
}
