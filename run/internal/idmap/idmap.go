// Package idmap makes user namespaces of containers, and mounts in which files have
// the owners of one.
package idmap

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// Namespaces are a user namespace and, if it was asked for, a network namespace that
// belongs to it. They last as long as the files.
type Namespaces struct{ User, Net *os.File }

// Make makes a user namespace with these ids, and with net a network namespace in it.
func Make(uids, gids []specs.LinuxIDMapping, net bool) (n *Namespaces, err error) {
	flags := uintptr(unix.CLONE_NEWUSER)
	if net {
		flags |= unix.CLONE_NEWNET
	}
	// The process is stopped at its first instruction and never gets to another one.
	// Only the thread that started it may end it.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	p, err := os.StartProcess("/proc/self/exe", []string{"cooper-userns"}, &os.ProcAttr{Env: []string{}, Sys: &syscall.SysProcAttr{
		Cloneflags: flags, UidMappings: sysMap(uids), GidMappings: sysMap(gids), GidMappingsEnableSetgroups: groupsAllowed(),
		Ptrace: true, Pdeathsig: unix.SIGKILL,
	}})
	if err != nil {
		return nil, fmt.Errorf("make a user namespace: %w", err)
	}
	defer func() {
		p.Kill()
		p.Wait() // it was killed
	}()
	n = &Namespaces{}
	open := func(name string) (*os.File, error) { return os.Open(fmt.Sprintf("/proc/%d/ns/%s", p.Pid, name)) }
	if n.User, err = open("user"); err == nil && net {
		n.Net, err = open("net")
	}
	if err != nil {
		n.Close()
		return nil, err
	}
	return n, nil
}

// groupsAllowed reports whether setgroups(2) may be allowed in a user namespace made
// here: it is denied for good below one that was made without privileges.
func groupsAllowed() bool {
	b, err := os.ReadFile("/proc/self/setgroups")
	return err != nil || strings.TrimSpace(string(b)) != "deny"
}

// Close lets go of the namespaces.
func (n *Namespaces) Close() error {
	var errs []error
	for _, f := range []*os.File{n.User, n.Net} {
		if f != nil {
			errs = append(errs, f.Close())
		}
	}
	return errors.Join(errs...)
}

func sysMap(m []specs.LinuxIDMapping) []syscall.SysProcIDMap {
	var out []syscall.SysProcIDMap
	for _, r := range m {
		out = append(out, syscall.SysProcIDMap{ContainerID: int(r.ContainerID), HostID: int(r.HostID), Size: int(r.Size)})
	}
	return out
}

// Outside is the id outside of an id inside; one that is not mapped stays what it is.
func Outside(m []specs.LinuxIDMapping, id uint32) int {
	for _, r := range m {
		if id >= r.ContainerID && id-r.ContainerID < r.Size {
			return int(r.HostID + (id - r.ContainerID))
		}
	}
	return int(id)
}

// clone returns a mount of dir, mounted nowhere, whose files have the owners that a
// user namespace gives them.
func clone(dir, user *os.File) (*os.File, error) {
	fd, err := unix.OpenTree(int(dir.Fd()), "", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_EMPTY_PATH)
	if err != nil {
		return nil, os.NewSyscallError("open_tree", err)
	}
	f := os.NewFile(uintptr(fd), dir.Name())
	err = unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_IDMAP, Userns_fd: uint64(user.Fd())})
	if err != nil {
		f.Close()
		return nil, os.NewSyscallError("mount_setattr", err)
	}
	return f, nil
}

// Possible reports whether dir can be mounted with other owners. Only root can, and
// not every file system.
func Possible(dir string, uids, gids []specs.LinuxIDMapping) bool {
	f, err := os.OpenFile(dir, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return false
	}
	defer f.Close()
	n, err := Make(uids, gids, false)
	if err != nil {
		return false
	}
	defer n.Close()
	mount, err := clone(f, n.User)
	if err != nil {
		return false
	}
	mount.Close()
	return true
}

// Mount mounts directories with the owners that user gives their files, in new
// directories below at, and opens them. After unmount, which is called in any case,
// they are still there for what uses them.
func Mount(dirs []*os.File, user *os.File, at string) (mapped []*os.File, unmount func(), err error) {
	var points []string
	unmount = func() {
		for _, point := range points {
			_ = unix.Unmount(point, unix.MNT_DETACH)
		}
	}
	for i, dir := range dirs {
		point := filepath.Join(at, strconv.Itoa(i))
		if err := os.MkdirAll(point, 0o711); err != nil {
			return mapped, unmount, err
		}
		mount, err := clone(dir, user)
		if err != nil {
			return mapped, unmount, fmt.Errorf("mount %s with other owners: %w", dir.Name(), err)
		}
		err = unix.MoveMount(int(mount.Fd()), "", unix.AT_FDCWD, point, unix.MOVE_MOUNT_F_EMPTY_PATH)
		mount.Close()
		if err != nil {
			return mapped, unmount, os.NewSyscallError("move_mount", err)
		}
		points = append(points, point)
		f, err := os.OpenFile(point, unix.O_PATH|unix.O_DIRECTORY, 0)
		if err != nil {
			return mapped, unmount, err
		}
		mapped = append(mapped, f)
	}
	return mapped, unmount, nil
}

// LowerOption is the value of overlayfs' option lowerdir. The last of dirs refers to
// content in data; where there is data, the stubs at the end of dirs come first, to be
// out of the way.
func LowerOption(dirs, data []*os.File) string {
	var names, below []string
	for _, f := range dirs {
		names = append(names, fdPath(f))
	}
	for _, f := range data {
		below = append(below, "::"+fdPath(f))
	}
	if len(data) > 0 {
		last := len(names) - 1
		names = append(names[last:], names[:last]...)
	}
	return strings.Join(names, ":") + strings.Join(below, "")
}

func fdPath(f *os.File) string { return "/proc/self/fd/" + strconv.Itoa(int(f.Fd())) }

// Adopt gives what is in dir to uid and gid, but for directories that the tree like
// has too: they become as they are there, so that dir can be mounted on top of it.
func Adopt(dir, like string, uid, gid int) error {
	return filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if !e.IsDir() || unix.Lstat(filepath.Join(like, rel), &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFDIR {
			return os.Lchown(path, uid, gid)
		}
		if err := os.Lchown(path, int(st.Uid), int(st.Gid)); err != nil {
			return err
		}
		if err := unix.Chmod(path, st.Mode&0o7777); err != nil {
			return &fs.PathError{Op: "chmod", Path: path, Err: err}
		}
		return unix.UtimesNanoAt(unix.AT_FDCWD, path, []unix.Timespec{st.Atim, st.Mtim}, 0)
	})
}
