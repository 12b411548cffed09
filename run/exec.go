package run

import (
	"context"
	"fmt"
	"slices"

	"cooper/run/internal/life"
)

// ExecOptions say what a further process in a container should be. What is empty is
// as the container's first process has it.
type ExecOptions struct {
	Args []string
	// Env is added to the container's.
	Env  []string
	Dir  string
	User string
	// Privileged gives the process every right this user has.
	Privileged bool
	// Terminal gives it a terminal of its own.
	Terminal bool
}

// Exec runs a further process in a running container, with streams as its own, and
// returns how it ended. The error is a *StartError if it could not be started.
func (c *Container) Exec(ctx context.Context, o ExecOptions, streams Streams) (Status, error) {
	s, err := c.beginExec(o, &streams)
	if err != nil {
		return Status{}, &StartError{Code: 125, Err: err}
	}
	defer s.close()
	return s.follow(ctx)
}

// ExecDetached runs a further process that is left to itself, and returns when its
// program has been executed.
func (c *Container) ExecDetached(ctx context.Context, o ExecOptions) error {
	s, err := c.beginExec(o, &Streams{})
	if err != nil {
		return &StartError{Code: 125, Err: err}
	}
	defer s.close()
	return s.started(ctx)
}

func (c *Container) beginExec(o ExecOptions, streams *Streams) (*session, error) {
	conn, err := c.dial()
	if err != nil {
		return nil, err
	}
	s := &session{name: c.opts().Name, terminal: o.Terminal, streams: streams, direct: true}
	s.open(conn, nil)
	req, err := c.execRequest(&o)
	if err != nil {
		s.close()
		return nil, err
	}
	if o.Terminal {
		req.Width, req.Height = s.size()
	}
	files, err := s.giveStreams(&req.Stdio, nil)
	if err == nil {
		err = s.conn.Send(life.KindExec, req, files...)
	}
	if err != nil {
		s.close()
		return nil, fmt.Errorf("monitor of container %s: %w", c.opts().Name, err)
	}
	s.given()
	return s, nil
}

// execRequest is the monitor's form of o. Users are looked up as the container has
// them now.
func (c *Container) execRequest(o *ExecOptions) (*life.Exec, error) {
	tier, err := DetectTier()
	if err != nil {
		return nil, err
	}
	conf := c.opts().Config
	conf.Args, conf.Terminal = o.Args, o.Terminal
	// The specifications of its devices may be gone since it was started.
	if with, _, err := conf.withCDI(); err == nil {
		conf.Env, conf.GroupAdd = with.Env, with.GroupAdd
	}
	conf.Env = slices.Concat(conf.Env, o.Env)
	if conf.Hostname == "" && conf.hostname() == "" {
		conf.Hostname = c.id[:12]
	}
	if o.Dir != "" {
		conf.Dir = o.Dir
	}
	if o.User != "" {
		conf.User = o.User
	}
	if o.Privileged {
		conf.Privileged, conf.Seccomp = true, "unconfined"
	}
	// What follows concerns the first process alone.
	conf.Network, conf.PID, conf.IPC, conf.Mounts = "host", "", "", nil
	conf.CDIDevices = nil
	view, err := c.View()
	if err != nil {
		return nil, err
	}
	defer view.Close()
	spec, err := conf.Spec(view, tier)
	if err != nil {
		return nil, err
	}
	if c.opts().Runtime != "" {
		return &life.Exec{Process: spec.Process, Terminal: o.Terminal}, nil
	}
	stage, err := newStage(spec)
	if err != nil {
		return nil, err
	}
	stage.KeepDir = o.Dir != ""
	return &life.Exec{Stage: stage, Terminal: o.Terminal}, nil
}
