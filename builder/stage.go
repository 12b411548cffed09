package builder

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"cooper/builder/remote"
	"cooper/dockerfile"
	"cooper/layers"
)

// position is where a stage stands: the key that names its content so far and
// the layer that holds it, as far as that is there.
type position struct {
	key digest.Digest
	// parent is the layer, or the commit that is making it. It is nil for
	// an empty root and while base is set.
	parent layers.Parent
	// base is set until the first step that needs the base's files: its
	// layers may not have been fetched yet. from is what the display
	// calls the fetching.
	base *image
	from string
}

// stage runs the steps of one stage of the plan.
type stage struct {
	*build
	spec *dockerfile.Stage
	// tree copies the base when that is files rather than an image.
	tree *dockerfile.Step
	// done is closed when the stage has ended; at, history and err are
	// its goroutine's until then and read-only afterwards.
	done    chan struct{}
	at      position
	history []pendingHistory
	err     error
}

// pendingHistory is a history entry whose creation time is known when its
// layer is.
type pendingHistory struct {
	ocispec.History
	commit *layers.Commit
}

func newStage(b *build, spec *dockerfile.Stage) *stage {
	s := &stage{build: b, spec: spec, done: make(chan struct{})}
	if req := spec.Base.Image; req != nil && isTree(b.o, req.Context) {
		s.tree = &dockerfile.Step{
			Name: s.fromName(), CreatedBy: "FROM " + req.Context, Location: spec.Location,
			Op: &dockerfile.Copy{From: dockerfile.Source{Named: req, Stage: -1}, Sources: []string{"/"}, Dest: "/"},
		}
	}
	return s
}

func isMetadata(op dockerfile.Op) bool {
	_, ok := op.(*dockerfile.Metadata)
	return ok
}

// run executes the stage and closes done.
func (s *stage) run(ctx context.Context) error {
	defer close(s.done)
	s.err = s.execute(ctx)
	return s.err
}

func (s *stage) execute(ctx context.Context) error {
	for _, id := range s.spec.After {
		if err := s.stages[id].wait(ctx); err != nil {
			return err
		}
	}
	if err := s.enter(ctx); err != nil {
		return err
	}
	for i := range s.spec.Steps {
		st := &s.spec.Steps[i]
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		if err := s.step(ctx, st); err != nil {
			return s.stepError(ctx, st, err)
		}
	}
	return nil
}

// enter puts the stage on its base.
func (s *stage) enter(ctx context.Context) error {
	base := s.spec.Base
	switch {
	case base.Image != nil:
		return s.enterImage(ctx)
	case base.Scratch:
	default:
		below := s.stages[base.Stage]
		if err := below.wait(ctx); err != nil {
			return err
		}
		s.at = below.at
		s.history = append(s.history, below.history...)
	}
	return nil
}

// enterImage puts the stage on an image, or on a directory that a named
// context gives in its place.
func (s *stage) enterImage(ctx context.Context) error {
	if s.tree != nil {
		return s.step(ctx, s.tree)
	}
	img, err := s.images.get(ctx, *s.spec.Base.Image)
	if err != nil {
		return err
	}
	s.at = position{key: img.chain, base: img, from: s.fromName()}
	s.history = append(s.history, historyOf(img.config.History)...)
	if img.here() && img.shown.CompareAndSwap(false, true) {
		s.report.startNode(s.fromName(), s.nodes[img.request]).end(true, -1, nil)
	}
	return nil
}

// fromName is what the display calls the stage's base.
func (s *stage) fromName() string {
	req := s.spec.Base.Image
	if req.Context != "" {
		return contextName(s.o, req.Context)
	}
	return cmp.Or(s.spec.Base.Name, "FROM "+req.Ref)
}

// contextName is what the display calls a named context.
func contextName(o *Options, name string) string {
	return fmt.Sprintf("[context %s] %s", name, remote.RedactURL(o.NamedContexts[name]))
}

func historyOf(h []ocispec.History) []pendingHistory {
	out := make([]pendingHistory, len(h))
	for i := range h {
		out[i].History = h[i]
	}
	return out
}

