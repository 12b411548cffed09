package builder

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/containerd/platforms"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"cooper/layers"
	"cooper/registry"
)

// A base image for another platform than this machine's must not take the name in
// the store away from the one for this machine, which `run` is to find. It has no
// record there at all: its layers are kept as cache, and its config in a cache
// record, so that the next build needs no network.

// named reports whether the image keeps its name in the store when it is pulled.
func (img *image) named() bool {
	return img.ref.IsRegistry() && label(img.platform) == label(platforms.DefaultSpec())
}

// foreignBase is what a record has of a base image.
type foreignBase struct {
	Manifest digest.Digest             `json:"manifest"`
	Config   dockerspec.DockerOCIImage `json:"config"`
}

func foreignKey(ref registry.Reference, platform ocispec.Platform) layers.Key {
	k := newKey("foreign base")
	k.text(ref.Name())
	k.text(label(platform))
	return layers.Key(k.sum())
}

// remember notes the config of a registry's image that has no name in the store,
// and whose topmost layer is top.
func (img *image) remember(store *layers.Store, top string) error {
	if img.named() || !img.ref.IsRegistry() {
		return nil
	}
	value, err := json.Marshal(foreignBase{Manifest: img.manifest, Config: img.config})
	if err != nil {
		return err
	}
	return store.PutRecord(layers.Record{
		Key: foreignKey(img.ref, img.platform), Layer: top, Step: fmt.Sprintf("FROM %s (%s)", img.ref.Name(), label(img.platform)),
		Created: time.Now(), Value: value,
	})
}

// remembered finds an image of which remember made a note; if there is none, or its
// layers are gone, the error wraps layers.ErrNotFound.
func (im *images) remembered(ref registry.Reference, platform ocispec.Platform) (*image, error) {
	rec, ok := im.b.Store.Lookup(foreignKey(ref, platform))
	if !ok {
		return nil, fmt.Errorf("%s for %s: %w", ref.Name(), label(platform), layers.ErrNotFound)
	}
	var base foreignBase
	if err := json.Unmarshal(rec.Value, &base); err != nil {
		return nil, err
	}
	img := &image{ref: ref, manifest: base.Manifest, platform: platform, config: base.Config, chain: chainID(base.Config)}
	top, ok := im.stored(base.Config)
	if !ok {
		return nil, fmt.Errorf("%s for %s: %w", ref.Name(), label(platform), layers.ErrNotFound)
	}
	img.setLayer(top)
	return img, nil
}
