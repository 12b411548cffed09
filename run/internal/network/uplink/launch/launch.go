// Package launch starts a user's network process, with its program embedded in the
// commands where the runner is (build tag embedrunner, see package spawn).
package launch

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"cooper/layers"
	"cooper/run/internal/network/uplink"
	"cooper/run/internal/spawn"
)

// Start makes sure that the network process of a run directory runs, and uses it
// until the caller closes the Hold. This process is in the user's namespace.
func Start(runDir string) (*uplink.Hold, error) {
	if err := makeOwn(runDir); err != nil {
		return nil, err
	}
	hold, err := uplink.Start(runDir, uplink.StartOptions{
		Program: func() (*os.File, error) { return spawn.InMemory("cooper-network", openProgram) },
		Started: func(pid int) error {
			leaveService(pid)
			return layers.KeepUserNamespace(pid)
		},
	})
	if err != nil {
		return nil, fmt.Errorf("%w (with --network host or none a container does without)", err)
	}
	if err := check(hold); err != nil {
		return nil, errors.Join(err, hold.Close())
	}
	return hold, nil
}

// makeOwn makes a directory that only this user writes to: what is found there is
// executed. It may lie in /tmp.
func makeOwn(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	var st unix.Stat_t
	if err := unix.Lstat(dir, &st); err != nil {
		return &os.PathError{Op: "lstat", Path: dir, Err: err}
	}
	if int(st.Uid) != os.Geteuid() || st.Mode&0o022 != 0 || st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return fmt.Errorf("directory %s can be written to by others: remove it, or set XDG_RUNTIME_DIR", dir)
	}
	return nil
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
