package registry

import (
	"context"
	"errors"
	"fmt"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"go.podman.io/image/v5/copy"
	"go.podman.io/image/v5/docker/reference"
	"go.podman.io/image/v5/storage"
	"go.podman.io/image/v5/types"

	"cooper/layers"
)

// PullOptions says what Pull takes. The zero value is the host's platform.
type PullOptions struct {
	// Platform picks an image of an index. Empty fields mean the host's.
	Platform ocispec.Platform
	// Manifest, if not "", is the manifest to take from a registry or
	// layout, as Config returned it, even if the tag has moved since.
	Manifest digest.Digest
	// Names are given to the image in addition: a registry's image has its
	// normalised name anyway, one from a file or layout has no other.
	Names []string
	// Unnamed leaves a registry's image without its name, which another image
	// may keep.
	Unnamed bool
}

// Pull brings ref's image into the store. Layers that are there already are not
// fetched. When Pull fails or ctx ends, the store has no part of the image
// except perhaps layers that a further Pull will use.
// Errors are described by Error.
func (c *Client) Pull(ctx context.Context, ref Reference, o PullOptions) (layers.Image, error) {
	return each(ctx, c, "pull", ref, func(ref Reference) (layers.Image, error) {
		return c.pull(ctx, ref, o)
	})
}

func (c *Client) pull(ctx context.Context, ref Reference, o PullOptions) (layers.Image, error) {
	id, err := c.pullID(ctx, ref, o)
	if err != nil {
		return layers.Image{}, err
	}
	if len(o.Names) > 0 {
		if err := c.Store.Tag(id, o.Names...); err != nil {
			return layers.Image{}, err
		}
	}
	return c.Store.Image(id)
}

// pullID pulls and returns the id of the image in the store.
func (c *Client) pullID(ctx context.Context, ref Reference, o PullOptions) (id string, err error) {
	if ref.transport == ContainersStorage {
		image, err := c.Store.ImageFor(ref.name, o.Platform)
		return image.ID, err
	}
	sys, closeSys, err := c.open(ref, o.Platform)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, closeSys()) }()
	src, err := c.source(ref, o.Platform, o.Manifest)
	if err != nil {
		return "", err
	}
	if ref.transport != Docker || o.Unnamed {
		return c.pullUnnamed(ctx, sys, ref, src)
	}
	dest, err := c.namedDestination(ref)
	if err != nil {
		return "", err
	}
	return c.pullTo(ctx, sys, ref, dest, src)
}

// copy copies under the signature policy of o.SourceCtx and reports progress.
func (c *Client) copy(ctx context.Context, ref Reference, dest, src types.ImageReference, o *copy.Options) (raw []byte, err error) {
	p, err := policy(o.SourceCtx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, p.Destroy()) }()
	ctx, stop := c.observe(ctx, ref, o)
	raw, err = copy.Image(ctx, p, dest, src, o)
	if tooLong := stop(); tooLong != nil && err != nil {
		err = tooLong
	}
	return raw, err
}

// namedDestination is the store's image with ref's name.
func (c *Client) namedDestination(ref Reference) (types.ImageReference, error) {
	named, err := reference.ParseNormalizedNamed(ref.name)
	if err != nil {
		return nil, err
	}
	return storage.Transport.NewStoreReference(c.Store.Containers(), named, "")
}

// unnamedDestination opens src to learn which id its image will have in the
// store: the digest of its config, as for every image there.
func (c *Client) unnamedDestination(ctx context.Context, sys *types.SystemContext, ref types.ImageReference) (*openReference, types.ImageReference, error) {
	src, err := ref.NewImageSource(ctx, sys)
	if err != nil {
		return nil, nil, err
	}
	open := &openReference{ImageReference: ref, src: src}
	m, err := selectManifest(ctx, sys, src)
	if err != nil {
		return nil, nil, errors.Join(err, open.Close())
	}
	config := m.image.ConfigInfo().Digest
	if config.Validate() != nil || config.Algorithm() != digest.SHA256 {
		return nil, nil, errors.Join(fmt.Errorf("config has no sha256 digest: %q", config), open.Close())
	}
	dest, err := storage.Transport.NewStoreReference(c.Store.Containers(), nil, config.Encoded())
	if err != nil {
		return nil, nil, errors.Join(err, open.Close())
	}
	return open, dest, nil
}

// verify removes an image whose layers are not those its config lists: keys are
// made from the config's DiffIDs, so they must be true. containers/image checks
// the digests of blobs but not this.
func (c *Client) verify(id string) error {
	image, err := c.Store.Image(id)
	if err != nil {
		return err
	}
	chain, err := c.Store.Chain(image.Layer)
	if err != nil {
		return err
	}
	var mismatch error
	if len(chain) != len(image.Config.RootFS.DiffIDs) {
		mismatch = fmt.Errorf("the config lists %d layers, the image has %d", len(image.Config.RootFS.DiffIDs), len(chain))
	}
	for i := 0; i < len(chain) && mismatch == nil; i++ {
		// A layer known by its table of contents alone has no DiffID.
		if want := image.Config.RootFS.DiffIDs[i]; chain[i].DiffID != want && chain[i].DiffID != "" {
			mismatch = fmt.Errorf("layer %d has digest %s, its config says %s", i+1, chain[i].DiffID, want)
		}
	}
	if mismatch == nil {
		return nil
	}
	_, _, err = c.Store.RemoveImage(id, true)
	return errors.Join(mismatch, err)
}
