package run

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"cooper/run/internal/life"
)

// The files in a container's directory.
const (
	optionsFile = "options.json"
	stateFile   = "state.json"
)

// Exit codes of containers whose end nobody saw.
const (
	exitKilled   = 128 + 9 // its monitor was killed, and it with it
	exitRebooted = 255
)

// errDamaged says that a file is not what was written.
var errDamaged = errors.New("damaged file")

// errLocked says that a container's monitor lives, or that a command is at work
// on it.
var errLocked = errors.New("the container is in use")

// State returns the container's present state. Of a container whose monitor is
// gone it first clears away what is left, removing it if it is to be removed in
// the end: then the error wraps ErrNoContainer.
func (c *Container) State() (State, error) {
	st, err := c.readState()
	if err != nil || !st.Alive() && st.MonitorPID == 0 && !c.abandoned(&st) {
		return st, err
	}
	locked, err := c.locked()
	if err != nil || locked {
		return st, err
	}
	return c.settle()
}

// abandonedAfter is how long the end of a container that is to be removed may be
// past until others remove it: who was there for the end does so at once.
const abandonedAfter = 10 * time.Second

// abandoned reports whether c ended and nobody has removed it, though it was to be;
// or whether the command that alone could have started it may be gone.
func (c *Container) abandoned(st *State) bool {
	return c.neverRan(st) || c.opts().AutoRemove && st.Status == StatusExited && time.Since(st.Finished) > abandonedAfter
}

// neverRan reports whether c is not to outlive the command that made it, and has not
// been started by that.
func (c *Container) neverRan(st *State) bool {
	return c.opts().Foreground && st.Status == StatusCreated
}

// readState returns what state.json says.
func (c *Container) readState() (State, error) {
	var st State
	err := readJSON(filepath.Join(c.dir, stateFile), &st)
	if errors.Is(err, errDamaged) {
		// The machine crashed before it was on disk.
		return State{Status: StatusExited, ExitCode: exitRebooted, Error: "its state was lost: " + err.Error()}, nil
	}
	return st, c.fail("state", err)
}

// writeState replaces state.json. Only who holds the lock may do so.
func (c *Container) writeState(st State) error {
	return c.fail("state", writeJSON(filepath.Join(c.dir, stateFile), st))
}

// fail says what could not be done with c. That its options are gone means that the
// container is.
func (c *Container) fail(doing string, err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, fs.ErrNotExist) {
		if _, statErr := os.Lstat(filepath.Join(c.dir, optionsFile)); statErr != nil {
			return fmt.Errorf("%w: %s", ErrNoContainer, c.id)
		}
	}
	return fmt.Errorf("%s of container %s: %w", doing, c.opts().Name, err)
}

func readJSON(path string, v any) error {
	text, err := readFile(path)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(text, v); err != nil {
		return fmt.Errorf("%w: %s: %w", errDamaged, path, err)
	}
	return nil
}

// readFile reads a small file. It takes three system calls where os.ReadFile takes
// ten: lists of many containers read many files.
func readFile(path string) ([]byte, error) {
	fd, err := openFile(path)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	text := make([]byte, 0, 4096)
	for {
		n, err := unix.Read(fd, text[len(text):cap(text)])
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			return nil, &fs.PathError{Op: "read", Path: path, Err: err}
		}
		text = text[:len(text)+n]
		if len(text) < cap(text) {
			return text, nil // of a regular file, that was all
		}
		text = slices.Grow(text, cap(text))
	}
}

// openFile opens a file for reading.
func openFile(path string) (int, error) {
	for {
		fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err == nil {
			return fd, nil
		}
		if err != unix.EINTR {
			return -1, &fs.PathError{Op: "open", Path: path, Err: err}
		}
	}
}

// writeJSON replaces the file at path in one step.
func writeJSON(path string, v any) error { return replaceFile(path, v, false) }

