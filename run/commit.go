package run

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"

	"cooper/layers"
)

// CommitOptions say how a container becomes an image.
type CommitOptions struct {
	// Names are the image's; see layers.NormalizeName.
	Names []string
	// Author and Message go into the image's config and history.
	Author, Message string
	// Live leaves a running container running while its files are read;
	// otherwise it is paused.
	Live bool
	// DockerFormat writes docker's media types in place of OCI's.
	DockerFormat bool
	// Change changes the config, which is the image's with what the
	// container was made with; nil changes nothing.
	Change func(dockerspec.DockerOCIImage) (dockerspec.DockerOCIImage, error)
}

// Commit makes an image of what the container has written, on top of its image.
func (c *Container) Commit(ctx context.Context, o CommitOptions) (layers.Image, error) {
	img, err := c.commit(ctx, o)
	if err != nil {
		return img, fmt.Errorf("commit container %s: %w", c.opts().Name, err)
	}
	c.event("commit", map[string]string{"comment": o.Message, "imageID": "sha256:" + img.ID})
	return img, nil
}

func (c *Container) commit(ctx context.Context, o CommitOptions) (_ layers.Image, err error) {
	own, err := c.Layer()
	if err != nil {
		return layers.Image{}, err
	}
	config, err := c.imageConfig()
	if err != nil {
		return layers.Image{}, err
	}
	if o.Change != nil {
		if config, err = o.Change(config); err != nil {
			return layers.Image{}, err
		}
	}
	resume, err := c.hold(ctx, o.Live)
	if err != nil {
		return layers.Image{}, err
	}
	layer, err := own.Commit(ctx)
	if err := errors.Join(err, resume()); err != nil {
		return layers.Image{}, err
	}
	now := time.Now().UTC()
	config.Created = &now
	if o.Author != "" {
		config.Author = o.Author
	}
	config.History = append(slices.Clone(config.History), ocispec.History{
		Created: &now, CreatedBy: strings.Join(c.opts().Config.Args, " "), Author: o.Author, Comment: o.Message,
	})
	return c.cs.store.CreateImage(ctx, layers.ImageOptions{
		Names: o.Names, Layer: layer.ID, Config: config, DockerFormat: o.DockerFormat, Created: now,
	})
}

// hold pauses the container if it runs; resume lets it go on.
func (c *Container) hold(ctx context.Context, live bool) (resume func() error, err error) {
	nothing := func() error { return nil }
	if live {
		return nothing, nil
	}
	st, err := c.State()
	if err != nil || st.Status != StatusRunning {
		return nothing, err
	}
	if err := c.Pause(ctx); err != nil {
		if errors.Is(err, ErrNotRunning) {
			return nothing, nil
		}
		return nothing, err
	}
	return func() error { return c.Resume(context.WithoutCancel(ctx)) }, nil
}

// imageConfig is the config of the container's image with what the container was
// made with.
func (c *Container) imageConfig() (dockerspec.DockerOCIImage, error) {
	img, err := c.cs.store.Image(c.opts().ImageID)
	if err != nil {
		return dockerspec.DockerOCIImage{}, err
	}
	config := img.Config
	mine := &config.Config
	mine.Entrypoint, mine.Cmd, mine.Env = c.opts().Entrypoint, c.opts().Cmd, c.opts().Config.Env
	mine.User, mine.WorkingDir = c.opts().Config.User, c.opts().Config.Dir
	if c.opts().Config.StopSignal > 0 {
		mine.StopSignal = unix.SignalName(c.opts().Config.StopSignal)
	}
	mine.Labels = maps.Clone(mine.Labels)
	for name, value := range c.opts().Labels {
		if mine.Labels == nil {
			mine.Labels = make(map[string]string)
		}
		mine.Labels[name] = value
	}
	mine.ExposedPorts = maps.Clone(mine.ExposedPorts)
	for _, port := range c.opts().Exposed {
		if mine.ExposedPorts == nil {
			mine.ExposedPorts = make(map[string]struct{})
		}
		mine.ExposedPorts[port] = struct{}{}
	}
	return config, nil
}

// Changes lists what the container did to its image's files, without what was made
// only to mount something there. The error wraps layers.ErrNotFound if it has no
// layer of its own.
func (c *Container) Changes(ctx context.Context) ([]layers.Change, error) {
	own, err := c.Layer()
	if err != nil {
		return nil, err
	}
	return own.Changes(ctx)
}
