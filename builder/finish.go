package builder

import (
	"context"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"cooper/layers"
)

// finish describes the image that the target stage has come to, which it works
// out once.
func (bd *build) finish(ctx context.Context) (layers.ImageOptions, error) {
	if bd.finished != nil {
		return *bd.finished, nil
	}
	img, err := bd.describe(ctx, bd.target())
	if err == nil && bd.o.Squash != "" {
		err = bd.squash(ctx, &img)
	}
	if err == nil {
		bd.finished = &img
	}
	return img, err
}

// target is the stage that the build is for.
func (bd *build) target() *stage { return bd.stages[len(bd.stages)-1] }

// describe describes the image that a stage has come to, without a name.
func (bd *build) describe(ctx context.Context, st *stage) (layers.ImageOptions, error) {
	parent, err := st.parent(ctx)
	if err != nil {
		return layers.ImageOptions{}, err
	}
	top, err := settled(ctx, parent)
	if err != nil {
		return layers.ImageOptions{}, err
	}
	config := st.spec.Config
	if config.RootFS, err = bd.rootFS(top); err != nil {
		return layers.ImageOptions{}, err
	}
	config.History = st.timedHistory(bd.now())
	bd.clampHistory(config.History)
	created := lastCreated(config.History, bd.now())
	if bd.o.OmitHistory {
		config.History = nil
	}
	config.Created = &created
	return layers.ImageOptions{
		Layer: top.ID, Config: config, Created: created, DockerFormat: bd.o.Format == "docker",
	}, nil
}

// settled waits for a layer that is still being committed.
func settled(ctx context.Context, p layers.Parent) (layers.Layer, error) {
	if p == nil {
		return layers.Layer{}, nil
	}
	return p.Wait(ctx)
}

// rootFS lists the DiffIDs of the layers up to top.
func (bd *build) rootFS(top layers.Layer) (ocispec.RootFS, error) {
	fs := ocispec.RootFS{Type: "layers", DiffIDs: []digest.Digest{}}
	if top.ID == "" {
		return fs, nil
	}
	chain, err := bd.b.Store.Chain(top.ID)
	if err != nil {
		return fs, err
	}
	for _, l := range chain {
		fs.DiffIDs = append(fs.DiffIDs, l.DiffID)
	}
	return fs, nil
}

// timedHistory gives every entry its time. An entry without a layer takes that
// of the one before it, so that building again from cache gives the same image
// to the byte.
func (s *stage) timedHistory(now time.Time) []ocispec.History {
	out := make([]ocispec.History, len(s.history))
	last := firstCreated(s.history, now)
	for i, h := range s.history {
		if h.Created == nil {
			t := last
			h.Created = &t
		}
		last = *h.Created
		out[i] = h.History
	}
	return out
}

// firstCreated is the earliest known time in h, now if there is none.
func firstCreated(h []pendingHistory, now time.Time) time.Time {
	for _, e := range h {
		if e.Created != nil {
			return *e.Created
		}
	}
	return now.UTC()
}

// lastCreated is when the last entry of h was made; an image without history
// is made now.
func lastCreated(h []ocispec.History, now time.Time) time.Time {
	if len(h) == 0 {
		return now
	}
	return h[len(h)-1].Created.UTC()
}
