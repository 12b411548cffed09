package layers

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	digest "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"go.podman.io/storage"
)

// ImageOptions says what CreateImage writes besides layers.
type ImageOptions struct {
	// Names move here from the image that has them; see NormalizeName.
	Names []string
	// Layer is the ID of the top layer; "" = no layers.
	Layer string
	// Config is written as it is, except that its RootFS is made from the
	// layers.
	Config dockerspec.DockerOCIImage
	// Annotations go into the OCI manifest; a docker manifest has none.
	Annotations map[string]string
	// DockerFormat writes docker's media types in place of OCI's.
	DockerFormat bool
	// Created is the store's own date for the image; zero = the config's.
	Created time.Time
}

// CreateImage writes an image on layers that are in the store, and keeps its
// layers for the cache should the image be removed. An image with the same
// config is the same image and only gets the names, and the manifest unless it
// was pulled with one that says as much.
func (s *Store) CreateImage(ctx context.Context, o ImageOptions) (Image, error) {
	names, err := normalizeAll(o.Names)
	if err != nil {
		return Image{}, err
	}
	chain, err := s.Chain(o.Layer)
	if err != nil {
		return Image{}, fmt.Errorf("create image: %w", err)
	}
	docs, err := documents(chain, o)
	if err != nil {
		return Image{}, fmt.Errorf("create image: %w", err)
	}
	img, err := s.putImage(ctx, docs.ID(), o.Layer, imageData(docs.Config, docs.Manifest, o))
	if err == nil {
		err = s.pin(o.Layer)
	}
	if err == nil {
		img, err = s.preferManifest(img, &docs, o)
	}
	if err == nil {
		img, err = s.addNames(img, names)
	}
	if err != nil {
		return Image{}, fmt.Errorf("create image %s: %w", docs.ID(), err)
	}
	return s.image(img, s.layerSize)
}

// putImage makes the record of an image with its documents, unless it is there.
// Without an id it gets a new one.
func (s *Store) putImage(ctx context.Context, id, layer string, data *storage.ImageOptions) (*storage.Image, error) {
	if id == "" {
		return s.store.CreateImage("", nil, layer, "", data)
	}
	img, exists, err := s.imageExists(ctx, id)
	if err != nil {
		return nil, err
	}
	if !exists {
		if err := s.writeAhead(id, data); err != nil {
			return nil, err
		}
		if img, err = s.store.CreateImage(id, nil, layer, "", data); errors.Is(err, storage.ErrDuplicateID) {
			img, err = s.store.Image(id)
		}
	}
	if err != nil {
		return nil, err
	}
	return img, s.completeImage(img, data)
}

// preferManifest makes the manifest in docs the one that img is known by. One that
// was pulled stays, since its digest is the registry's, unless o asks for what it
// may not have.
func (s *Store) preferManifest(img *storage.Image, docs *Documents, o ImageOptions) (*storage.Image, error) {
	stored, err := s.store.ImageBigData(img.ID, storage.ImageDigestBigDataKey)
	if err != nil || bytes.Equal(stored, docs.Manifest) {
		return img, err
	}
	if len(o.Annotations) == 0 && !o.DockerFormat && !ownManifest(stored, docs.Layers) {
		return img, nil
	}
	sum := func(data []byte) (digest.Digest, error) { return digest.FromBytes(data), nil }
	if err := s.store.SetImageBigData(img.ID, storage.ImageDigestBigDataKey, docs.Manifest, sum); err != nil {
		return nil, fmt.Errorf("manifest: %w", err)
	}
	return s.store.Image(img.ID)
}

// ownManifest reports whether a manifest lists the layers as the store has them,
// uncompressed.
func ownManifest(manifest []byte, layers []Layer) bool {
	var m ocispec.Manifest
	if json.Unmarshal(manifest, &m) != nil || len(m.Layers) != len(layers) {
		return false
	}
	for i := range layers {
		if m.Layers[i].Digest != layers[i].DiffID {
			return false
		}
	}
	return true
}

// addNames gives img full names and returns it with them.
func (s *Store) addNames(img *storage.Image, names []string) (*storage.Image, error) {
	if len(names) == 0 {
		return img, nil
	}
	if err := s.store.AddNames(img.ID, names); err != nil {
		return nil, fmt.Errorf("name it: %w", err)
	}
	return s.store.Image(img.ID)
}

