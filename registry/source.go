package registry

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"go.podman.io/image/v5/directory"
	"go.podman.io/image/v5/docker"
	dockerarchive "go.podman.io/image/v5/docker/archive"
	"go.podman.io/image/v5/docker/reference"
	ociarchive "go.podman.io/image/v5/oci/archive"
	"go.podman.io/image/v5/oci/layout"
	"go.podman.io/image/v5/storage"
	"go.podman.io/image/v5/types"
)

// source returns image/v5's form of ref, for reading. manifest, if not "", pins
// the manifest of a registry or layout; platform picks an image of an index in the
// store.
func (c *Client) source(ref Reference, platform ocispec.Platform, manifest digest.Digest) (types.ImageReference, error) {
	switch ref.transport {
	case Docker:
		if manifest != "" {
			pinned, err := ref.withDigest(manifest)
			if err != nil {
				return nil, err
			}
			ref = pinned
		}
		return dockerReference(ref)
	case OCI:
		return layoutSource(ref, manifest)
	case OCIArchive:
		inner, err := ociarchive.NewReference(ref.path, ref.tag)
		if err != nil || manifest == "" {
			return inner, err
		}
		return pinnedReference{inner, manifest}, nil
	case DockerArchive:
		return dockerArchiveReference(ref)
	case Dir:
		return directory.NewReference(ref.path)
	case ContainersStorage:
		image, err := c.Store.ImageFor(ref.name, platform)
		if err != nil {
			return nil, err
		}
		return storage.Transport.NewStoreReference(c.Store.Containers(), nil, image.ID)
	}
	return nil, errors.New("the reference is empty")
}

func dockerReference(ref Reference) (types.ImageReference, error) {
	named, err := reference.ParseNormalizedNamed(ref.name)
	if err != nil {
		return nil, err
	}
	return docker.NewReference(named)
}

func dockerArchiveReference(ref Reference) (types.ImageReference, error) {
	if ref.name == "" {
		return dockerarchive.NewReference(ref.path, nil)
	}
	named, err := reference.ParseNormalizedNamed(ref.name)
	if err != nil {
		return nil, err
	}
	tagged, ok := named.(reference.NamedTagged)
	if !ok {
		return nil, fmt.Errorf("%s has no tag", ref.name)
	}
	return dockerarchive.NewReference(ref.path, tagged)
}

// layoutSource finds the manifest ref means and pins it, so that it is checked:
// image/v5 trusts a layout's manifests to be what their file names say. A pinned
// manifest need not be listed in index.json, only be among the blobs.
func layoutSource(ref Reference, manifest digest.Digest) (types.ImageReference, error) {
	dgst := manifest
	if dgst == "" {
		dgst = ref.digest
	}
	if dgst == "" {
		found, err := layoutManifest(ref)
		if err != nil {
			return nil, err
		}
		dgst = found
	}
	inner, err := layout.NewIndexReference(ref.path, 0)
	if err != nil {
		return nil, err
	}
	return pinnedReference{inner, dgst}, nil
}

// layoutManifest returns the digest of the manifest or index that ref's tag
// names. Without a tag it is the only one; BuildKit prefers one named latest.
func layoutManifest(ref Reference) (digest.Digest, error) {
	tags := []string{ref.tag}
	if ref.latest {
		tags = []string{"latest", ""}
	}
	var err error
	for _, tag := range tags {
		inner, newErr := layout.NewReference(ref.path, tag)
		if newErr != nil {
			return "", newErr
		}
		desc, loadErr := layout.LoadManifestDescriptor(inner)
		if loadErr == nil {
			return desc.Digest, nil
		}
		err = loadErr
	}
	return "", err
}

// pinnedReference is a layout read from one given manifest.
type pinnedReference struct {
	types.ImageReference
	digest digest.Digest
}

func (r pinnedReference) NewImageSource(ctx context.Context, sys *types.SystemContext) (types.ImageSource, error) {
	src, err := r.ImageReference.NewImageSource(ctx, sys)
	if err != nil {
		return nil, err
	}
	return pinnedSource{src, r}, nil
}

// pinnedSource gives the pinned manifest out as the layout's only one.
type pinnedSource struct {
	types.ImageSource
	ref pinnedReference
}

func (s pinnedSource) Reference() types.ImageReference { return s.ref }

func (s pinnedSource) GetManifest(ctx context.Context, instance *digest.Digest) ([]byte, string, error) {
	want := s.ref.digest
	if instance != nil {
		want = *instance
	}
	if err := want.Validate(); err != nil {
		return nil, "", fmt.Errorf("manifest digest %q: %w", want, err)
	}
	raw, mediaType, err := s.ImageSource.GetManifest(ctx, &want)
	if err != nil {
		return nil, "", err
	}
	if got := want.Algorithm().FromBytes(raw); got != want {
		return nil, "", fmt.Errorf("manifest %s has digest %s", want, got)
	}
	return raw, mediaType, nil
}

// openReference hands a source that is open already to the first who opens the
// reference, so that an archive is unpacked once and not twice.
type openReference struct {
	types.ImageReference
	mu  sync.Mutex
	src types.ImageSource
}

func (r *openReference) NewImageSource(ctx context.Context, sys *types.SystemContext) (types.ImageSource, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	src := r.src
	if src == nil {
		return r.ImageReference.NewImageSource(ctx, sys)
	}
	r.src = nil
	return src, nil
}

// Close closes the source if nobody has taken it.
func (r *openReference) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.src == nil {
		return nil
	}
	src := r.src
	r.src = nil
	return src.Close()
}
