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
	open, m, err := openSelected(ctx, sys, src)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, open.Close()) }()
	named, err := reference.ParseNormalizedNamed(ref.name)
	if err != nil {
		return "", err
	}
	return c.pullTo(ctx, sys, ref, named, open, m)
}

// pullUnnamed brings src into the store without a name and returns its id.
func (c *Client) pullUnnamed(ctx context.Context, sys *types.SystemContext, ref Reference, src types.ImageReference) (id string, err error) {
	open, m, err := openSelected(ctx, sys, src)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, open.Close()) }()
	if err := m.checkConfig(); err != nil {
		return "", err
	}
	return c.pullTo(ctx, sys, ref, nil, open, m)
}

// openSelected opens src to learn which image it has for sys's platform.
func openSelected(ctx context.Context, sys *types.SystemContext, ref types.ImageReference) (*openReference, selected, error) {
	src, err := ref.NewImageSource(ctx, sys)
	if err != nil {
		return nil, selected{}, err
	}
	open := &openReference{ImageReference: ref, src: src}
	m, err := selectManifest(ctx, sys, src)
	if err != nil {
		return nil, selected{}, errors.Join(err, open.Close())
	}
	return open, m, nil
}

// pullTo copies the image m of src into the store, where it is called name unless
// that is nil, and returns its id.
func (c *Client) pullTo(ctx context.Context, sys *types.SystemContext, ref Reference, name reference.Named, src types.ImageReference, m selected) (string, error) {
	if c.canUnpack(m) {
		id, err := c.pullUnpacking(ctx, sys, ref, name, src, m)
		if !errors.Is(err, errSignatures) {
			return id, err
		}
	}
	id := ""
	if name == nil {
		id = m.image.ConfigInfo().Digest.Encoded()
	}
	dest, err := storage.Transport.NewStoreReference(c.Store.Containers(), name, id)
	if err != nil {
		return "", err
	}
	var resolved types.ImageReference
	_, err = c.copy(ctx, ref, dest, src, &copy.Options{SourceCtx: sys, DestinationCtx: sys, ReportResolvedReference: &resolved})
	if err != nil {
		return "", err
	}
	_, image, err := storage.ResolveReference(resolved)
	if err != nil {
		return "", err
	}
	return image.ID, c.verify(image.ID)
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
	if exceeded := stop(); exceeded != nil && err != nil {
		err = exceeded
	}
	return raw, err
}

// checkConfig refuses an image without a config: the config's digest is the id of
// every image in the store.
func (m selected) checkConfig() error {
	config := m.image.ConfigInfo().Digest
	if config.Validate() != nil || config.Algorithm() != digest.SHA256 {
		return fmt.Errorf("config has no sha256 digest: %q", config)
	}
	return nil
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
