package builder

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/containerd/platforms"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"cooper/dockerfile"
	"cooper/registry"
)

// basePlatforms lists the platforms that all base images have, in the order of
// the first one's. Bases whose FROM fixes another platform don't count.
func (b *Builder) basePlatforms(ctx context.Context, o *Options, im *images) ([]ocispec.Platform, error) {
	plan, err := b.plan(ctx, o, platforms.DefaultSpec(), im, asked{})
	if err != nil {
		return nil, err
	}
	var common []ocispec.Platform
	first := true
	for _, use := range plan.Images {
		if !use.Base || use.Fixed || isTree(o, use.Request.Context) {
			continue
		}
		found, err := im.platforms(ctx, use.Request)
		if err != nil {
			return nil, o.locate(plan, use.Request, err)
		}
		if first {
			common, first = found, false
			continue
		}
		common = slices.DeleteFunc(common, func(p ocispec.Platform) bool {
			return !slices.ContainsFunc(found, func(q ocispec.Platform) bool { return label(p) == label(q) })
		})
	}
	switch {
	case first:
		return nil, errors.New("--all-platforms needs a base image that has platforms: name them with --platform")
	case len(common) == 0:
		return nil, errors.New("the base images have no platform in common: name the platforms with --platform")
	}
	return common, nil
}

// platforms lists what the image for r is for, wherever it is.
func (im *images) platforms(ctx context.Context, r dockerfile.ImageRequest) ([]ocispec.Platform, error) {
	name, _, err := im.source(r)
	if err != nil {
		return nil, err
	}
	ref, err := registry.ParseReference(name)
	if err != nil {
		return nil, err
	}
	found, err := im.b.Registry.Platforms(ctx, ref)
	if err == nil {
		return found, nil
	}
	if ref.IsRegistry() {
		// It may have been built here and be nowhere else.
		for _, here := range []string{"containers-storage:" + ref.Name(), "containers-storage:localhost/" + shortOf(ref)} {
			stored, parseErr := registry.ParseReference(here)
			if parseErr != nil {
				continue
			}
			if found, storeErr := im.b.Registry.Platforms(ctx, stored); storeErr == nil {
				return found, nil
			}
		}
	}
	return nil, fmt.Errorf("%s: %w", name, err)
}

// shortOf is ref's name without docker.io, as an image built here has it.
func shortOf(ref registry.Reference) string {
	short, _ := ref.ShortName()
	return short
}