// writeDurable is writeJSON for what is to outlive a crash of the machine from now
// on.
func writeDurable(path string, v any) error { return replaceFile(path, v, true) }

func replaceFile(path string, v any, durable bool) error {
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	part := path + "." + strconv.Itoa(os.Getpid())
	f, err := os.OpenFile(part, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	if err == nil && durable {
		err = f.Sync()
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return errors.Join(err, os.Remove(part))
	}
	return os.Rename(part, path)
}

// lock takes the container's lock, which its monitor holds as long as it lives,
// until the file is closed everywhere it was handed to. The error is errLocked
// if somebody else has it.
//
// It is a lock of the open file (F_OFD_SETLK), so that it goes with the file
// through fork and over sockets, and that others can look without touching it.
func (c *Container) lock() (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(c.dir, life.LockFile), os.O_RDWR, 0)
	if err != nil {
		return nil, c.fail("lock", err)
	}
	err = unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_WRLCK})
	if err != nil {
		f.Close()
		if err == unix.EAGAIN || err == unix.EACCES {
			err = errLocked
		}
		return nil, c.fail("lock", err)
	}
	// Who removed the container held the lock meanwhile.
	if _, err := os.Lstat(f.Name()); err != nil {
		f.Close()
		return nil, c.fail("lock", err)
	}
	return f, nil
}

// locked reports whether somebody holds the lock.
func (c *Container) locked() (bool, error) {
	fd, err := openFile(filepath.Join(c.dir, life.LockFile))
	if err != nil {
		return false, c.fail("lock", err)
	}
	defer unix.Close(fd)
	l := unix.Flock_t{Type: unix.F_WRLCK}
	if err := unix.FcntlFlock(uintptr(fd), unix.F_OFD_GETLK, &l); err != nil {
		return false, c.fail("lock", err)
	}
	return l.Type != unix.F_UNLCK, nil
}

// settle makes the state of a container without a monitor true.
func (c *Container) settle() (State, error) {
	lock, err := c.lock()
	if errors.Is(err, errLocked) {
		return c.readState() // somebody else does it, or starts it
	}
	if err != nil {
		return State{}, err
	}
	defer lock.Close()
	st, err := c.settleLocked()
	if err != nil || !c.neverRan(&st) && (!c.opts().AutoRemove || st.Status != StatusExited) {
		return st, err
	}
	if err := c.erase(RemoveOptions{Volumes: true}); err != nil {
		return st, err
	}
	return st, fmt.Errorf("%w: %s", ErrNoContainer, c.opts().Name)
}

// settleLocked is settle for who holds the lock.
func (c *Container) settleLocked() (State, error) {
	st, err := c.readState()
	if err != nil || !st.Alive() && !c.cutShort(&st) {
		return st, err
	}
	if !st.Alive() {
		if err := c.clear(&State{Cgroups: findCgroups(c.id)}); err != nil {
			return st, err
		}
		st.MonitorPID, st.NetworkPath, st.Networks, st.Ports = 0, "", nil, nil
		return st, c.writeState(st)
	}
	boot := bootID()
	if st.BootID == boot {
		if err := c.clear(&st); err != nil {
			// It is neither running nor gone; the next who looks tries again.
			st.Status, st.Error = StatusDead, err.Error()
			return st, err
		}
	}
	st.ExitCode = exitKilled
	if st.BootID != boot {
		st.ExitCode = exitRebooted
	}
	st.Status, st.Finished = StatusExited, time.Now()
	st.PID, st.StartTime, st.MonitorPID = 0, 0, 0
	st.Networks, st.Ports, st.NetworkPath, st.Cgroups = nil, nil, "", nil
	if err := c.writeState(st); err != nil {
		return st, err
	}
	c.event("die", map[string]string{"exitCode": strconv.Itoa(st.ExitCode)})
	return st, nil
}

// bootID tells this boot of the machine from others.
func bootID() string {
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return string(bytes.TrimSpace(id))
}
