package chroot

import (
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// Mounts are those below one root.
type Mounts struct {
	root *os.File
	done []string // paths of what is mounted, below root
	at   string
}

// nodes are the devices that every container has.
var nodes = []string{"null", "zero", "full", "random", "urandom", "tty"}

// links are what else is in /dev.
var links = map[string]string{
	"fd": "/proc/self/fd", "stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1", "stderr": "/proc/self/fd/2",
	"ptmx": "pts/ptmx", "core": "/proc/kcore",
}

// Mount mounts what s says in root, which is a mount, in the order given, and fills
// /dev. Nobody else can be in root yet. What it returns must be unmounted, also after
// an error.
func Mount(root string, s *specs.Spec) (*Mounts, error) {
	m := &Mounts{at: root}
	var err error
	if m.root, err = os.OpenFile(root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0); err != nil {
		return m, err
	}
	for _, mount := range s.Mounts {
		if err := m.mount(&mount); err != nil {
			return m, fmt.Errorf("mount %s at %s: %w", mount.Type, mount.Destination, err)
		}
	}
	if err := m.devices(s.Linux.Devices); err != nil {
		return m, err
	}
	return m, m.hide(s.Linux)
}

// Unmount undoes Mount.
func (m *Mounts) Unmount() error {
	var errs []error
	for _, p := range slices.Backward(m.done) {
		if err := unix.Unmount(p, unix.UMOUNT_NOFOLLOW|unix.MNT_DETACH); err != nil {
			errs = append(errs, &os.PathError{Op: "unmount", Path: p, Err: err})
		}
	}
	m.done = nil
	if m.root != nil {
		m.root.Close()
	}
	return errors.Join(errs...)
}

// open opens what name is in the root, for mounting there. What is missing, below
// another mount, is made.
func (m *Mounts) open(name string, dir bool) (*os.File, error) {
	how := unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS}
	fd, err := unix.Openat2(int(m.root.Fd()), name, &how)
	if err == nil {
		return os.NewFile(uintptr(fd), name), nil
	}
	if err != unix.ENOENT || name == "/" {
		return nil, &os.PathError{Op: "open", Path: name, Err: err}
	}
	parent, err := m.open(path.Dir(name), true)
	if err != nil {
		return nil, err
	}
	defer parent.Close()
	if dir {
		err = unix.Mkdirat(int(parent.Fd()), path.Base(name), 0o755)
	} else {
		err = unix.Mknodat(int(parent.Fd()), path.Base(name), unix.S_IFREG|0o644, 0)
	}
	if err != nil {
		return nil, &os.PathError{Op: "make", Path: name, Err: err}
	}
	if fd, err = unix.Openat2(int(m.root.Fd()), name, &how); err != nil {
		return nil, &os.PathError{Op: "open", Path: name, Err: err}
	}
	return os.NewFile(uintptr(fd), name), nil
}

func procPath(f *os.File) string { return "/proc/self/fd/" + strconv.Itoa(int(f.Fd())) }

// add calls mount with the path of what name is, and remembers what is mounted there.
func (m *Mounts) add(name string, dir bool, mount func(target string) error) error {
	f, err := m.open(name, dir)
	if err != nil {
		return err
	}
	defer f.Close()
	at, err := os.Readlink(procPath(f))
	if err != nil {
		return err
	}
	if err := mount(procPath(f)); err != nil {
		return err
	}
	m.done = append(m.done, at)
	return nil
}

// flagOf are the options that are flags of mount(2).
var flagOf = map[string]uintptr{
	"ro": unix.MS_RDONLY, "rro": unix.MS_RDONLY, "nosuid": unix.MS_NOSUID, "nodev": unix.MS_NODEV, "noexec": unix.MS_NOEXEC,
	"noatime": unix.MS_NOATIME, "nodiratime": unix.MS_NODIRATIME, "relatime": unix.MS_RELATIME, "strictatime": unix.MS_STRICTATIME,
	"sync": unix.MS_SYNCHRONOUS, "dirsync": unix.MS_DIRSYNC,
}

// without are options that mean nothing here: what is mounted is seen in no other
// namespace, and nothing gets to this one.
var without = []string{
	"bind", "rw", "suid", "dev", "exec", "private", "rprivate", "slave", "rslave", "shared", "rshared", "z", "Z", "nosymfollow",
}

func (m *Mounts) mount(s *specs.Mount) error {
	var flags uintptr
	var data []string
	recursive, all := false, false
	for _, o := range s.Options {
		all = all || o == "rro"
		if f, ok := flagOf[o]; ok {
			flags |= f
		} else if o == "rbind" {
			recursive = true
		} else if !slices.Contains(without, o) {
			data = append(data, o)
		}
	}
	if s.Type == "bind" {
		return m.bind(s.Source, s.Destination, flags, recursive, all)
	}
	return m.add(s.Destination, true, func(target string) error {
		return unix.Mount(s.Source, target, s.Type, flags, strings.Join(data, ","))
	})
}

