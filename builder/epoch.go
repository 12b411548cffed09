package builder

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"cooper/builder/remote"
	"cooper/dockerfile"
	"cooper/layers"
)

// setEpoch takes the time that the build pretends to happen at: what the
// options say, else SOURCE_DATE_EPOCH.
func (bd *build) setEpoch(p *dockerfile.Plan) {
	switch {
	case bd.o.Timestamp != nil:
		bd.epoch = bd.o.Timestamp.UTC()
	case p.Epoch != nil && p.Epoch.Seconds != nil:
		bd.epoch = time.Unix(*p.Epoch.Seconds, 0).UTC()
	}
	if bd.o.RewriteTimestamp && bd.epoch.IsZero() && bd == bd.builds[0] {
		bd.report.send(Event{Kind: Warning, Message: "rewrite-timestamp is specified, but no source-date-epoch was found"})
	}
}

// now is the time for what the build makes up: directories, heredocs, entries
// of the history.
func (bd *build) now() time.Time {
	if !bd.epoch.IsZero() {
		return bd.epoch
	}
	return time.Now().UTC()
}

// rewrites reports that files of new layers are clamped to the epoch.
func (bd *build) rewrites() bool { return bd.o.RewriteTimestamp && !bd.epoch.IsZero() }

// timed adds to a step's key the time that its layer depends on: that of made up
// directories, and of everything when times are rewritten.
func (bd *build) timed(step digest.Digest, op dockerfile.Op) digest.Digest {
	_, isRun := op.(*dockerfile.Run)
	if bd.epoch.IsZero() || isRun && !bd.rewrites() {
		return step
	}
	k := newKey("epoch")
	k.text(string(step))
	k.text(strconv.FormatInt(bd.epoch.UnixNano(), 10))
	k.text(strconv.FormatBool(bd.rewrites()))
	return k.sum()
}

// prepare makes a snapshot whose files the epoch clamps, if that is asked for.
func (bd *build) prepare(ctx context.Context, parent layers.Parent) (*layers.Snapshot, error) {
	sn, err := bd.b.Store.Prepare(ctx, parent)
	if err == nil && bd.rewrites() {
		sn.Clamp(bd.epoch)
	}
	return sn, err
}

// clampHistory lets no entry be newer than the epoch; those of the base are
// older as a rule and stay.
func (bd *build) clampHistory(h []ocispec.History) {
	if bd.epoch.IsZero() {
		return
	}
	for i := range h {
		if h[i].Created == nil || h[i].Created.After(bd.epoch) {
			h[i].Created = &bd.epoch
		}
	}
}

// findEpoch finds out the time that e names, in seconds; nil when it has none,
// as a directory hasn't.
func (b *Builder) findEpoch(ctx context.Context, o *Options, e *dockerfile.Epoch) (*int64, error) {
	var tree *remote.Tree
	var err error
	client := o.remoteClient(b.Store)
	switch {
	case e.Context:
		if o.Context == nil {
			return nil, nil
		}
		return secondsOf(o.Context.Time), nil
	case e.Named != "" && !isForeign(o, e.Named):
		return nil, nil
	case e.Named != "":
		tree, err = client.Open(ctx, o.NamedContexts[e.Named], remote.OpenOptions{})
	case e.Remote.Git != nil:
		var commit remote.Commit
		if commit, err = client.Resolve(ctx, e.Remote.Git); err == nil {
			tree, err = client.Checkout(ctx, e.Remote.Git, commit)
		}
	default:
		tree, err = client.Open(ctx, e.Remote.URL, remote.OpenOptions{})
	}
	if err != nil {
		return nil, fmt.Errorf("resolve SOURCE_DATE_EPOCH: %w", err)
	}
	return secondsOf(tree.Time), tree.Close()
}

// secondsOf is t in seconds since 1970; nil when it isn't known.
func secondsOf(t time.Time) *int64 {
	if t.IsZero() || t.Unix() == 0 {
		return nil
	}
	s := t.Unix()
	return &s
}
