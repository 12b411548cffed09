package builder

import (
	"context"

	"github.com/opencontainers/go-digest"

	"cooper/dockerfile"
	"cooper/layers"
)

// linked reports whether op makes a layer that is independent of those below
// it. As with BuildKit, --chmod takes that away.
func linked(op dockerfile.Op) bool {
	c, ok := op.(*dockerfile.Copy)
	return ok && c.Link && c.Chmod == ""
}

// linkStep is layerStep for a linked op: its key has no parent in it, and a
// record for another parent is as good.
func (s *stage) linkStep(ctx context.Context, v *vertex, w work, op dockerfile.Op) (outcome, error) {
	step, err := stepKey("", s.o.named(op))
	if err != nil {
		return outcome{size: -1}, err
	}
	step = s.timed(step, op)
	if w.lazy() && (s.o.NoCache || !s.seen(step)) {
		return s.flights.do(ctx, withInputs(s.at.key, digest.Digest(lazyKey(step, op))), func() (outcome, error) {
			out, err := s.make(ctx, v, w, step, "")
			return s.onto(out), err
		})
	}
	in, err := w.inputs(ctx)
	if err != nil {
		return outcome{size: -1}, err
	}
	key := withInputs(step, in)
	flight := withInputs(s.at.key, digest.Digest(key)) // on this parent
	return s.flights.do(ctx, flight, func() (outcome, error) {
		out, ok := s.lookup(key)
		if ok {
			out, err = s.rebase(ctx, out)
		} else {
			out, err = s.make(ctx, v, w, step, key)
		}
		return s.onto(out), err
	})
}

// onto makes the key of a linked layer that of the stage with the layer on it.
func (s *stage) onto(out outcome) outcome {
	k := newKey("link")
	k.text(string(s.at.key))
	k.text(string(out.at.key))
	out.at.key = k.sum()
	return out
}

// rebase puts the layer of a record onto the stage.
func (s *stage) rebase(ctx context.Context, out outcome) (outcome, error) {
	parent, err := s.parent(ctx)
	if err != nil {
		return out, err
	}
	below, err := settled(ctx, parent)
	if err != nil {
		return out, err
	}
	layer, err := out.at.parent.Wait(ctx)
	if err != nil {
		return out, err
	}
	if layer, err = s.b.Store.Rebase(ctx, layer.ID, below.ID); err != nil {
		return out, err
	}
	out.at.parent = layers.Parent(layer)
	return out, nil
}