// bind mounts source, with flags for it alone or for all below it.
func (m *Mounts) bind(source, name string, flags uintptr, recursive, all bool) error {
	st, err := os.Stat(source)
	if err != nil {
		return err
	}
	how := uintptr(unix.MS_BIND)
	if recursive {
		how |= unix.MS_REC
	}
	err = m.add(name, st.IsDir(), func(target string) error { return unix.Mount(source, target, "", how, "") })
	if err != nil || flags == 0 {
		return err
	}
	f, err := m.open(name, st.IsDir()) // what is mounted there now
	if err != nil {
		return err
	}
	defer f.Close()
	if all {
		attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}
		return unix.MountSetattr(int(f.Fd()), "", unix.AT_EMPTY_PATH|unix.AT_RECURSIVE, &attr)
	}
	return remount(f, flags)
}

// remount adds flags to those of the mount at f: some cannot be taken off.
func remount(f *os.File, flags uintptr) error {
	var st unix.Statfs_t
	if err := unix.Fstatfs(int(f.Fd()), &st); err != nil {
		return err
	}
	const kept = unix.MS_RDONLY | unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC | unix.MS_NOATIME | unix.MS_NODIRATIME | unix.MS_RELATIME
	flags |= uintptr(st.Flags) & kept // ST_* are MS_* but for the one that says "valid"
	if st.Flags&0x1000 != 0 {         // ST_RELATIME
		flags |= unix.MS_RELATIME
	}
	return unix.Mount("", procPath(f), "", unix.MS_BIND|unix.MS_REMOUNT|flags, "")
}

// devices binds the host's usual nodes, which works for root and users alike, and
// makes those that were asked for.
func (m *Mounts) devices(more []specs.LinuxDevice) error {
	dev, err := m.open("/dev", true)
	if err != nil {
		return err
	}
	defer dev.Close()
	for name, to := range links {
		if err := unix.Symlinkat(to, int(dev.Fd()), name); err != nil && err != unix.EEXIST {
			return &os.PathError{Op: "symlink", Path: "/dev/" + name, Err: err}
		}
	}
	for _, name := range nodes {
		if err := m.bind("/dev/"+name, "/dev/"+name, 0, false, false); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("device /dev/%s: %w", name, err)
		}
	}
	for _, d := range more {
		if err := m.device(&d); err != nil {
			return fmt.Errorf("device %s: %w", d.Path, err)
		}
	}
	return nil
}

// device makes a node, or binds the host's where nodes can't be made.
func (m *Mounts) device(d *specs.LinuxDevice) error {
	parent, err := m.open(path.Dir(d.Path), true)
	if err != nil {
		return err
	}
	defer parent.Close()
	err = makeNode(int(parent.Fd()), path.Base(d.Path), d)
	if err == unix.EPERM {
		return m.bind(d.Path, d.Path, 0, false, false)
	}
	return err
}

// makeNode makes a device node in a directory.
func makeNode(dir int, name string, d *specs.LinuxDevice) error {
	mode := uint32(0o666)
	if d.FileMode != nil {
		mode = uint32(d.FileMode.Perm())
	}
	kind := uint32(unix.S_IFCHR)
	switch d.Type {
	case "b":
		kind = unix.S_IFBLK
	case "p":
		kind = unix.S_IFIFO
	}
	if err := unix.Mknodat(dir, name, kind|mode, int(unix.Mkdev(uint32(d.Major), uint32(d.Minor)))); err != nil {
		return err
	}
	if err := unix.Fchmodat(dir, name, mode, 0); err != nil { // there is an umask
		return err
	}
	if d.UID == nil || d.GID == nil {
		return nil
	}
	return unix.Fchownat(dir, name, int(*d.UID), int(*d.GID), unix.AT_SYMLINK_NOFOLLOW)
}

// hide covers masked paths and makes others read-only, those that there are.
func (m *Mounts) hide(l *specs.Linux) error {
	for _, p := range l.ReadonlyPaths {
		full := path.Join(m.at, p)
		if _, err := os.Lstat(full); err != nil {
			continue
		}
		if err := m.bind(full, p, unix.MS_RDONLY, true, false); err != nil {
			return fmt.Errorf("make %s read-only: %w", p, err)
		}
	}
	for _, p := range l.MaskedPaths {
		st, err := os.Lstat(path.Join(m.at, p))
		if err != nil {
			continue
		}
		if st.IsDir() {
			err = m.mount(&specs.Mount{Type: "tmpfs", Source: "tmpfs", Destination: p, Options: []string{"ro", "nosuid", "nodev", "noexec", "size=0"}})
		} else {
			err = m.bind("/dev/null", p, 0, false, false)
		}
		if err != nil {
			return fmt.Errorf("mask %s: %w", p, err)
		}
	}
	return nil
}
