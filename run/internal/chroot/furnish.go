package chroot

import (
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"cooper/run/internal/wire"
)

// Furniture is what Furnish has put into a root.
//
// The process that runs there may replace any directory by a link that leads out of
// the root. So each directory is opened before it starts, and what was added is taken
// away through that: wherever the directory is by then, and if it is gone, it is no
// loss.
type Furniture struct {
	root   string
	kept   string // a directory beside the root for what was in the way
	placed []placed
}

// placed is one thing that was added.
type placed struct {
	parent *os.File
	name   string
	kept   string // the name of what was there in the directory for it; "" = nothing
	// dir: only made to hold others; what the process has put into it stays.
	dir bool
}

// usual are the devices that any container has and a chroot can be given.
var usual = []specs.LinuxDevice{
	{Path: "/dev/null", Type: "c", Major: 1, Minor: 3},
	{Path: "/dev/zero", Type: "c", Major: 1, Minor: 5},
	{Path: "/dev/full", Type: "c", Major: 1, Minor: 7},
	{Path: "/dev/random", Type: "c", Major: 1, Minor: 8},
	{Path: "/dev/urandom", Type: "c", Major: 1, Minor: 9},
	{Path: "/dev/tty", Type: "c", Major: 5, Minor: 0},
}

const shm = "dev/shm"

// Furnish gives the directory root a /dev of its own, with device nodes if this process
// may make any, and the files, whose paths are free of symbolic links. Nobody else can
// be in root yet. What it returns must be cleared, also after an error.
func Furnish(root string, devices []specs.LinuxDevice, files []wire.File) (*Furniture, error) {
	f := &Furniture{root: root}
	err := f.place("/dev", func(dir int, name string) error { return unix.Mkdirat(dir, name, 0o755) })
	if err != nil {
		return f, fmt.Errorf("/dev: %w", err)
	}
	for _, d := range append(slices.Clone(usual), devices...) {
		err := f.place(d.Path, func(dir int, name string) error { return makeNode(dir, name, &d) })
		if errors.Is(err, unix.EPERM) {
			break // none at all
		}
		if err != nil {
			return f, fmt.Errorf("device %s: %w", d.Path, err)
		}
	}
	err = f.place(shm, func(dir int, name string) error {
		if err := unix.Mkdirat(dir, name, 0o777); err != nil {
			return err
		}
		return unix.Fchmodat(dir, name, 0o1777, 0)
	})
	if err != nil {
		return f, fmt.Errorf("/%s: %w", shm, err)
	}
	for _, file := range files {
		err := f.place(file.Path, func(dir int, name string) error { return write(dir, name, &file) })
		if err != nil {
			return f, fmt.Errorf("file %s: %w", file.Path, err)
		}
	}
	return f, nil
}

// write makes a file that is not there yet.
func write(dir int, name string, file *wire.File) error {
	fd, err := unix.Openat(dir, name, unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), name)
	_, err = f.Write(file.Data)
	if file.UID != 0 || file.GID != 0 {
		err = errors.Join(err, f.Chown(int(file.UID), int(file.GID)))
	}
	return errors.Join(err, unix.Fchmod(fd, file.Mode), f.Close())
}

// place has name made in its directory, which keeps its times. What is there already is
// kept aside.
func (f *Furniture) place(name string, make func(dir int, name string) error) error {
	parent, err := f.directory(path.Dir(path.Join("/", name)))
	if err != nil {
		return err
	}
	p := placed{parent: parent, name: path.Base(name)}
	var st unix.Stat_t
	err = unix.Fstatat(int(parent.Fd()), p.name, &st, unix.AT_SYMLINK_NOFOLLOW)
	restore := keepTimes(parent)
	if err == nil {
		p.kept, err = f.keep(parent, p.name)
	} else if err == unix.ENOENT {
		err = nil
	}
	if err == nil {
		err = make(int(parent.Fd()), p.name)
		f.placed = append(f.placed, p)
	} else {
		parent.Close()
	}
	return errors.Join(err, restore())
}

// directory opens one, and makes it and its parents if they are missing.
func (f *Furniture) directory(name string) (*os.File, error) {
	how := unix.OpenHow{Flags: unix.O_DIRECTORY | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS}
	root, err := os.OpenFile(f.root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	fd, err := unix.Openat2(int(root.Fd()), name, &how)
	if err == nil {
		return os.NewFile(uintptr(fd), name), nil
	}
	if err != unix.ENOENT || name == "/" {
		return nil, &os.PathError{Op: "open", Path: name, Err: err}
	}
	parent, err := f.directory(path.Dir(name))
	if err != nil {
		return nil, err
	}
	restore := keepTimes(parent)
	err = errors.Join(unix.Mkdirat(int(parent.Fd()), path.Base(name), 0o755), restore())
	if err != nil {
		parent.Close()
		return nil, &os.PathError{Op: "mkdir", Path: name, Err: err}
	}
	f.placed = append(f.placed, placed{parent: parent, name: path.Base(name), dir: true})
	return f.directory(name)
}

// keep moves name out of its directory, to one beside the root: on the same file
// system, and where nobody in the root sees it.
func (f *Furniture) keep(parent *os.File, name string) (string, error) {
	if f.kept == "" {
		dir, err := os.MkdirTemp(filepath.Dir(f.root), "kept-")
		if err != nil {
			return "", err
		}
		f.kept = dir
	}
	kept := strconv.Itoa(len(f.placed))
	return kept, unix.Renameat(int(parent.Fd()), name, unix.AT_FDCWD, filepath.Join(f.kept, kept))
}

// Clear takes away what was added, with whatever it has become, and puts back what was
// there, when no process is in the root any more.
func (f *Furniture) Clear() error {
	var errs []error
	for _, p := range slices.Backward(f.placed) {
		errs = append(errs, f.clear(&p), p.parent.Close())
	}
	f.placed = nil
	if f.kept != "" {
		errs = append(errs, os.RemoveAll(f.kept))
	}
	return errors.Join(errs...)
}

func (f *Furniture) clear(p *placed) error {
	dir := int(p.parent.Fd())
	restore := keepTimes(p.parent)
	if p.dir {
		// What the process has put there keeps it; what it has put in its place stays.
		err := unix.Unlinkat(dir, p.name, unix.AT_REMOVEDIR)
		if err == unix.ENOTEMPTY || err == unix.ENOTDIR || err == unix.ENOENT {
			return nil
		}
		return errors.Join(err, restore())
	}
	root, err := os.OpenRoot("/proc/self/fd/" + strconv.Itoa(dir))
	if err != nil {
		return err
	}
	defer root.Close()
	if err := root.RemoveAll(p.name); err != nil {
		return err
	}
	if p.kept != "" {
		err := unix.Renameat(unix.AT_FDCWD, filepath.Join(f.kept, p.kept), dir, p.name)
		if err != nil && err != unix.ENOENT { // the directory was deleted
			return &os.PathError{Op: "put back", Path: p.name, Err: err}
		}
	}
	return restore()
}

// keepTimes returns a func that gives a directory its present times back.
func keepTimes(dir *os.File) func() error {
	var st unix.Stat_t
	if err := unix.Fstat(int(dir.Fd()), &st); err != nil {
		return func() error { return err }
	}
	return func() error {
		return unix.UtimesNanoAt(unix.AT_FDCWD, "/proc/self/fd/"+strconv.Itoa(int(dir.Fd())), []unix.Timespec{st.Atim, st.Mtim}, 0)
	}
}