// wait blocks until the stage has ended and returns its error.
func (s *stage) wait(ctx context.Context) error {
	select {
	case <-s.done:
		return s.err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// step executes one step.
func (s *stage) step(ctx context.Context, st *dockerfile.Step) error {
	if isMetadata(st.Op) {
		s.record(st, time.Time{}, nil)
		return nil
	}
	if err := s.await(ctx, st.Op); err != nil {
		return err
	}
	if err := s.jobs.enter(ctx); err != nil {
		return err
	}
	defer s.jobs.leave()
	v := s.report.startNode(st.Name, s.nodes[st])
	out, err := s.layerStep(ctx, v, st)
	if err == nil {
		s.record(st, out.created, out.commit)
		s.at = out.at
	}
	v.end(out.cached, out.size, err)
	return err
}

// await waits for the stages that op reads from, so that the time of the step is
// its own.
func (s *stage) await(ctx context.Context, op dockerfile.Op) error {
	for _, f := range sourcesOf(op) {
		if f.Scratch || f.Context || f.Named != nil || f.Image != nil {
			continue
		}
		if err := s.stages[f.Stage].wait(ctx); err != nil {
			return err
		}
	}
	return nil
}

// record appends the step's history entry. Its time is that of the layer when
// the layer came from the cache, and that of the commit otherwise.
func (s *stage) record(st *dockerfile.Step, created time.Time, c *layers.Commit) {
	if st.CreatedBy == "" {
		return
	}
	if !s.epoch.IsZero() {
		created = s.epoch
	}
	h := ocispec.History{CreatedBy: st.CreatedBy, Comment: st.Comment, EmptyLayer: st.EmptyLayer}
	if !created.IsZero() {
		h.Created = &created
	}
	s.history = append(s.history, pendingHistory{History: h, commit: c})
}

// outcome is what a step that makes a layer comes to.
type outcome struct {
	at      position
	created time.Time
	commit  *layers.Commit // nil when the layer came from a record
	cached  bool
	size    int64 // of the layer in bytes, -1 while unknown
}

// work is one kind of step that makes a layer.
type work interface {
	// inputs digests what the step reads beside its parent; "" for
	// nothing.
	inputs(ctx context.Context) (digest.Digest, error)
	// lazy reports that inputs costs as much as the work itself and that
	// do finds the same digest on the way.
	lazy() bool
	// do makes the step's changes in sn. For lazy work it returns what
	// inputs would have.
	do(ctx context.Context, v *vertex, sn *layers.Snapshot) (digest.Digest, error)
}

// layerStep finds the step's layer in the cache or makes it.
func (s *stage) layerStep(ctx context.Context, v *vertex, st *dockerfile.Step) (outcome, error) {
	w, err := s.work(v, st)
	if err != nil {
		return outcome{size: -1}, err
	}
	if linked(st.Op) && s.b.Store.DriverName() == "overlay" {
		return s.linkStep(ctx, v, w, st.Op)
	}
	step, err := stepKey(s.at.key, s.o.named(st.Op))
	if err != nil {
		return outcome{size: -1}, err
	}
	step = s.timed(step, st.Op)
	if w.lazy() && (s.noCache() || !s.seen(step)) {
		return s.flights.do(ctx, lazyKey(step, st.Op), func() (outcome, error) { return s.make(ctx, v, w, step, "") })
	}
	in, err := w.inputs(ctx)
	if err != nil {
		return outcome{size: -1}, err
	}
	key := withInputs(step, in)
	return s.flights.do(ctx, key, func() (outcome, error) {
		if out, ok := s.lookup(key); ok {
			return out, nil
		}
		return s.make(ctx, v, w, step, key)
	})
}

// lookup finds the record of a step done before.
func (s *stage) lookup(key layers.Key) (outcome, bool) {
	if s.noCache() {
		return outcome{}, false
	}
	rec, ok := s.b.Store.Lookup(key)
	if !ok || s.o.CacheTTL > 0 && time.Since(rec.Created) > s.o.CacheTTL {
		return outcome{}, false
	}
	layer, err := s.b.Store.Layer(rec.Layer)
	if err != nil {
		return outcome{}, false
	}
	return outcome{
		at:      position{key: digest.Digest(key), parent: layer},
		created: rec.Created, cached: true, size: layer.Size,
	}, true
}

// make executes w on a fresh snapshot and commits it in the background.
func (s *stage) make(ctx context.Context, v *vertex, w work, step digest.Digest, key layers.Key) (outcome, error) {
	out := outcome{size: -1}
	if s.runs {
		s.b.Runtime.Start()
	}
	parent, err := s.parent(ctx)
	if err != nil {
		return out, err
	}
	sn, err := s.prepare(ctx, parent)
	if err != nil {
		return out, err
	}
	in, err := w.do(ctx, v, sn)
	if err != nil {
		return out, joinRemove(err, sn)
	}
	if key == "" {
		key = withInputs(step, in)
	}
	out.commit = sn.Commit(s.lastCalls.context(ctx))
	if s.rewrites() { // the next step must not see times that are to change
		if _, err := out.commit.Wait(ctx); err != nil {
			return out, err
		}
	}
	out.created = time.Now().UTC()
	out.at = position{key: digest.Digest(key), parent: out.commit}
	s.keep(v, out.commit, step, key, out.created)
	return out, nil
}

func joinRemove(err error, sn *layers.Snapshot) error {
	if rerr := sn.Remove(); rerr != nil {
		return fmt.Errorf("%w (and removing the snapshot: %w)", err, rerr)
	}
	return err
}

// parent returns what the next snapshot stands on, fetching the base if this
// is the first step that needs its files. Of a stage that is done it may be
// called by others, concurrently.
func (s *stage) parent(ctx context.Context) (layers.Parent, error) {
	if s.at.base == nil {
		return s.at.parent, nil
	}
	id, err := s.at.base.top(ctx, s.build, s.at.from)
	if err != nil || id == "" {
		return nil, err
	}
	return s.b.Store.Layer(id)
}

// view returns the files of the stage as it stands.
func (s *stage) view(ctx context.Context) (*layers.View, error) {
	p, err := s.parent(ctx)
	if err != nil {
		return nil, err
	}
	return viewOf(s.b.Store, p)
}

func viewOf(store *layers.Store, p layers.Parent) (*layers.View, error) {
	switch p := p.(type) {
	case nil:
		return store.View("")
	case layers.Layer:
		return store.View(p.ID)
	case *layers.Commit:
		return p.View()
	}
	return nil, fmt.Errorf("no view of %T", p)
}
