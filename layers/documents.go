package layers

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	digest "github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"go.podman.io/storage"
)

// Docker's media types, for DockerFormat.
const (
	dockerManifestType = "application/vnd.docker.distribution.manifest.v2+json"
	dockerConfigType   = "application/vnd.docker.container.image.v1+json"
	dockerLayerType    = "application/vnd.docker.image.rootfs.diff.tar"
)

// Documents are what an image consists of besides the content of its layers,
// whether or not the store has a record of it.
type Documents struct {
	// Config is the config document; its digest is the image's ID.
	Config []byte
	// Manifest lists the layers as the store has them, uncompressed, each
	// by its DiffID.
	Manifest []byte
	// ManifestType is the manifest's media type, OCI's or docker's.
	ManifestType string
	// Layers are the layers, base first, each with its DiffID.
	Layers []Layer
	// Annotations are those of the manifest.
	Annotations map[string]string
}

// ID returns the image's ID, in hex.
func (d *Documents) ID() string { return digest.FromBytes(d.Config).Encoded() }

// Descriptor describes the manifest.
func (d *Documents) Descriptor() ocispec.Descriptor {
	return ocispec.Descriptor{MediaType: d.ManifestType, Digest: digest.FromBytes(d.Manifest), Size: int64(len(d.Manifest))}
}

// Docker reports whether the documents have docker's media types, not OCI's.
func (d *Documents) Docker() bool { return d.ManifestType == dockerManifestType }

// Describe writes the documents of the image that CreateImage would make of o,
// without making it.
func (s *Store) Describe(o ImageOptions) (Documents, error) {
	chain, err := s.Chain(o.Layer)
	if err != nil {
		return Documents{}, fmt.Errorf("describe image: %w", err)
	}
	return documents(chain, o)
}

// Documents returns the documents of an image in the store. The config is as it
// was pulled, to the byte; the manifest is made anew, since the store keeps
// layers uncompressed, with the format and the annotations of the old one. Of an
// index there are none, see Index.
func (s *Store) Documents(nameOrID string) (Documents, error) {
	img, _, err := s.find(nameOrID)
	if err != nil {
		return Documents{}, err
	}
	index, err := s.indexDocument(img)
	if err == nil && index != nil {
		err = errors.New("it is an index of several images")
	}
	var d Documents
	if err == nil {
		d, err = s.storedDocuments(img, "")
	}
	if err != nil {
		return Documents{}, fmt.Errorf("image %s: %w", nameOrID, err)
	}
	return d, nil
}

// storedDocuments are the documents of img, by the manifest with this digest if
// it has several.
func (s *Store) storedDocuments(img *storage.Image, manifest digest.Digest) (Documents, error) {
	config, err := s.imageConfig(img)
	if err != nil {
		return Documents{}, err
	}
	key := storage.ImageDigestManifestBigDataNamePrefix + "-" + manifest.String()
	if !slices.Contains(img.BigDataNames, key) {
		key = storage.ImageDigestBigDataKey
	}
	stored, err := s.store.ImageBigData(img.ID, key)
	if err != nil {
		return Documents{}, err
	}
	var old ocispec.Manifest
	if err := json.Unmarshal(stored, &old); err != nil {
		return Documents{}, fmt.Errorf("manifest: %w", err)
	}
	chain, err := s.Chain(img.TopLayer)
	if err != nil {
		return Documents{}, err
	}
	var known struct{ RootFS ocispec.RootFS }
	if err := json.Unmarshal(config, &known); err != nil {
		return Documents{}, fmt.Errorf("config: %w", err)
	}
	if err := identify(chain, known.RootFS.DiffIDs); err != nil {
		return Documents{}, err
	}
	return newDocuments(config, chain, ImageOptions{
		Annotations: old.Annotations, DockerFormat: old.Config.MediaType == dockerConfigType,
	})
}

// documents writes the documents of an image on chain.
func documents(chain []Layer, o ImageOptions) (Documents, error) {
	if err := identify(chain, o.Config.RootFS.DiffIDs); err != nil {
		return Documents{}, err
	}
	o.Config.RootFS = ocispec.RootFS{Type: "layers", DiffIDs: []digest.Digest{}}
	for _, l := range chain {
		o.Config.RootFS.DiffIDs = append(o.Config.RootFS.DiffIDs, l.DiffID)
	}
	config, err := json.Marshal(o.Config)
	if err != nil {
		return Documents{}, fmt.Errorf("config: %w", err)
	}
	return newDocuments(config, chain, o)
}

// identify fills in DiffIDs that the store does not know, of layers pulled in
// parts, from the config's.
func identify(chain []Layer, known []digest.Digest) error {
	for i := range chain {
		if chain[i].DiffID == "" && i < len(known) {
			chain[i].DiffID = known[i]
		}
		if chain[i].DiffID == "" {
			return fmt.Errorf("layer %s has no digest", chain[i].ID)
		}
	}
	return nil
}

// newDocuments writes the manifest that goes with config.
func newDocuments(config []byte, chain []Layer, o ImageOptions) (Documents, error) {
	d := Documents{Config: config, ManifestType: ocispec.MediaTypeImageManifest, Layers: chain, Annotations: o.Annotations}
	configType, layerType := ocispec.MediaTypeImageConfig, ocispec.MediaTypeImageLayer
	if o.DockerFormat {
		d.ManifestType, configType, layerType, d.Annotations = dockerManifestType, dockerConfigType, dockerLayerType, nil
	}
	m := ocispec.Manifest{
		Versioned:   specs.Versioned{SchemaVersion: 2},
		MediaType:   d.ManifestType,
		Config:      ocispec.Descriptor{MediaType: configType, Digest: digest.FromBytes(config), Size: int64(len(config))},
		Layers:      make([]ocispec.Descriptor, 0, len(chain)),
		Annotations: d.Annotations,
	}
	for _, l := range chain {
		m.Layers = append(m.Layers, ocispec.Descriptor{MediaType: layerType, Digest: l.DiffID, Size: l.Size})
	}
	var err error
	d.Manifest, err = json.Marshal(m)
	return d, err
}
