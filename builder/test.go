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

// test runs Options.Tests on the finished image.
func (bd *build) test(ctx context.Context) error {
	if len(bd.o.Tests) == 0 {
		return nil
	}
	img, err := bd.finish(ctx)
	if err != nil {
		return err
	}
	for _, command := range bd.o.Tests {
		name := "[test] " + command
		if len(bd.builds) > 1 {
			name = "[" + label(bd.platform) + " test] " + command
		}
		v := bd.report.start(name)
		c := bd.testConfig(img, command)
		err := bd.testError(ctx, command, c.Args, bd.testOne(ctx, v, img, c))
		v.end(false, -1, err)
		if err != nil {
			return err
		}
	}
	return nil
}

// checkTests finds out before anything is built that this machine cannot run the
// image's programs.
func (bd *build) checkTests() error {
	spec := bd.target().spec
	if len(bd.o.Tests) == 0 || bd.baseImage(spec) == nil {
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

// testOne runs one test on a fresh snapshot of the image.
func (bd *build) testOne(ctx context.Context, v *vertex, img layers.ImageOptions, c *run.Config) (err error) {
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
	view, err := sn.View()
	if err != nil {
		return err
	}
	defer view.Close()
	if limit := bd.o.TestTimeout; limit > 0 {
		var stop context.CancelFunc
		ctx, stop = context.WithTimeoutCause(ctx, limit, &timeoutError{limit})
		defer stop()
	}
	return bd.execute(ctx, v, run.Task{Rootfs: sn.Rootfs(), View: view, Config: c})
}

// timeoutError is why a test that took too long was ended.
type timeoutError struct{ limit time.Duration }

func (e *timeoutError) Error() string { return fmt.Sprintf("not done within %s", e.limit) }

// testError describes a test that failed like a step, but one that stands in no
// Dockerfile. What cancelled the build from outside stays as it is.
func (bd *build) testError(ctx context.Context, command string, args []string, err error) error {
	if err == nil || ctx.Err() != nil && errors.Is(err, context.Cause(ctx)) {
		return err
	}
	e := &StepError{File: bd.o.DockerfileName, Step: "[test] " + command, Command: args, Err: err}
	var failed *commandError
	if errors.As(err, &failed) {
		e.Err, e.ExitCode, e.OOMKilled, e.Tail = nil, failed.status.ExitCode, failed.status.OOMKilled, failed.tail
	}
	return fmt.Errorf("test: %w", e)
}
