package registry

import (
	"bytes"
	"context"
	"fmt"
	"io"

	"github.com/opencontainers/go-digest"
	"go.podman.io/image/v5/storage"
	"go.podman.io/image/v5/types"

	"cooper/layers"
)

// storedReference is an image made of layers of the store, or an index of such
// images, of which the store need not have a record. image/v5's own reference to
// an image of the store would do for one that has; but it copies each layer into a
// file first.
type storedReference struct {
	types.ImageReference
	store *layers.Store
	// raw and mediaType are the image's manifest or the index.
	raw       []byte
	mediaType string
	images    []layers.Documents
}

func (c *Client) storedReference(docs layers.Documents) (types.ImageReference, error) {
	return c.newStoredReference(docs.ID(), docs.Manifest, docs.ManifestType, []layers.Documents{docs})
}

// storedIndex is a storedReference for an index.
func (c *Client) storedIndex(x layers.Index) (types.ImageReference, error) {
	raw, mediaType, err := x.Document(nil)
	if err != nil {
		return nil, err
	}
	var images []layers.Documents
	for _, i := range x.Images {
		images = append(images, i.Documents)
	}
	return c.newStoredReference(digest.FromBytes(raw).Encoded(), raw, mediaType, images)
}

func (c *Client) newStoredReference(id string, raw []byte, mediaType string, images []layers.Documents) (types.ImageReference, error) {
	inner, err := storage.Transport.NewStoreReference(c.Store.Containers(), nil, id)
	if err != nil {
		return nil, err
	}
	return &storedReference{inner, c.Store, raw, mediaType, images}, nil
}

// NewImageSource returns the reference, which is its own source.
func (r *storedReference) NewImageSource(context.Context, *types.SystemContext) (types.ImageSource, error) {
	return &storedSource{r}, nil
}

// storedSource streams a stored image.
type storedSource struct{ ref *storedReference }

func (s *storedSource) Reference() types.ImageReference { return s.ref }

func (s *storedSource) Close() error { return nil }

func (s *storedSource) GetManifest(_ context.Context, instance *digest.Digest) ([]byte, string, error) {
	if instance == nil {
		return s.ref.raw, s.ref.mediaType, nil
	}
	for _, docs := range s.ref.images {
		if digest.FromBytes(docs.Manifest) == *instance {
			return docs.Manifest, docs.ManifestType, nil
		}
	}
	return nil, "", fmt.Errorf("manifest %s: %w", *instance, layers.ErrNotFound)
}

func (s *storedSource) HasThreadSafeGetBlob() bool { return true }

func (s *storedSource) GetBlob(ctx context.Context, info types.BlobInfo, _ types.BlobInfoCache) (io.ReadCloser, int64, error) {
	for _, docs := range s.ref.images {
		if info.Digest == digest.FromBytes(docs.Config) {
			return io.NopCloser(bytes.NewReader(docs.Config)), int64(len(docs.Config)), nil
		}
		for _, l := range docs.Layers {
			if l.DiffID == info.Digest {
				r, err := s.ref.store.Diff(ctx, l.ID)
				return r, l.Size, err
			}
		}
	}
	return nil, 0, fmt.Errorf("blob %s: %w", info.Digest, layers.ErrNotFound)
}

func (s *storedSource) GetSignatures(context.Context, *digest.Digest) ([][]byte, error) {
	return nil, nil
}

func (s *storedSource) LayerInfosForCopy(context.Context, *digest.Digest) ([]types.BlobInfo, error) {
	return nil, nil
}
