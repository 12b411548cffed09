package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"go.podman.io/image/v5/image"
	"go.podman.io/image/v5/manifest"
	"go.podman.io/image/v5/types"
)

// Platforms lists what ref's image is for: the platforms of an index, in its
// order, or the one that an image's config names. No layer is fetched. Errors are
// described by Error.
func (c *Client) Platforms(ctx context.Context, ref Reference) ([]ocispec.Platform, error) {
	return each(ctx, c, "read platforms of", ref, func(ref Reference) ([]ocispec.Platform, error) {
		if ref.transport == ContainersStorage {
			img, err := c.Store.Image(ref.name)
			if err != nil || !img.IsIndex() {
				return []ocispec.Platform{img.Config.Platform}, err
			}
			return platformsOf(img.Manifests), nil
		}
		found, err := c.indexPlatforms(ctx, ref)
		if err != nil || found != nil {
			return found, err
		}
		config, _, err := c.config(ctx, ref, ocispec.Platform{})
		return []ocispec.Platform{config.Platform}, err
	})
}

// Manifest returns the manifest or index that ref stands for, as it is there.
// Errors are described by Error.
func (c *Client) Manifest(ctx context.Context, ref Reference) ([]byte, error) {
	return each(ctx, c, "read manifest of", ref, func(ref Reference) (raw []byte, err error) {
		err = c.reading(ctx, ref, func(src types.ImageSource) error {
			raw, _, err = image.UnparsedInstance(src, nil).Manifest(ctx)
			return err
		})
		return raw, err
	})
}

// reading lets fn read what ref stands for.
func (c *Client) reading(ctx context.Context, ref Reference, fn func(types.ImageSource) error) (err error) {
	sys, closeSys, err := c.open(ref, ocispec.Platform{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeSys()) }()
	inner, err := c.source(ref, ocispec.Platform{}, "")
	if err != nil {
		return err
	}
	src, err := inner.NewImageSource(ctx, sys)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, src.Close()) }()
	return fn(src)
}

// indexPlatforms lists the platforms of an index; nil if ref is an image's.
func (c *Client) indexPlatforms(ctx context.Context, ref Reference) (found []ocispec.Platform, err error) {
	err = c.reading(ctx, ref, func(src types.ImageSource) error {
		index, err := readIndex(ctx, src)
		if index != nil {
			found = platformsOf(index.Manifests)
		}
		return err
	})
	return found, err
}

// readIndex returns the index that src has, nil if it has an image.
func readIndex(ctx context.Context, src types.ImageSource) (*ocispec.Index, error) {
	raw, mediaType, err := image.UnparsedInstance(src, nil).Manifest(ctx)
	if err != nil || !manifest.MIMETypeIsMultiImage(mediaType) {
		return nil, err
	}
	var index ocispec.Index
	if err := json.Unmarshal(raw, &index); err != nil {
		return nil, fmt.Errorf("read index: %w", err)
	}
	return &index, nil
}

// platformsOf lists the platforms of an index's images. What has none, such as
// an attestation, is no image.
func platformsOf(manifests []ocispec.Descriptor) []ocispec.Platform {
	found := []ocispec.Platform{}
	for _, d := range manifests {
		if isImage(d) {
			found = append(found, *d.Platform)
		}
	}
	return found
}

func isImage(d ocispec.Descriptor) bool {
	return d.Platform != nil && d.Platform.OS != "unknown" && d.Platform.Architecture != "unknown"
}
