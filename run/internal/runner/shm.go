package runner

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

const shmPath = "/dev/shm"

// addSharedMemory mounts the /dev/shm of the container whose IPC namespace is
// joined: what programs share by name lies there. The files in it are not ours.
func (b *bundle) addSharedMemory() error {
	process := ""
	for _, n := range b.spec.Linux.Namespaces {
		if n.Type == specs.IPCNamespace {
			process, _ = strings.CutSuffix(n.Path, "/ns/ipc")
		}
	}
	taken := func(m specs.Mount) bool { return filepath.Clean(m.Destination) == shmPath }
	if process == "" || slices.ContainsFunc(b.spec.Mounts, taken) {
		return nil
	}
	tree, err := cloneTree(process, shmPath)
	if err != nil {
		return fmt.Errorf("share %s: %w", shmPath, err)
	}
	defer tree.Close()
	at := filepath.Join(b.dir, "shm")
	if err := os.Mkdir(at, 0o711); err != nil {
		return err
	}
	if err := unix.MoveMount(int(tree.Fd()), "", unix.AT_FDCWD, at, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return fmt.Errorf("share %s: %w", shmPath, os.NewSyscallError("move_mount", err))
	}
	m := bindFile(at, shmPath)
	m.Options = append(m.Options, "nosuid", "noexec", "nodev")
	b.spec.Mounts = append(b.spec.Mounts, m)
	b.undo = append(b.undo, func() error {
		_ = unix.Unmount(at, unix.MNT_DETACH) // the namespace's end does it too
		return nil
	})
	return nil
}

// cloneTree returns a mount of path as a process sees it, which is mounted nowhere
// yet. Only a member of that process's mount namespace can make it: a thread
// becomes one and ends.
func cloneTree(process, path string) (*os.File, error) {
	namespace, err := os.Open(filepath.Join(process, "ns/mnt"))
	if err != nil {
		return nil, err
	}
	defer namespace.Close()
	var fd int
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // for good: the main thread is not free, see init
		done <- func() (err error) {
			if err := unix.Unshare(unix.CLONE_FS); err != nil {
				return os.NewSyscallError("unshare", err)
			}
			if err := unix.Setns(int(namespace.Fd()), unix.CLONE_NEWNS); err != nil {
				return os.NewSyscallError("setns", err)
			}
			fd, err = unix.OpenTree(unix.AT_FDCWD, path, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_SYMLINK_NOFOLLOW)
			return os.NewSyscallError("open_tree", err)
		}()
	}()
	if err := <-done; err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), path), nil
}
