package builder

import (
	"context"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"

	"cooper/dockerfile"
	"cooper/layers"
)

// build is one call of Build.
type build struct {
	b         *Builder
	o         *Options
	report    *reporter
	images    *images
	stages    []*stage
	sources   *sources
	flights   flights
	elsewhere *elsewhere
	jobs      jobs
	runs      bool // some step runs a process
	// epoch is SOURCE_DATE_EPOCH; zero is none.
	epoch time.Time

	// commits are the layers being digested in the background; the build
	// ends when they are done, its cache records included.
	commits errgroup.Group
}

// Build builds o and returns the image. On error nothing of the build is left
// but cache records of the steps that were done. Errors in the Dockerfile are
// *dockerfile.Error, failed steps *StepError. Cancelling ctx kills running
// steps and returns context.Cause(ctx).
func (b *Builder) Build(ctx context.Context, o Options) (*Result, error) {
	o.fill()
	report := &reporter{fn: b.Events, next: int(b.opened.Swap(0))}
	bd := &build{b: b, o: &o, report: report, images: newImages(b, &o, report)}
	plan, err := b.plan(ctx, &o, bd.images, asked{})
	if plan != nil {
		bd.warn(plan)
	}
	if err != nil {
		return nil, err
	}
	if err := o.entitled(plan); err != nil {
		return nil, err
	}
	bd.sources = newSources(bd)
	bd.elsewhere = newElsewhere(bd)
	bd.jobs = newJobs(o.Jobs)
	bd.setEpoch(plan)
	defer bd.elsewhere.close()
	defer bd.sources.close()
	for _, spec := range plan.Stages {
		bd.stages = append(bd.stages, newStage(bd, spec))
	}
	bd.runs = needsRuntime(plan)
	err = bd.runStages(ctx)
	if cerr := bd.commits.Wait(); err == nil {
		err = cerr
	}
	if err == nil {
		err = bd.saveStages(ctx)
	}
	if err != nil {
		return nil, err
	}
	result, err := bd.export(ctx)
	if err != nil {
		return nil, err
	}
	result.Warnings = plan.Warnings
	return result, nil
}

// runStages runs every stage in a goroutine of its own. The first failure
// cancels the others; all have ended when it returns.
func (bd *build) runStages(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	for _, s := range bd.stages {
		g.Go(func() error { return s.run(ctx) })
	}
	return g.Wait()
}

// needsRuntime reports whether any step runs a process: then the runner starts
// with the first step that is not in the cache, whatever that is.
func needsRuntime(p *dockerfile.Plan) bool {
	for _, s := range p.Stages {
		for _, st := range s.Steps {
			if _, ok := st.Op.(*dockerfile.Run); ok {
				return true
			}
		}
	}
	return false
}

// warn reports what the plan has to say before anything runs.
func (bd *build) warn(p *dockerfile.Plan) {
	for _, w := range p.Warnings {
		detail := w.Description + "\n"
		if w.URL != "" {
			detail += "More info: " + w.URL + "\n"
		}
		detail += dockerfile.Excerpt(bd.o.DockerfileName, bd.o.Dockerfile, w.Location)
		bd.report.send(Event{Kind: Warning, Message: w.String(), Detail: detail})
	}
	for _, name := range p.UnusedBuildArgs {
		bd.report.send(Event{Kind: Warning, Message: "[Warning] One or more build-args [" + name + "] were not consumed"})
	}
	for _, name := range p.Skipped {
		bd.report.send(Event{Kind: Skipped, Name: name, Message: "stage " + name + " is not needed for the target"})
	}
}

// keep waits for the commit in the background and then records it under its
// key, so that the next build finds it.
func (bd *build) keep(v *vertex, c *layers.Commit, step digest.Digest, key layers.Key, created time.Time) {
	bd.commits.Go(func() error {
		layer, err := c.Wait(context.Background())
		if err != nil {
			return err
		}
		v.send(Event{Kind: Committed, LayerBytes: layer.Size})
		err = bd.b.Store.PutRecord(layers.Record{
			Key: key, Layer: layer.ID, DiffID: layer.DiffID, Step: v.name,
			Created: created, Size: layer.Size,
		})
		if err != nil {
			return err
		}
		return bd.b.Store.PutRecord(layers.Record{Key: layers.Key(step), Step: v.name, Created: created, Value: []byte(key)})
	})
}

// seen reports whether a step with this key was ever done, with whatever
// inputs: if not, digesting its inputs can find nothing.
func (bd *build) seen(step digest.Digest) bool {
	_, ok := bd.b.Store.Lookup(layers.Key(step))
	return ok
}

// flights lets steps with the same key in several stages run once.
type flights struct {
	mu   sync.Mutex
	byID map[layers.Key]*flight
}

type flight struct {
	done chan struct{}
	out  outcome
	err  error
}

// do calls fn unless another stage is at the same step already; then it waits
// for that one and shares its outcome.
func (f *flights) do(ctx context.Context, key layers.Key, fn func() (outcome, error)) (outcome, error) {
	f.mu.Lock()
	if fl, ok := f.byID[key]; ok {
		f.mu.Unlock()
		select {
		case <-fl.done:
			return fl.out, fl.err
		case <-ctx.Done():
			return outcome{size: -1}, context.Cause(ctx)
		}
	}
	fl := &flight{done: make(chan struct{})}
	if f.byID == nil {
		f.byID = map[layers.Key]*flight{}
	}
	f.byID[key] = fl
	f.mu.Unlock()
	fl.out, fl.err = fn()
	close(fl.done)
	return fl.out, fl.err
}
