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

// storedReference is an image made of layers of the store, of which the store
// need not have a record. image/v5's own reference to an image of the store
// would do for one that has; but it copies each layer into a file first.
type storedReference struct {
	types.ImageReference
	store *layers.Store
	docs  layers.Documents
}

func (c *Client) storedReference(docs layers.Documents) (types.ImageReference, error) {
	inner, err := storage.Transport.NewStoreReference(c.Store.Containers(), nil, docs.ID())
	if err != nil {
		return nil, err
	}
	return &storedReference{inner, c.Store, docs}, nil
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
	if instance != nil {
		return nil, "", fmt.Errorf("manifest %s: the image is not an index", *instance)
	}
	return s.ref.docs.Manifest, s.ref.docs.ManifestType, nil
}

func (s *storedSource) HasThreadSafeGetBlob() bool { return true }

func (s *storedSource) GetBlob(ctx context.Context, info types.BlobInfo, _ types.BlobInfoCache) (io.ReadCloser, int64, error) {
	if config := s.ref.docs.Config; info.Digest == digest.FromBytes(config) {
		return io.NopCloser(bytes.NewReader(config)), int64(len(config)), nil
	}
	for _, l := range s.ref.docs.Layers {
		if l.DiffID == info.Digest {
			r, err := s.ref.store.Diff(ctx, l.ID)
			return r, l.Size, err
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
