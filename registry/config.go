package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/containerd/platforms"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"go.podman.io/image/v5/docker"
	"go.podman.io/image/v5/image"
	"go.podman.io/image/v5/manifest"
	"go.podman.io/image/v5/types"
)

// Config returns the config of ref's image for platform p and the digest of its
// manifest, without fetching a layer. From an index the manifest that suits p
// best is taken; an image that is not in an index is taken as it is, whatever
// its platform. Of the zero Platform, what is empty means the host's. Pass the
// digest to Pull to get the layers of this very image.
// Errors are described by Error; a signature policy is enforced as by Pull.
func (c *Client) Config(ctx context.Context, ref Reference, p ocispec.Platform) (dockerspec.DockerOCIImage, digest.Digest, error) {
	type result struct {
		config dockerspec.DockerOCIImage
		digest digest.Digest
	}
	r, err := each(ctx, c, "read config of", ref, func(ref Reference) (result, error) {
		config, dgst, err := c.config(ctx, ref, p)
		return result{config, dgst}, err
	})
	return r.config, r.digest, err
}

// Digest asks the registry which manifest or index ref stands for now, which
// costs one small request. It serves to see whether a tag has moved.
func (c *Client) Digest(ctx context.Context, ref Reference) (digest.Digest, error) {
	return each(ctx, c, "look up", ref, func(ref Reference) (digest.Digest, error) {
		if ref.transport != Docker {
			return "", errors.New("only a registry's image can be looked up")
		}
		sys, err := c.system(ref, ocispec.Platform{})
		if err != nil {
			return "", err
		}
		inner, err := dockerReference(ref)
		if err != nil {
			return "", err
		}
		return docker.GetDigest(ctx, sys, inner)
	})
}

func (c *Client) config(ctx context.Context, ref Reference, p ocispec.Platform) (config dockerspec.DockerOCIImage, dgst digest.Digest, err error) {
	if ref.transport == ContainersStorage {
		image, err := c.Store.ImageFor(ref.name, p)
		return image.Config, image.Digest, err
	}
	sys, closeSys, err := c.open(ref, p)
	if err != nil {
		return config, "", err
	}
	defer func() { err = errors.Join(err, closeSys()) }()
	inner, err := c.source(ref, p, "")
	if err != nil {
		return config, "", err
	}
	src, err := inner.NewImageSource(ctx, sys)
	if err != nil {
		return config, "", err
	}
	defer func() { err = errors.Join(err, src.Close()) }()
	m, err := selectManifest(ctx, sys, src)
	if err != nil {
		return config, "", err
	}
	if err := allowed(ctx, sys, m.unparsed); err != nil {
		return config, "", err
	}
	blob, err := m.image.ConfigBlob(ctx)
	if err != nil {
		return config, "", fmt.Errorf("read config %s: %w", m.image.ConfigInfo().Digest, err)
	}
	config, err = parseConfig(blob, len(m.image.LayerInfos()))
	return config, m.digest, err
}

// selected is one image of a source.
type selected struct {
	unparsed *image.UnparsedImage
	image    types.Image
	digest   digest.Digest // of the manifest
}

// selectManifest picks the image for sys's platform.
func selectManifest(ctx context.Context, sys *types.SystemContext, src types.ImageSource) (selected, error) {
	unparsed := image.UnparsedInstance(src, nil)
	raw, mediaType, err := unparsed.Manifest(ctx)
	if err != nil {
		return selected{}, err
	}
	if manifest.MIMETypeIsMultiImage(mediaType) {
		list, err := manifest.ListFromBlob(raw, mediaType)
		if err != nil {
			return selected{}, fmt.Errorf("read index: %w", err)
		}
		instance, err := list.ChooseInstance(sys)
		if err != nil {
			return selected{}, fmt.Errorf("%w; the image has %s", err, listPlatforms(raw))
		}
		unparsed = image.UnparsedInstance(src, &instance)
		if raw, _, err = unparsed.Manifest(ctx); err != nil {
			return selected{}, err
		}
	}
	dgst, err := manifest.Digest(raw)
	if err != nil {
		return selected{}, err
	}
	img, err := image.FromUnparsedImage(ctx, sys, unparsed)
	if err != nil {
		return selected{}, err
	}
	return selected{unparsed, img, dgst}, nil
}

// listPlatforms names the platforms of an index for a message.
func listPlatforms(raw []byte) string {
	var index ocispec.Index
	if err := json.Unmarshal(raw, &index); err != nil {
		return "none that can be read"
	}
	var names []string
	for _, p := range platformsOf(index.Manifests) {
		names = append(names, platforms.Format(p))
	}
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, ", ")
}

// allowed applies the signature policy.
func allowed(ctx context.Context, sys *types.SystemContext, unparsed *image.UnparsedImage) (err error) {
	p, err := policy(sys)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.Destroy()) }()
	_, err = p.IsRunningImageAllowed(ctx, unparsed)
	return err
}

// parseConfig reads an image config and checks what cache keys are made of.
func parseConfig(blob []byte, layers int) (dockerspec.DockerOCIImage, error) {
	var config dockerspec.DockerOCIImage
	if len(blob) == 0 {
		return config, errors.New("the manifest has no config: it is of the old schema 1, or no image")
	}
	if err := json.Unmarshal(blob, &config); err != nil {
		return config, fmt.Errorf("read config: %w", err)
	}
	if len(config.RootFS.DiffIDs) != layers {
		return config, fmt.Errorf("the config lists %d layers, the manifest %d", len(config.RootFS.DiffIDs), layers)
	}
	for _, diffID := range config.RootFS.DiffIDs {
		if err := diffID.Validate(); err != nil {
			return config, fmt.Errorf("the config lists a layer %q: %w", diffID, err)
		}
	}
	return config, nil
}
