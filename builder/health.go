package builder

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"

	"cooper/layers"
	"cooper/run"
)

// healthError is a container of the image that did not become healthy.
type healthError struct {
	err  error
	tail []string // of its output
}

func (e *healthError) Error() string { return e.err.Error() }
func (e *healthError) Unwrap() error { return e.err }

// testHealth starts the image as run would and waits until it is healthy. The
// container ends with this process, however that ends.
func (bd *build) testHealth(ctx context.Context, v *vertex, sn *layers.Snapshot, img dockerspec.DockerOCIImage) (err error) {
	health := run.ImageHealth(img.Config)
	if health == nil {
		return errors.New("the image has no health check: give it a HEALTHCHECK, or test it by a command")
	}
	if bd.o.Chroot {
		return errors.New("a health check needs a container, and --isolation chroot makes none: test by a command")
	}
	config := run.FromImage(img)
	if len(config.Args) == 0 {
		return errors.New("the image has no command to start: give it a CMD or ENTRYPOINT")
	}
	bd.o.surround(&config)
	config.Hostname = bd.o.Container.Hostname
	cs, err := run.OpenContainers(bd.b.Store)
	if err != nil {
		return err
	}
	rootfs, oci := sn.Rootfs(), bd.b.Runtime.OCI()
	c, err := cs.CreateToStart(ctx, run.ContainerOptions{
		Config: config, Health: health, Snapshot: &rootfs, Foreground: true, AutoRemove: true,
		NetworkMode: cmp.Or(bd.o.Network, "bridge"), Runtime: oci.Name, RuntimeFlags: oci.Flags,
	})
	if err != nil {
		return err
	}
	defer func() {
		removed := c.Remove(context.WithoutCancel(ctx), run.RemoveOptions{Force: true, Volumes: true})
		if !errors.Is(removed, run.ErrNoContainer) {
			err = errors.Join(err, removed)
		}
	}()
	return bd.untilHealthy(ctx, v, c)
}

// untilHealthy runs c until its health is known.
func (bd *build) untilHealthy(ctx context.Context, v *vertex, c *run.Container) error {
	tail := &tail{}
	out, err := newOutput(v, tail)
	if err != nil {
		return err
	}
	running, end := context.WithCancel(ctx)
	defer end()
	started, ended := make(chan struct{}), make(chan error, 1)
	var status run.Status
	go func() {
		var err error
		status, err = c.Run(running, run.Streams{
			Stdout: out.file, Stderr: out.file, OnStart: func(int) { close(started) },
		})
		ended <- err
	}()
	select {
	case <-started:
		err = c.AwaitHealth(ctx)
		end()
		endErr := <-ended
		if errors.Is(err, run.ErrNoContainer) { // it was gone before anybody could look
			err = fmt.Errorf("the container ended with exit code %d before it became healthy", status.ExitCode)
		}
		if endErr != nil && !errors.Is(endErr, context.Canceled) {
			err = errors.Join(err, endErr)
		}
	case err = <-ended:
		if err == nil {
			err = fmt.Errorf("the container ended with exit code %d before its health was checked", status.ExitCode)
		}
	}
	if closeErr := out.close(); err == nil {
		err = closeErr
	}
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	if err != nil {
		return &healthError{err: err, tail: tail.lines()}
	}
	return nil
}
