package registry

import (
	"context"
	"errors"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"go.podman.io/image/v5/copy"
	"go.podman.io/image/v5/docker"
	"go.podman.io/image/v5/docker/reference"
	"go.podman.io/image/v5/types"

	"cooper/layers"
)

// PushIndex is PushDocuments for an index and all its images.
func (c *Client) PushIndex(ctx context.Context, x layers.Index, to Reference, o PushOptions) (ocispec.Descriptor, error) {
	switch to.transport {
	case Docker:
		return c.pushIndex(ctx, x, to, o)
	case DockerArchive:
		return ocispec.Descriptor{}, failure(ctx, "push", to, errors.New("a docker archive holds no index: use oci-archive"))
	}
	src, err := c.storedIndex(x)
	if err != nil {
		return ocispec.Descriptor{}, failure(ctx, "push", to, err)
	}
	return c.pushSource(ctx, src, copy.CopyAllImages, to, o)
}

// pushIndex sends the images without a tag, and then the index of what they have
// become. image/v5 would do both, but not without a tag for the index, and it
// sorts the images.
func (c *Client) pushIndex(ctx context.Context, x layers.Index, to Reference, o PushOptions) (ocispec.Descriptor, error) {
	images := o
	images.ByDigest = true
	var manifests []ocispec.Descriptor
	for _, image := range x.Images {
		desc, err := c.PushDocuments(ctx, image.Documents, to, images)
		if err != nil {
			return desc, err
		}
		manifests = append(manifests, desc)
	}
	if o.Format != FormatAsStored {
		x.DockerFormat = o.Format == FormatDocker
	}
	raw, mediaType, err := x.Document(manifests)
	if err != nil {
		return ocispec.Descriptor{}, failure(ctx, "push", to, err)
	}
	desc := ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(raw), Size: int64(len(raw))}
	if o.ByDigest {
		if to, err = to.withDigest(desc.Digest); err != nil {
			return ocispec.Descriptor{}, failure(ctx, "push", to, err)
		}
	}
	_, err = repeat(ctx, c, to, func() ([]byte, error) { return raw, c.putManifest(ctx, to, raw) })
	if err != nil {
		return ocispec.Descriptor{}, failure(ctx, "push", to, err)
	}
	return desc, nil
}

// putManifest writes a manifest, or index, whose parts are in the registry.
func (c *Client) putManifest(ctx context.Context, to Reference, raw []byte) (err error) {
	sys, closeSys, err := c.open(to, ocispec.Platform{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeSys()) }()
	ref, err := destination(to, false)
	if err != nil {
		return err
	}
	dest, err := ref.NewImageDestination(ctx, sys)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, dest.Close()) }()
	return dest.PutManifest(ctx, raw, nil)
}

// untagged is a registry's reference for an image that gets no tag, and whose
// digest shows when it is there.
func untagged(ref Reference) (types.ImageReference, error) {
	named, err := reference.ParseNormalizedNamed(ref.name)
	if err != nil {
		return nil, err
	}
	return docker.NewReferenceUnknownDigest(reference.TrimNamed(named))
}
