package builder

import (
	"context"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"cooper/dockerfile"
	"cooper/layers"
)

// build makes the image for one platform.
type build struct {
	*session
	platform ocispec.Platform
	plan     *dockerfile.Plan
	stages   []*stage
	sources  *sources
	// epoch is SOURCE_DATE_EPOCH; zero is none.
	epoch time.Time
	// finished is what the target has come to, see finish.
	finished *layers.ImageOptions
}

// Build builds o and returns the image, or for several platforms the index of
// the images. On error nothing of the build is left but cache records of the steps
// that were done. Errors in the Dockerfile are *dockerfile.Error, failed steps
// *StepError. Cancelling ctx kills running steps and returns context.Cause(ctx).
func (b *Builder) Build(ctx context.Context, o Options) (*Result, error) {
	o.fill()
	s, err := b.newSession(ctx, &o)
	if err != nil {
		return nil, err
	}
	defer s.close()
	defer s.lastCalls.watch(ctx)()
	if err := s.plan(ctx); err != nil {
		return nil, err
	}
	if err := s.run(ctx); err != nil {
		return nil, err
	}
	result, err := s.export(ctx)
	if err != nil {
		return nil, err
	}
	result.Warnings = s.warnings()
	return result, nil
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

// lazyKey identifies a step whose inputs are digested on the way only, within one
// session: there the same directory always has the same files.
func lazyKey(step digest.Digest, op dockerfile.Op) layers.Key {
	k := newKey("lazy")
	k.text(string(step))
	if c, ok := op.(*dockerfile.Copy); ok && c.From.Named != nil {
		k.text(c.From.Named.Context)
	}
	return layers.Key(k.sum())
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
