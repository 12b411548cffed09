package builder

import (
	"context"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"cooper/layers"
)

// squash puts layers of img, which the target has come to, into one, as
// Options.Squash says. It is remembered like a step.
func (bd *build) squash(ctx context.Context, img *layers.ImageOptions) error {
	base, history, err := bd.kept(ctx)
	if err != nil {
		return err
	}
	chain, err := bd.b.Store.Chain(img.Layer)
	if err != nil || len(chain)-base < 2 {
		return err
	}
	onto := ""
	if base > 0 {
		onto = chain[base-1].ID
	}
	name := "squashing layers"
	if len(bd.builds) > 1 {
		name = "[" + label(bd.platform) + "] " + name
	}
	v := bd.report.start(name)
	layer, cached, err := bd.squashed(ctx, name, img.Layer, onto)
	v.end(cached, layer.Size, err)
	if err != nil {
		return err
	}
	img.Layer = layer.ID
	squashHistory(img.Config.History, history)
	img.Config.RootFS, err = bd.rootFS(layer)
	return err
}

// squashed finds the layer in the cache or makes it.
func (bd *build) squashed(ctx context.Context, name, top, onto string) (layer layers.Layer, cached bool, err error) {
	k := newKey("squash")
	k.text(onto)
	k.text(top)
	key := layers.Key(k.sum())
	if rec, ok := bd.b.Store.Lookup(key); ok && !bd.o.NoCache {
		layer, err = bd.b.Store.Layer(rec.Layer)
		return layer, true, err
	}
	if layer, err = bd.b.Store.Squash(ctx, top, onto); err != nil {
		return layer, false, err
	}
	return layer, false, bd.b.Store.PutRecord(layers.Record{
		Key: key, Layer: layer.ID, DiffID: layer.DiffID, Step: name, Created: time.Now(), Size: layer.Size,
	})
}

// kept says how many layers, and entries of the history, are the base image's and
// stay as they are.
func (bd *build) kept(ctx context.Context) (layers, history int, err error) {
	req := bd.baseImage(bd.target().spec)
	if bd.o.Squash == SquashAll || req == nil {
		return 0, 0, nil
	}
	img, err := bd.images.get(ctx, *req)
	if err != nil {
		return 0, 0, err
	}
	return len(img.config.RootFS.DiffIDs), len(img.config.History), nil
}

// squashHistory gives the one layer to the last entry that had one; the entries
// before it, but for the first kept ones, have none any more.
func squashHistory(h []ocispec.History, kept int) {
	had := false
	for i := len(h) - 1; i >= kept; i-- {
		if h[i].EmptyLayer {
			continue
		}
		h[i].EmptyLayer = had
		had = true
	}
}
