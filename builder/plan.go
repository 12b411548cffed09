package builder

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"

	"github.com/containerd/platforms"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"cooper/dockerfile"
)

// maxPlanRounds bounds how often resolved images may name further ones: a
// base's ONBUILD triggers are the only way, and they can't nest.
const maxPlanRounds = 8

// asked is what a plan is wanted for beside a build.
type asked struct{ allStages, outline, multiPlatform bool }

// plan parses the Dockerfile for a target platform and resolves every image config it needs, all
// that are known to be missing at once.
func (b *Builder) plan(ctx context.Context, o *Options, target ocispec.Platform, im *images, ask asked) (*dockerfile.Plan, error) {
	file, err := dockerfile.Parse(o.DockerfileName, o.Dockerfile)
	if err != nil {
		return nil, err
	}
	contexts := maps.Clone(o.NamedContexts)
	known := map[dockerfile.ImageRequest]*dockerspec.DockerOCIImage{}
	var epoch *int64
	epochAsked := false
	for range maxPlanRounds {
		plan, err := file.Plan(dockerfile.PlanOptions{
			Target:         o.Target,
			BuildArgs:      o.BuildArgs,
			Labels:         o.Labels,
			BuildPlatform:  platforms.DefaultSpec(),
			TargetPlatform: target,
			MultiPlatform:  ask.multiPlatform,
			Contexts:       contexts,
			Images:         known,
			Network:        o.Network,
			Ignore:         o.Ignore,
			Epoch:          epoch,
			Edits:          o.Edits,
			BuildUnused:    o.BuildUnused,
			AllStages:      ask.allStages,
			Outline:        ask.outline,
		})
		if err != nil {
			return plan, err // it has the warnings up to there
		}
		im.learn(file, plan)
		if plan.Epoch != nil && plan.Epoch.Seconds == nil && !epochAsked {
			if epoch, err = b.findEpoch(ctx, o, plan.Epoch); err != nil {
				return nil, err
			}
			if epochAsked = true; epoch != nil {
				continue
			}
		}
		if len(plan.Missing) == 0 {
			return plan, resolveAll(ctx, im, plan, sourceImages(o, plan, known), known)
		}
		if err := resolveAll(ctx, im, plan, plan.Missing, known); err != nil {
			return plan, err // as above
		}
	}
	return nil, errors.New("the base images' ONBUILD triggers name ever more images")
}

// sourceImages lists the images that steps of plan read files from. Nothing in
// the plan depends on them, but a misspelled name shall not be found out after
// the steps before it have run.
func sourceImages(o *Options, plan *dockerfile.Plan, known map[dockerfile.ImageRequest]*dockerspec.DockerOCIImage) (more []dockerfile.ImageRequest) {
	for _, use := range plan.Images {
		if _, ok := known[use.Request]; !ok && !isTree(o, use.Request.Context) {
			more = append(more, use.Request)
		}
	}
	return more
}

// resolveAll finds the configs of images of plan concurrently and adds them to
// known.
func resolveAll(ctx context.Context, im *images, plan *dockerfile.Plan, requests []dockerfile.ImageRequest, known map[dockerfile.ImageRequest]*dockerspec.DockerOCIImage) error {
	var mu sync.Mutex
	g, ctx := errgroup.WithContext(ctx)
	for _, r := range requests {
		g.Go(func() error {
			config, err := im.config(ctx, r)
			mu.Lock()
			defer mu.Unlock()
			known[r] = config
			return im.o.locate(plan, r, err)
		})
	}
	return g.Wait()
}

// locate adds the line that asks for the image r to err.
func (o *Options) locate(plan *dockerfile.Plan, r dockerfile.ImageRequest, err error) error {
	if err == nil {
		return nil
	}
	for _, use := range plan.Images {
		if use.Request == r {
			if !use.Base && r.Context == "" {
				err = fmt.Errorf("no stage or build context is called %q, and as an image: %w", use.Name, err)
			}
			return &dockerfile.Error{File: o.DockerfileName, Source: o.Dockerfile, Location: use.Location, Err: err}
		}
	}
	return err
}
