package run

import (
	"context"
	"errors"
	"fmt"
	"os"
	"reflect"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"cooper/run/internal/life"
	"cooper/run/internal/wire"
)

// request sends a short request to the monitor and waits for the answer. When ctx
// ends first the monitor still does what was asked.
func (c *Container) tell(ctx context.Context, kind wire.Kind, body any) error {
	conn, err := c.dial()
	if err != nil {
		return err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	if err := c.ask(conn, kind, body, nil); err != nil {
		if cause := context.Cause(ctx); cause != nil {
			return cause
		}
		return err
	}
	return nil
}

// Signal sends a signal to the container's first process. The error wraps
// ErrNotRunning if there is none.
func (c *Container) Signal(ctx context.Context, s syscall.Signal) error {
	return c.tell(ctx, life.KindKill, life.Kill{Signal: int(s)})
}

// StopOptions say how a container is stopped.
type StopOptions struct {
	// Grace is how long its first process may take to end before it is
	// killed; nil means the container's own StopTimeout, a negative one for
	// ever.
	Grace *time.Duration
	// Signal asks it to end; 0 means the container's own, SIGTERM if it has
	// none.
	Signal syscall.Signal
}

// stop is the monitor's form of o.
func (c *Container) stop(o StopOptions) life.Stop {
	s := life.Stop{Grace: defaultStopTimeout, Signal: int(o.Signal)}
	switch {
	case o.Grace != nil:
		s.Grace = *o.Grace
	case c.opts().StopTimeout != nil:
		s.Grace = *c.opts().StopTimeout
	}
	return s
}

// Stop ends the container for good and returns when it has ended, and is removed if
// it was to be. That it does not run is no error.
func (c *Container) Stop(ctx context.Context, o StopOptions) error {
	err := c.tell(ctx, life.KindStop, c.stop(o))
	switch {
	case errors.Is(err, ErrNotRunning) || errors.Is(err, ErrNoContainer):
		return nil
	case err != nil:
		return err
	}
	return c.finish(ctx)
}

// Kill sends SIGKILL to the container's first process and returns when it has ended,
// and is removed if it was to be. The error wraps ErrNotRunning if it does not run.
func (c *Container) Kill(ctx context.Context) error {
	if err := c.Signal(ctx, unix.SIGKILL); err != nil {
		return err
	}
	if _, err := c.Wait(ctx, WaitNotRunning); err != nil {
		return err
	}
	return c.finish(ctx)
}

// finish removes a container that has ended, if it was to be. Its monitor does that
// too, when the command that started it is gone, but nobody waits for that.
func (c *Container) finish(ctx context.Context) error {
	if !c.opts().AutoRemove || c.opts().Foreground {
		return nil
	}
	err := c.Remove(ctx, RemoveOptions{Volumes: true})
	if errors.Is(err, ErrNoContainer) {
		return nil
	}
	return err
}

// Restart stops the container and starts it again; one that does not run is
// started. It returns when its program has been executed.
func (c *Container) Restart(ctx context.Context, o StopOptions) error {
	if c.opts().Foreground {
		return fmt.Errorf("container %s ends with the command that runs it: stop it and run it again", c.opts().Name)
	}
	err := c.tell(ctx, life.KindRestart, c.stop(o))
	if errors.Is(err, ErrNotRunning) {
		return c.Start(ctx)
	}
	return err
}

// Pause stops all processes of the container until Resume.
func (c *Container) Pause(ctx context.Context) error { return c.tell(ctx, life.KindPause, nil) }

// Resume lets the processes of a paused container go on.
func (c *Container) Resume(ctx context.Context) error { return c.tell(ctx, life.KindResume, nil) }

// Root opens the root directory of a running container, as its processes see it,
// with everything that is mounted there. The error wraps ErrNotRunning if it does
// not run. The caller closes the file, which can be used with openat2 only.
func (c *Container) Root(ctx context.Context) (*os.File, error) {
	conn, err := c.dial()
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	var root *os.File
	err = c.ask(conn, life.KindRoot, nil, func(files []*os.File) {
		if len(files) == 1 {
			root = files[0]
		}
	})
	if err == nil && root == nil {
		err = fmt.Errorf("monitor of container %s: no directory in its answer", c.opts().Name)
	}
	return root, err
}

// Check runs the container's health check now and returns its result.
func (c *Container) Check(ctx context.Context) (HealthResult, error) {
	conn, err := c.dial()
	if err != nil {
		return HealthResult{}, err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	if err := c.ask(conn, life.KindCheck, nil, nil); err != nil {
		return HealthResult{}, err
	}
	m, err := conn.Recv()
	if err != nil {
		return HealthResult{}, fmt.Errorf("monitor of container %s: %w", c.opts().Name, err)
	}
	var st State
	if err := m.Decode(&st); err != nil {
		return HealthResult{}, err
	}
	if st.Health == nil || len(st.Health.Log) == 0 {
		return HealthResult{}, fmt.Errorf("container %s: %w", c.opts().Name, ErrNotRunning)
	}
	return st.Health.Log[len(st.Health.Log)-1], nil
}

// Update changes the limits of the container and its restart policy, nil meaning no
// change: at once if it runs, and for every start after this. change is called with
// the config as it is, and changes the limits in it.
func (c *Container) Update(ctx context.Context, change func(*Config) error, restart *RestartPolicy) error {
	var u life.Update
	return c.edit(func(o *ContainerOptions) error {
		if restart != nil {
			if o.AutoRemove && restart.Name != "" && restart.Name != "no" {
				return errors.New("restart policy cannot be updated because AutoRemove is enabled for the container")
			}
			o.Restart, u.Restart = *restart, restart
		}
		if change == nil {
			return nil
		}
		before, err := o.Config.resources()
		if err != nil {
			return err
		}
		if err := change(&o.Config); err != nil {
			return err
		}
		t, err := DetectTier()
		if err != nil {
			return err
		}
		if t.Cgroup == 0 && o.Config.limited() {
			return errNoLimits
		}
		after, err := o.Config.resources()
		if !reflect.DeepEqual(before, after) {
			u.Resources = after
		}
		return err
	}, func() error {
		err := c.tell(ctx, life.KindUpdate, u)
		if errors.Is(err, ErrNotRunning) {
			return nil
		}
		return err
	})
}
