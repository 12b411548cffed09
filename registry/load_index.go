package registry

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"go.podman.io/image/v5/manifest"
	"go.podman.io/image/v5/oci/layout"
	"go.podman.io/image/v5/types"

	"cooper/layers"
)

// pinnedLayout is the image or index d of the layout in dir.
func pinnedLayout(dir string, d digest.Digest) (types.ImageReference, error) {
	inner, err := layout.NewIndexReference(dir, 0)
	return pinnedReference{inner, d}, err
}

// fromLayout loads the image or index d of the layout in dir. Of an index it takes
// the images that the layout has, unless one platform was asked for; if that is
// only one, it is an image and no index.
func (l *loading) fromLayout(ctx context.Context, dir string, d digest.Digest, names []string) error {
	ref, err := pinnedLayout(dir, d)
	if err != nil {
		return err
	}
	index, err := l.readIndex(ctx, ref)
	if err != nil {
		return err
	}
	if index == nil || l.platform.Architecture != "" {
		return l.image(ctx, ref, names)
	}
	there, err := present(dir, index)
	switch {
	case err != nil:
		return err
	case len(there) > 1:
		return l.index(ctx, dir, index, there, names)
	case len(there) == 1:
		if ref, err = pinnedLayout(dir, there[0].Digest); err != nil {
			return err
		}
	}
	return l.image(ctx, ref, names)
}

func (l *loading) readIndex(ctx context.Context, ref types.ImageReference) (_ *ocispec.Index, err error) {
	src, err := ref.NewImageSource(ctx, l.sys)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, src.Close()) }()
	return readIndex(ctx, src)
}

// present are the images of an index whose manifests the layout in dir has.
func present(dir string, index *ocispec.Index) ([]ocispec.Descriptor, error) {
	var there []ocispec.Descriptor
	for _, d := range index.Manifests {
		if err := d.Digest.Validate(); err != nil {
			return nil, fmt.Errorf("index: digest %q: %w", d.Digest, err)
		}
		if _, err := os.Stat(filepath.Join(dir, blobPath(d.Digest))); err == nil && isImage(d) {
			there = append(there, d)
		}
	}
	return there, nil
}

// index brings images into the store, and an index of them.
func (l *loading) index(ctx context.Context, dir string, index *ocispec.Index, images []ocispec.Descriptor, names []string) error {
	for _, d := range images {
		ref, err := pinnedLayout(dir, d.Digest)
		if err != nil {
			return err
		}
		if _, err := l.client.pullUnnamed(ctx, l.sys, l.ref, ref); err != nil {
			return err
		}
	}
	made, err := l.client.Store.CreateIndex(ctx, layers.IndexOptions{
		Names: names, Manifests: images, Annotations: index.Annotations, DockerFormat: index.MediaType == manifest.DockerV2ListMediaType,
	})
	if err == nil {
		l.images = append(l.images, made)
	}
	return err
}
