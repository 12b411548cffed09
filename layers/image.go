package layers

import (
	"context"
	"errors"
	"time"

	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	digest "github.com/opencontainers/go-digest"
)

// Image is an image record in the store.
type Image struct {
	// ID is the hex digest of the config.
	ID string
	// Names are full references ("docker.io/library/alpine:latest").
	Names []string
	// Digest is the manifest's.
	Digest digest.Digest
	// Layer is the ID of the top layer, "" for an image without layers.
	Layer   string
	Created time.Time
	// Size is the sum of the layers' uncompressed tars and of the image's
	// own documents, in bytes.
	Size   int64
	Config dockerspec.DockerOCIImage
}

// ImageOptions says what CreateImage writes besides layers.
type ImageOptions struct {
	// Names move here from the image that has them; see NormalizeName.
	Names []string
	// Layer is the ID of the top layer; "" = no layers.
	Layer string
	// Config is written as it is, except that its RootFS is made from the
	// layers when it lists none.
	Config dockerspec.DockerOCIImage
	// Annotations go into the OCI manifest; a docker manifest has none.
	Annotations map[string]string
	// DockerFormat writes docker's media types in place of OCI's.
	DockerFormat bool
	// Created is the store's own date for the image; zero = the config's.
	Created time.Time
}

// Image finds an image by name, ID, unique ID prefix or manifest digest
// ("name@sha256:..."). Short names match as with podman: localhost/ first, then
// docker.io/library/, then any registry's. Not found wraps ErrNotFound.
func (s *Store) Image(nameOrID string) (Image, error) { return Image{}, errors.ErrUnsupported }

// Images returns all images, newest first.
func (s *Store) Images() ([]Image, error) { return nil, errors.ErrUnsupported }

// CreateImage writes an image on layers that are in the store, and keeps its
// layers for the cache should the image be removed. An image with the same
// config and layers is the same image and only gets the names.
func (s *Store) CreateImage(ctx context.Context, o ImageOptions) (Image, error) {
	return Image{}, errors.ErrUnsupported
}

// Tag moves names to an image.
func (s *Store) Tag(nameOrID string, names ...string) error { return errors.ErrUnsupported }

// Untag takes names away from an image, which stays.
func (s *Store) Untag(nameOrID string, names ...string) error { return errors.ErrUnsupported }

// RemoveImage takes the name away, and removes the image with its last one;
// given an ID it removes the image, which with several names needs force. The
// error wraps ErrInUse when a container stands on it. It returns the names and
// the IDs that are gone. Layers kept for the cache stay.
func (s *Store) RemoveImage(nameOrID string, force bool) (untagged, deleted []string, err error) {
	return nil, nil, errors.ErrUnsupported
}

// NormalizeName returns the full form of a name an image is to get: localhost/
// is put before a name without a registry and :latest behind one without a tag.
func NormalizeName(name string) (string, error) { return "", errors.ErrUnsupported }
