package run

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"cooper/run/internal/life"
)

// Conditions that Wait takes beside the Status constants.
const (
	// WaitNotRunning is fulfilled by a container that does not run.
	WaitNotRunning = "not-running"
	// WaitNextExit is fulfilled by the next end.
	WaitNextExit = "next-exit"
	// WaitRemoved is fulfilled when the container is gone.
	WaitRemoved = "removed"
	// WaitHealthy and WaitUnhealthy are about its health check.
	WaitHealthy   = "healthy"
	WaitUnhealthy = "unhealthy"
)

// ErrNeverHealthy is wrapped by the error of a wait for a container's health that
// will not come.
var ErrNeverHealthy = errors.New("the container does not become healthy")

// Watch calls f with the container's state, now and after every change, until f
// returns false or the container does not run any more, of which f is told too.
func (c *Container) Watch(ctx context.Context, f func(State) bool) error {
	conn, err := c.dial()
	if errors.Is(err, ErrNotRunning) {
		st, err := c.State()
		if err == nil {
			f(st)
		}
		return err
	}
	if err != nil {
		return err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	if err := conn.Send(life.KindWatch, nil); err != nil {
		return fmt.Errorf("monitor of container %s: %w", c.opts().Name, err)
	}
	last := State{Status: StatusRunning}
	for {
		m, err := conn.Recv()
		if cause := context.Cause(ctx); cause != nil {
			return cause
		}
		if err != nil {
			break
		}
		if err := m.Decode(&last); err != nil {
			return err
		}
		m.Close()
		if !f(last) {
			return nil
		}
	}
	if !last.Alive() {
		return nil
	}
	// It was killed: what is true now is found out without it.
	st, err := c.State()
	if err == nil {
		f(st)
	}
	return err
}

// Wait waits until the container fulfils a condition, one of the Wait constants or
// a Status, and returns its exit code. A container that is removed meanwhile has
// fulfilled every condition about its end; its exit code is the last one seen.
func (c *Container) Wait(ctx context.Context, condition string) (exitCode int, err error) {
	fulfilled, err := waitCondition(condition)
	if err != nil {
		return 0, err
	}
	w := &waiting{c: c, condition: condition, fulfilled: fulfilled}
	if done, err := w.look(ctx); err != nil || done {
		return w.code, err
	}
	// It does not run: its directory tells when it is started or removed.
	changes, err := watchDir(ctx, c.dir)
	if errors.Is(err, fs.ErrNotExist) {
		_, err = w.look(ctx)
		return w.code, err
	}
	if err != nil {
		return w.code, err
	}
	defer changes.Close()
	for {
		done, err := w.look(ctx)
		if err != nil || done {
			return w.code, err
		}
		if _, err := changes.Read(make([]byte, 4096)); err != nil {
			return w.code, errors.Join(context.Cause(ctx), err)
		}
	}
}

// watchDir opens a file that can be read when something in dir has changed or dir
// is gone; reading fails when ctx has ended.
func watchDir(ctx context.Context, dir string) (*os.File, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("watch: %w (sysctl fs.inotify.max_user_instances says how many may do so at once)", os.NewSyscallError("inotify_init1", err))
	}
	f := os.NewFile(uintptr(fd), "inotify")
	if _, err := unix.InotifyAddWatch(fd, dir, unix.IN_MOVED_TO|unix.IN_DELETE|unix.IN_DELETE_SELF|unix.IN_ONLYDIR); err != nil {
		f.Close()
		return nil, &fs.PathError{Op: "watch", Path: dir, Err: err}
	}
	context.AfterFunc(ctx, func() { f.SetReadDeadline(time.Now()) })
	return f, nil
}

// waiting is one call of Wait.
type waiting struct {
	c         *Container
	condition string
	fulfilled func(*State) bool
	first     *State
	code      int
}

// look watches the container as long as it runs.
func (w *waiting) look(ctx context.Context) (done bool, err error) {
	var never error
	err = w.c.Watch(ctx, func(st State) bool {
		w.code = st.ExitCode
		if w.first == nil {
			first := st
			w.first = &first
		}
		if w.condition == WaitNextExit {
			done = st.Finished.After(w.first.Finished)
		} else {
			done = w.fulfilled(&st)
		}
		if !done {
			never = w.hopeless(&st)
		}
		return !done && never == nil
	})
	if errors.Is(err, ErrNoContainer) {
		if w.condition == WaitRemoved || w.condition == WaitNotRunning || w.condition == WaitNextExit || w.condition == StatusExited {
			return true, nil
		}
		return false, err
	}
	return done, errors.Join(err, never)
}

// hopeless says why a wait for health is in vain.
func (w *waiting) hopeless(st *State) error {
	if w.condition != WaitHealthy && w.condition != WaitUnhealthy {
		return nil
	}
	switch {
	case !st.Alive() && !st.Started.IsZero():
		return fmt.Errorf("%w: it has ended with exit code %d", ErrNeverHealthy, st.ExitCode)
	case st.Running() && st.Health == nil:
		return fmt.Errorf("%w: it has no health check", ErrNeverHealthy)
	}
	return nil
}

// waitCondition is the test that a condition is.
func waitCondition(condition string) (func(*State) bool, error) {
	switch condition {
	case "", WaitNotRunning, "stopped":
		return func(s *State) bool { return !s.Alive() }, nil
	case WaitNextExit:
		return nil, nil
	case WaitRemoved:
		return func(*State) bool { return false }, nil
	case WaitHealthy, WaitUnhealthy:
		return func(s *State) bool { return s.Running() && s.Health != nil && s.Health.Status == condition }, nil
	case StatusCreated, StatusRunning, StatusPaused, StatusRestarting, StatusExited:
		return func(s *State) bool { return s.Status == condition }, nil
	}
	return nil, fmt.Errorf("invalid condition: %q: want not-running, next-exit, removed, healthy, unhealthy, or a state such as running", condition)
}
