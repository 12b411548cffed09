package builder

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"sync"

	"github.com/containerd/platforms"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"cooper/dockerfile"
)

// multiPlatformArg is the build argument that makes an index even for a single
// platform.
const multiPlatformArg = "BUILDKIT_MULTI_PLATFORM"

// session is one call of Build: what its builds, one for each platform, have
// together.
type session struct {
	b         *Builder
	o         *Options
	report    *reporter
	images    *images
	opened    *opened
	flights   flights
	elsewhere *elsewhere
	jobs      jobs
	renewed   renewed
	lastCalls lastCalls
	runs      bool // some step runs a process
	index     bool // the result is an index
	builds    []*build
	// warned are the warnings that were shown; others come from the plan for
	// another platform.
	warned map[string]bool
	// nodes numbers what the plans hold, see graph.
	nodes map[any]int
	// tierSaid: see sayTier.
	tierSaid sync.Once

	// commits are the layers being digested in the background; the session
	// ends when they are done, its cache records included.
	commits errgroup.Group
}

// newSession starts a session, which the caller closes. It reads what o asks for,
// and runs nothing.
func (b *Builder) newSession(ctx context.Context, o *Options) (*session, error) {
	report := &reporter{fn: b.Events, next: int(b.opened.Swap(0))}
	s := &session{b: b, o: o, report: report, images: newImages(b, o, report), jobs: newJobs(o.Jobs), warned: map[string]bool{}}
	s.opened = newOpened(b.Store)
	s.elsewhere = newElsewhere(s)
	if o.AllPlatforms {
		found, err := b.basePlatforms(ctx, o, s.images)
		if err != nil {
			return nil, err
		}
		o.Platforms = found
	}
	s.index = len(o.Platforms) > 1
	if value, ok := o.BuildArgs[multiPlatformArg]; ok {
		always, err := strconv.ParseBool(value)
		if err != nil {
			return nil, fmt.Errorf("invalid boolean value for build argument %s: %q", multiPlatformArg, value)
		}
		s.index = s.index || always
	}
	for _, out := range o.Outputs {
		o.RewriteTimestamp = o.RewriteTimestamp || out.RewriteTimestamp
		out.Annotations = slices.Concat(o.Annotations, out.Annotations)
		if err := out.CheckPlatforms(o.Platforms, s.index); err != nil {
			return nil, err
		}
	}
	for _, p := range o.Platforms {
		s.builds = append(s.builds, &build{session: s, platform: p})
	}
	return s, nil
}

// close releases what the session has opened.
func (s *session) close() {
	s.elsewhere.close()
	s.opened.close()
}

// plan plans for every platform and checks what can be checked.
func (s *session) plan(ctx context.Context) error {
	plans, errs := s.plans(ctx)
	for i, bd := range s.builds {
		plan := plans[i]
		if plan != nil {
			s.warn(plan, i == 0)
		}
		if errs[i] != nil {
			return errs[i]
		}
		if err := s.o.entitled(plan); err != nil {
			return err
		}
		bd.sources = &sources{bd: bd, opened: s.opened}
		bd.plan = plan
		for _, spec := range plan.Stages {
			bd.stages = append(bd.stages, newStage(bd, spec))
		}
		s.runs = s.runs || needsRuntime(plan)
		bd.setEpoch(plan)
	}
	for _, bd := range s.builds {
		if err := bd.checkForeign(); err != nil {
			return err
		}
	}
	s.announce()
	return nil
}

// plans makes the plans for all platforms at once: each may have to ask registries.
func (s *session) plans(ctx context.Context) ([]*dockerfile.Plan, []error) {
	plans, errs := make([]*dockerfile.Plan, len(s.builds)), make([]error, len(s.builds))
	var wg sync.WaitGroup
	for i, bd := range s.builds {
		wg.Go(func() {
			plans[i], errs[i] = s.b.plan(ctx, s.o, bd.platform, s.images, asked{multiPlatform: len(s.builds) > 1})
		})
	}
	wg.Wait()
	return plans, errs
}

// run runs every stage of every platform in a goroutine of its own. The first
// failure cancels the others; all have ended when it returns.
func (s *session) run(ctx context.Context) error {
	g, stagesCtx := errgroup.WithContext(ctx)
	for _, bd := range s.builds {
		for _, st := range bd.stages {
			g.Go(func() error { return st.run(stagesCtx) })
		}
	}
	err := g.Wait()
	if commitErr := s.commits.Wait(); err == nil {
		err = commitErr
	}
	for _, bd := range s.builds {
		if err == nil {
			err = bd.test(ctx)
		}
	}
	for _, bd := range s.builds {
		if err == nil {
			err = bd.saveStages(ctx)
		}
	}
	return err
}

// warn reports what a plan has to say before anything runs. Unused arguments and
// skipped stages are those of the first platform.
func (s *session) warn(p *dockerfile.Plan, first bool) {
	for _, w := range p.Warnings {
		detail := w.Description + "\n"
		if w.URL != "" {
			detail += "More info: " + w.URL + "\n"
		}
		detail += dockerfile.Excerpt(s.o.DockerfileName, s.o.Dockerfile, w.Location)
		if key := w.String() + detail; !s.warned[key] {
			s.warned[key] = true
			check := &Check{Warning: w, File: s.o.DockerfileName, Source: s.o.Dockerfile}
			s.report.send(Event{Kind: Warning, Message: w.String(), Detail: detail, Check: check})
		}
	}
	if !first {
		return
	}
	for _, name := range p.UnusedBuildArgs {
		s.report.send(Event{Kind: Warning, Message: "[Warning] One or more build-args [" + name + "] were not consumed"})
	}
	for _, name := range p.Skipped {
		s.report.send(Event{Kind: Skipped, Name: name, Message: "stage " + name + " is not needed for the target"})
	}
}

// warnings are the checks that the plans did not pass, each once.
func (s *session) warnings() (all []dockerfile.Warning) {
	seen := map[string]bool{}
	for _, bd := range s.builds {
		for _, w := range bd.plan.Warnings {
			if key := fmt.Sprint(w); !seen[key] {
				seen[key] = true
				all = append(all, w)
			}
		}
	}
	return all
}

// label names a platform in messages and the display.
func label(p ocispec.Platform) string { return platforms.FormatAll(platforms.Normalize(p)) }
