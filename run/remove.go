package run

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"cooper/run/internal/life"
)

// ErrRunning is wrapped by the error of what needs a container that does not run.
var ErrRunning = errors.New("the container is running")

// RemoveOptions say how a container is removed.
type RemoveOptions struct {
	// Force kills a container that runs. Without it that is an error.
	Force bool
	// Volumes removes its anonymous volumes too, those of a container with
	// AutoRemove in any case.
	Volumes bool
}

// removeTime bounds the wait for a killed container's monitor to end by itself,
// and for another command to be done with the container.
const removeTime = 10 * time.Second

// Remove removes the container and all that belongs to it. The error wraps
// ErrRunning if it runs and ErrNoContainer if somebody removed it first.
func (c *Container) Remove(ctx context.Context, o RemoveOptions) error {
	var err error
	lock := c.held.Swap(nil)
	if lock == nil {
		lock, err = c.lock()
	}
	if errors.Is(err, errLocked) {
		lock, err = c.lockToRemove(ctx, o)
	}
	if err != nil {
		return err
	}
	defer lock.Close()
	if _, err := c.settleLocked(); err != nil {
		return err
	}
	return c.erase(o)
}

// lockToRemove takes the lock of a container that somebody has: its monitor, which
// is ended if that is wanted, or a command, which will be done with it soon.
func (c *Container) lockToRemove(ctx context.Context, o RemoveOptions) (*os.File, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, removeTime, fmt.Errorf("remove container %s: another command is at work on it: try again later", c.opts().Name))
	defer cancel()
	for {
		st, err := c.readState()
		if err != nil {
			return nil, err
		}
		if st.Alive() {
			if !o.Force {
				return nil, fmt.Errorf("cannot remove container %s: %w: stop it first, or use -f", c.opts().Name, ErrRunning)
			}
			if err := c.end(ctx, st); err != nil {
				return nil, err
			}
		}
		lock, err := c.lock()
		if !errors.Is(err, errLocked) {
			return lock, err
		}
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// end ends a container at once. A monitor that does not do so is ended itself, and
// takes the container with it.
func (c *Container) end(ctx context.Context, st State) error {
	asked, cancel := context.WithTimeout(ctx, clearTime)
	defer cancel()
	err := c.tell(asked, life.KindStop, life.Stop{Signal: int(syscall.SIGKILL)})
	if err == nil || errors.Is(err, ErrNoContainer) {
		return err
	}
	return c.killMonitor(st)
}

// killMonitor kills the monitor, if it is still the one of that state.
func (c *Container) killMonitor(st State) error {
	fd, err := unix.PidfdOpen(st.MonitorPID, 0)
	if err == unix.ESRCH {
		return nil
	}
	if err != nil {
		return c.fail("kill the monitor", err)
	}
	defer unix.Close(fd)
	// It is the same, and holds the lock.
	if now, err := c.readState(); err != nil || now.MonitorPID != st.MonitorPID || !now.Alive() {
		return err
	}
	if locked, err := c.locked(); err != nil || !locked {
		return err
	}
	if err := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); err != nil && err != unix.ESRCH {
		return c.fail("kill the monitor", err)
	}
	return awaitExit(fd, clearTime)
}

// erase removes a container that does not run. The lock must be held.
func (c *Container) erase(o RemoveOptions) error {
	if err := c.removeLayer(); err != nil {
		return err
	}
	if err := c.removeRunDir(); err != nil {
		return c.fail("remove", err)
	}
	// From here on it does not exist; List sweeps what may be left.
	if err := os.Remove(filepath.Join(c.dir, optionsFile)); err != nil {
		return c.fail("remove", err)
	}
	c.event("destroy", nil)
	if o.Volumes || c.opts().AutoRemove {
		if err := c.removeVolumes(); err != nil {
			return c.fail("remove", err)
		}
	}
	if err := c.cs.release(c.opts().Name, c.id); err != nil {
		return c.fail("remove", err)
	}
	return c.fail("remove", c.removeDir())
}

func (c *Container) removeLayer() error {
	if err := c.forgetIDs(); err != nil {
		return c.fail("remove", err)
	}
	if c.opts().ID != "" && !c.kept() {
		return nil
	}
	return c.cs.store.RemoveContainerLayer(c.id)
}
