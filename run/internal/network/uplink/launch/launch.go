// Package launch starts a user's network process, with its program embedded in the
// commands where the runner is (build tag embedrunner, see package spawn).
package launch

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"

	"cooper/layers"
	"cooper/run/internal/network/uplink"
	"cooper/run/internal/spawn"
)

// Start makes sure that the network process of a run directory runs, and uses it
// until the caller closes the Hold. A process that joins before that finds it
// running. This process is in the user's namespace.
func Start(runDir string) (*uplink.Hold, error) {
	if err := os.MkdirAll(runDir, 0o700); err != nil {
		return nil, err
	}
	lock, err := openLock(runDir)
	if err != nil {
		return nil, err
	}
	defer lock.Close()
	for err = unix.EINTR; err == unix.EINTR; {
		err = unix.Flock(int(lock.Fd()), unix.LOCK_EX)
	}
	if err != nil {
		return nil, os.NewSyscallError("flock", err)
	}
	hold, err := uplink.Join(runDir)
	if errors.Is(err, uplink.ErrNotRunning) {
		if err = start(runDir); err == nil {
			hold, err = uplink.Join(runDir)
		}
	}
	if err != nil {
		return nil, err
	}
	if err := check(hold); err != nil {
		return nil, errors.Join(err, hold.Close())
	}
	return hold, nil
}

func openLock(runDir string) (*os.File, error) {
	return os.OpenFile(filepath.Join(runDir, uplink.LockName), os.O_CREATE|os.O_RDWR, 0o600)
}

// start starts the process. The lock is held. Its socket exists before it does, so
// that it can be joined at once.
func start(runDir string) error {
	listener, err := uplink.Listen(runDir)
	if err != nil {
		return fmt.Errorf("start network process: %w", err)
	}
	defer listener.Close()
	socket, err := listener.File()
	if err != nil {
		return fmt.Errorf("start network process: %w", err)
	}
	defer socket.Close()
	lock, err := openLock(runDir)
	if err != nil {
		return err
	}
	defer lock.Close()
	program, err := spawn.InMemory("cooper-network", openProgram)
	if err != nil {
		return err
	}
	defer program.Close()
	// In a mount namespace of its own, which it empties, and in a session of its
	// own: it outlives this command.
	cmd := exec.Cmd{
		Path:        "/proc/self/fd/5",
		Args:        []string{"cooper-network"},
		Env:         []string{uplink.Env + "=" + runDir},
		Dir:         "/",
		ExtraFiles:  []*os.File{uplink.ListenerFD - 3: socket, uplink.LockFD - 3: lock, 2: program},
		SysProcAttr: &syscall.SysProcAttr{Setsid: true, Cloneflags: unix.CLONE_NEWNS},
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start network process: %w", err)
	}
	return errors.Join(layers.KeepUserNamespace(cmd.Process.Pid), cmd.Process.Release())
}

// check finds out whether this process has rights over the namespace.
func check(hold *uplink.Hold) error {
	fd, err := unix.IoctlRetInt(int(hold.Namespace.Fd()), unix.NS_GET_USERNS)
	if err != nil {
		return fmt.Errorf("network process: %w", os.NewSyscallError("ioctl(NS_GET_USERNS)", err))
	}
	defer unix.Close(fd)
	var owner, own unix.Stat_t
	if err := unix.Fstat(fd, &owner); err != nil {
		return err
	}
	if err := unix.Stat("/proc/self/ns/user", &own); err != nil {
		return err
	}
	if owner.Ino != own.Ino {
		return errors.New("network process: it belongs to another user namespace, made for other ids than /etc/subuid has now: stop the containers that run, then try again")
	}
	return nil
}