// writeAhead puts an image's documents where the storage library will put them once
// more. The library saves the image's record before its documents, so that a
// process killed in between would leave an image that neither we nor podman could
// read; this way they are there before the record is.
func (s *Store) writeAhead(id string, o *storage.ImageOptions) error {
	dir := filepath.Join(s.Root(), s.DriverName()+"-images", id)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	for _, d := range o.BigData {
		if err := os.WriteFile(filepath.Join(dir, documentName(d.Key)), d.Data, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// documentName is the file name that the storage library gives to a document of an
// image: its key, or, if that has unusual characters, the key in base64.
func documentName(key string) string {
	for _, c := range key {
		if c != '.' && (c < '0' || c > '9') && (c < 'a' || c > 'z') {
			return "=" + base64.StdEncoding.EncodeToString([]byte(key))
		}
	}
	return key
}

// completeImage adds the documents that the image's record does not name, because
// the process that made it was killed.
func (s *Store) completeImage(img *storage.Image, o *storage.ImageOptions) error {
	for _, d := range o.BigData {
		if slices.Contains(img.BigDataNames, d.Key) {
			continue
		}
		digestOf := func([]byte) (digest.Digest, error) { return d.Digest, nil }
		if err := s.store.SetImageBigData(img.ID, d.Key, d.Data, digestOf); err != nil {
			return err
		}
	}
	return nil
}

// imageData lays the documents out where containers/image looks for them: the
// config under its digest, the manifest under its digest and, for old readers,
// under "manifest"; the metadata says how many signatures there are.
func imageData(config, manifest []byte, o ImageOptions) *storage.ImageOptions {
	sum := digest.FromBytes(manifest)
	created := o.Created
	if created.IsZero() && o.Config.Created != nil {
		created = *o.Config.Created
	}
	return &storage.ImageOptions{
		CreationDate: created,
		Digest:       sum,
		Metadata:     "{}",
		BigData: []storage.ImageBigDataOption{
			{Key: digest.FromBytes(config).String(), Data: config, Digest: digest.FromBytes(config)},
			{Key: storage.ImageDigestManifestBigDataNamePrefix + "-" + sum.String(), Data: manifest, Digest: sum},
			{Key: storage.ImageDigestBigDataKey, Data: manifest, Digest: sum},
		},
	}
}

// pinID returns the ID of the layer that pins another. See Store.pin.
func pinID(layer string) string { return digest.FromString("cooper cache: " + layer).Encoded() }

// pin keeps a layer from being removed together with the last image on it, by
// us, podman or any other user of the store: they all remove the layers that no
// image, container or layer stands on. So an empty layer stands on it, which
// belongs to no image and shows nowhere. With vfs, where a layer is a full copy,
// there are no pins, and removing images loses cache.
func (s *Store) pin(layer string) error {
	if layer == "" || !s.overlay {
		return nil
	}
	if s.store.Exists(pinID(layer)) {
		return nil
	}
	_, err := s.store.CreateLayer(pinID(layer), layer, nil, "", false, nil)
	if err != nil && !errors.Is(err, storage.ErrDuplicateID) {
		return fmt.Errorf("pin layer %s: %w", layer, err)
	}
	return nil
}

// Delete removes a layer. The error wraps ErrInUse when an image, a container
// or another layer stands on it, and ErrNotFound when it is not there.
func (s *Store) Delete(id string) error {
	layers, err := s.store.Layers()
	if err != nil {
		return fmt.Errorf("delete layer %s: %w", id, err)
	}
	pinned := false
	for _, l := range layers {
		if l.ID == pinID(id) {
			pinned = true
		} else if l.Parent == id {
			return fmt.Errorf("delete layer %s: %w by layer %s", id, ErrInUse, l.ID)
		}
	}
	if images, err := s.store.ImagesByTopLayer(id); err == nil && len(images) > 0 {
		return fmt.Errorf("delete layer %s: %w by image %s", id, ErrInUse, images[0].ID)
	}
	if c, err := s.store.ContainerByLayer(id); err == nil {
		return fmt.Errorf("delete layer %s: %w by container %s", id, ErrInUse, c.ID)
	}
	if pinned {
		if err := s.store.DeleteLayer(pinID(id)); err != nil {
			return fmt.Errorf("unpin layer %s: %w", id, err)
		}
	}
	switch err := s.store.DeleteLayer(id); {
	case errors.Is(err, storage.ErrNotALayer), errors.Is(err, storage.ErrLayerUnknown):
		return fmt.Errorf("layer %s: %w", id, ErrNotFound)
	case err != nil:
		return fmt.Errorf("delete layer %s: %w", id, err)
	}
	return nil
}
