package builder

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"cooper/layers"
	"cooper/run"
)

// test tests the finished image as the options say.
func (bd *build) test(ctx context.Context) error {
	if !bd.tested() {
		return nil
	}
	img, err := bd.finish(ctx)
	if err != nil {
		return err
	}
	for _, command := range bd.o.Tests {
		c := bd.testConfig(img, command)
		err := bd.testOne(ctx, img, trial{command, c.Args, func(ctx context.Context, v *vertex, sn *layers.Snapshot) error {
			return bd.testCommand(ctx, v, sn, c)
		}})
		if err != nil {
			return err
		}
	}
	if bd.o.TestHealth {
		return bd.testOne(ctx, img, trial{"health check", nil, func(ctx context.Context, v *vertex, sn *layers.Snapshot) error {
			return bd.testHealth(ctx, v, sn, img.Config)
		}})
	}
	return nil
}

// tested reports whether there is anything to test.
func (bd *build) tested() bool { return len(bd.o.Tests) > 0 || bd.o.TestHealth }

// checkTests finds out before anything is built that this machine cannot run the
// image's programs.
func (bd *build) checkTests() error {
	spec := bd.target().spec
	if !bd.tested() || bd.baseImage(spec) == nil {
		return nil
	}
	if err := run.CheckPlatform(spec.Config.Platform); err != nil {
		return fmt.Errorf("test: %w", err)
	}
	return nil
}

// testConfig is a container of the image that runs command in place of the
// image's own.
func (bd *build) testConfig(img layers.ImageOptions, command string) *run.Config {
	c := run.FromImage(img.Config)
	shell := img.Config.Config.Shell
	if len(shell) == 0 {
		shell = []string{"/bin/sh", "-c"}
	}
	c.Args = append(slices.Clone(shell), command)
	c.Hostname = cmp.Or(bd.o.Container.Hostname, sandboxHostname)
	c.Network = network(bd.o.Network)
	bd.o.surround(&c)
	return &c
}

// trial is one test of the image, on a snapshot of its own.
type trial struct {
	name string
	args []string // of the process; nil for the image's own
	do   func(context.Context, *vertex, *layers.Snapshot) error
}

// testOne does one test and reports it.
func (bd *build) testOne(ctx context.Context, img layers.ImageOptions, t trial) error {
	name := "[test] " + t.name
	if len(bd.builds) > 1 {
		name = "[" + label(bd.platform) + " test] " + t.name
	}
	v := bd.report.start(name)
	err := bd.testError(ctx, name, t.args, bd.onSnapshot(ctx, v, img, t.do))
	v.end(false, -1, err)
	return err
}

// onSnapshot calls do with a fresh snapshot of the image, for no longer than tests
// may take.
func (bd *build) onSnapshot(ctx context.Context, v *vertex, img layers.ImageOptions, do func(context.Context, *vertex, *layers.Snapshot) error) (err error) {
	if img.Layer == "" {
		return errors.New("the image has no files to run a command from")
	}
	layer, err := bd.b.Store.Layer(img.Layer)
	if err != nil {
		return err
	}
	sn, err := bd.b.Store.Prepare(ctx, layer)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, sn.Remove()) }()
	if limit := bd.o.TestTimeout; limit > 0 {
		var stop context.CancelFunc
		ctx, stop = context.WithTimeoutCause(ctx, limit, &timeoutError{limit})
		defer stop()
	}
	return do(ctx, v, sn)
}

// testCommand runs a command in a container of the image.
func (bd *build) testCommand(ctx context.Context, v *vertex, sn *layers.Snapshot, c *run.Config) error {
	view, err := sn.View()
	if err != nil {
		return err
	}
	defer view.Close()
	return bd.execute(ctx, v, run.Task{Rootfs: sn.Rootfs(), View: view, Config: c})
}

// timeoutError is why a test that took too long was ended.
type timeoutError struct{ limit time.Duration }

func (e *timeoutError) Error() string { return fmt.Sprintf("not done within %s", e.limit) }

// testError describes a test that failed like a step, but one that stands in no
// Dockerfile. What cancelled the build from outside stays as it is.
func (bd *build) testError(ctx context.Context, name string, args []string, err error) error {
	if err == nil || ctx.Err() != nil && errors.Is(err, context.Cause(ctx)) {
		return err
	}
	e := &StepError{File: bd.o.DockerfileName, Step: name, Command: args, Err: err}
	var failed *commandError
	var ill *healthError
	switch {
	case errors.As(err, &failed):
		e.Err, e.ExitCode, e.OOMKilled, e.Tail = nil, failed.status.ExitCode, failed.status.OOMKilled, failed.tail
	case errors.As(err, &ill):
		e.Tail = ill.tail
	}
	return fmt.Errorf("test: %w", e)
}
