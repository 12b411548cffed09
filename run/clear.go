package run

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"cooper/run/internal/life"
	"cooper/run/internal/network"
	"cooper/run/internal/spawn"
)

// clearTime bounds the wait for killed processes to be gone.
const clearTime = 5 * time.Second

// clear ends what a killed monitor left running and removes what it made. Nobody
// else may be at it: the lock must be held.
func (c *Container) clear(st *State) error {
	if st.Status == StatusRestarting || c.opts().Runtime != "" {
		st.Cgroups = findCgroups(c.id) // it may have more than was written down
	}
	for _, dir := range st.Cgroups {
		thaw(dir) // what is frozen can't die
	}
	errs := []error{killProcess(st.PID, st.StartTime), c.deleteByCommand()}
	for _, dir := range st.Cgroups {
		errs = append(errs, removeCgroup(dir))
	}
	errs = append(errs, network.Clean(networkDir(), c.id, spawn.InUserNamespace()), c.removeRunDir())
	if err := errors.Join(errs...); err != nil {
		return c.fail("clear away what is left", err)
	}
	return nil
}

// cutShort reports whether a monitor was killed before it wrote down what it had
// made: it is named in the state of a container that does not run, or it has made its
// socket since that was written.
func (c *Container) cutShort(st *State) bool {
	if st.MonitorPID != 0 {
		return true
	}
	socket, err := os.Lstat(filepath.Join(c.RunDir(), life.SocketFile))
	if err != nil {
		return false
	}
	state, err := os.Lstat(filepath.Join(c.dir, stateFile))
	return err == nil && !state.ModTime().After(socket.ModTime())
}

// findCgroups finds the cgroups of a container by their name, wherever its monitor
// was started.
func findCgroups(id string) []string {
	var found []string
	// What can't be read holds none that this user could remove.
	_ = filepath.WalkDir("/sys/fs/cgroup", func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return nil
		}
		if d.Name() == "cooper-"+id {
			found = append(found, path)
			return fs.SkipDir
		}
		return nil
	})
	return found
}

// killProcess kills the process with this id, if it is still the one that started
// at that time, and waits for its end.
func killProcess(pid int, start uint64) error {
	if pid <= 0 {
		return nil
	}
	fd, err := unix.PidfdOpen(pid, 0)
	if err == unix.ESRCH {
		return nil
	}
	if err != nil {
		return fmt.Errorf("process %d: %w", pid, err)
	}
	defer unix.Close(fd)
	if t, err := life.StartTime(pid); err != nil || t != start {
		return nil // another one by now
	}
	if err := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); err != nil && err != unix.ESRCH {
		return fmt.Errorf("kill process %d: %w", pid, err)
	}
	return awaitExit(fd, clearTime)
}

// awaitExit waits for the end of the process of a pidfd.
func awaitExit(pidfd int, limit time.Duration) error {
	deadline := time.Now().Add(limit)
	for {
		left := time.Until(deadline)
		if left <= 0 {
			return errors.New("it does not end, although it was killed")
		}
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}, int(left.Milliseconds())+1)
		if n > 0 {
			return nil
		}
		if err != nil && err != unix.EINTR {
			return err
		}
	}
}

// removeCgroup kills what is in a cgroup and those below it, and removes them.
func removeCgroup(dir string) error {
	var last error
	for deadline := time.Now().Add(clearTime); time.Now().Before(deadline); time.Sleep(2 * time.Millisecond) {
		if err := killCgroup(dir); err != nil {
			return err
		}
		if last = removeCgroupTree(dir); !errors.Is(last, unix.EBUSY) {
			return last
		}
	}
	return last
}

// killCgroup sends SIGKILL to all processes in a cgroup and those below it. Cgroup
// v2 can do so at once.
func killCgroup(dir string) error {
	if writeControl(dir, "cgroup.kill", "1") == nil {
		return nil
	}
	return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil || d.Name() != "cgroup.procs" {
			return err
		}
		pids, err := os.ReadFile(path)
		if err != nil {
			return nil // removed meanwhile
		}
		for _, word := range strings.Fields(string(pids)) {
			if pid, err := strconv.Atoi(word); err == nil && pid > 0 {
				_ = unix.Kill(pid, unix.SIGKILL) // it may be gone
			}
		}
		return nil
	})
}

// thaw lets the processes in a cgroup go on.
func thaw(dir string) {
	for file, thawed := range map[string]string{"freezer.state": "THAWED", "cgroup.freeze": "0"} {
		_ = writeControl(dir, file, thawed) // one of them is there, if any
	}
}

// removeCgroupTree removes a cgroup and those below it.
func removeCgroupTree(dir string) error {
	thaw(dir)
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.IsDir() {
			if err := removeCgroupTree(filepath.Join(dir, e.Name())); err != nil {
				return err
			}
		}
	}
	if err := unix.Rmdir(dir); err != nil && err != unix.ENOENT {
		return fmt.Errorf("remove cgroup %s: %w", dir, err)
	}
	return nil
}

// writeControl writes to a control file of a cgroup.
func writeControl(dir, name, value string) error {
	f, err := os.OpenFile(filepath.Join(dir, name), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(value)
	return errors.Join(err, f.Close())
}
