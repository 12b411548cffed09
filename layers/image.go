package layers

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	digest "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"go.podman.io/storage"
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
	// Manifests are the entries of an index, in its order; nil for an image.
	// An index has an empty Config and no Layer, and is as large as its images.
	Manifests []ocispec.Descriptor
	// Listed says that an index of the store lists the image. Only Images
	// fills it in.
	Listed bool
}

// IsIndex reports whether the record is an index of images.
func (i *Image) IsIndex() bool { return i.Manifests != nil }

// Image finds an image by name, ID, unique ID prefix or manifest digest
// ("name@sha256:..."). Short names match as with podman: localhost/ first, then
// docker.io/library/, then any registry's. Not found wraps ErrNotFound.
func (s *Store) Image(nameOrID string) (Image, error) {
	found, _, err := s.find(nameOrID)
	if err != nil {
		return Image{}, err
	}
	return s.image(found, s.layerSize)
}

// Images returns all images, newest first.
func (s *Store) Images() ([]Image, error) {
	records, err := s.store.Images()
	if err != nil {
		return nil, fmt.Errorf("list images: %w", err)
	}
	all, err := s.store.Layers()
	if err != nil {
		return nil, fmt.Errorf("list layers: %w", err)
	}
	byID := make(map[string]*storage.Layer, len(all))
	for i := range all {
		byID[all[i].ID] = &all[i]
	}
	lookup := func(id string) (parent string, size int64, err error) {
		if l, ok := byID[id]; ok {
			return l.Parent, l.UncompressedSize, nil
		}
		return "", 0, nil // the image is broken, but others are not
	}
	images := make([]Image, 0, len(records))
	for i := range records {
		img, err := s.image(&records[i], lookup)
		if errors.Is(err, storage.ErrImageUnknown) {
			continue // removed since
		}
		if err != nil {
			return nil, err
		}
		images = append(images, img)
	}
	markListed(images, records)
	slices.SortStableFunc(images, func(a, b Image) int {
		if c := b.Created.Compare(a.Created); c != 0 {
			return c
		}
		return strings.Compare(a.ID, b.ID)
	})
	return images, nil
}

// markListed fills in which images an index lists, and what indexes come to. An
// image may have several manifests: records have all their digests.
func markListed(images []Image, records []storage.Image) {
	byID := make(map[string]*Image, len(images))
	for i := range images {
		byID[images[i].ID] = &images[i]
	}
	byDigest := make(map[digest.Digest]*Image, len(images))
	for i := range records {
		for _, d := range records[i].Digests {
			byDigest[d] = byID[records[i].ID]
		}
	}
	for i := range images {
		for _, d := range images[i].Manifests {
			if img := byDigest[d.Digest]; img != nil {
				img.Listed = true
				images[i].Size += img.Size
			}
		}
	}
}

func (s *Store) layerSize(id string) (parent string, size int64, err error) {
	l, err := s.Layer(id)
	return l.Parent, l.Size, err
}

// image makes our record of the storage library's.
func (s *Store) image(r *storage.Image, layerSize func(id string) (parent string, size int64, err error)) (Image, error) {
	img := Image{ID: r.ID, Names: r.Names, Digest: r.Digest, Layer: r.TopLayer, Created: r.Created}
	if d, ok := r.BigDataDigests[storage.ImageDigestBigDataKey]; ok {
		img.Digest = d // the record keeps the one that it had first
	}
	for _, size := range r.BigDataSizes {
		img.Size += size
	}
	for id := r.TopLayer; id != ""; {
		parent, size, err := layerSize(id)
		if err != nil {
			return img, fmt.Errorf("image %s: %w", r.ID, err)
		}
		img.Size += max(size, 0)
		id = parent
	}
	var err error
	if img.Manifests, err = s.manifests(r); err != nil || img.IsIndex() {
		if err != nil {
			err = fmt.Errorf("image %s: %w", r.ID, err)
		}
		return img, err
	}
	config, err := s.imageConfig(r)
	if err != nil {
		return img, fmt.Errorf("image %s: %w", r.ID, err)
	}
	if err := json.Unmarshal(config, &img.Config); err != nil {
		return img, fmt.Errorf("image %s: config: %w", r.ID, err)
	}
	return img, nil
}

// imageConfig returns the config document. It lies under its digest, which is
// the image's ID except for images of very old formats and for ones given an ID
// by hand.
func (s *Store) imageConfig(r *storage.Image) ([]byte, error) {
	key := "sha256:" + r.ID
	if !slices.Contains(r.BigDataNames, key) {
		manifest, err := s.store.ImageBigData(r.ID, storage.ImageDigestBigDataKey)
		if err != nil {
			return nil, err
		}
		var m struct{ Config struct{ Digest string } }
		if err := json.Unmarshal(manifest, &m); err != nil {
			return nil, fmt.Errorf("manifest: %w", err)
		}
		if key = m.Config.Digest; key == "" {
			return []byte("{}"), nil // a manifest without a config
		}
	}
	return s.store.ImageBigData(r.ID, key)
}

// find looks an image up. name is the one it was found by, "" when by its ID.
func (s *Store) find(nameOrID string) (img *storage.Image, name string, err error) {
	if hex, ok := strings.CutPrefix(nameOrID, "sha256:"); ok {
		if img, err = s.findID(hex); err != nil {
			img, err = s.findDigest(digest.Digest(nameOrID), nil)
		}
		return img, "", notFound(nameOrID, err)
	}
	n, parseErr := parseName(nameOrID)
	if parseErr == nil {
		img, name, err = s.findName(n)
		if err == nil || !errors.Is(err, ErrNotFound) {
			return img, name, err
		}
	}
	img, err = s.findID(nameOrID)
	if err != nil && parseErr != nil {
		return nil, "", parseErr
	}
	return img, "", notFound(nameOrID, err)
}

// notFound turns what lookups answer into our error.
func notFound(nameOrID string, err error) error {
	if errors.Is(err, storage.ErrImageUnknown) || errors.Is(err, storage.ErrNotAnImage) {
		err = ErrNotFound
	}
	if err != nil {
		return fmt.Errorf("image %s: %w", nameOrID, err)
	}
	return nil
}

// findID finds an image by its ID or a unique prefix of it.
func (s *Store) findID(id string) (*storage.Image, error) {
	if strings.Trim(id, "0123456789abcdef") != "" || id == "" {
		return nil, storage.ErrImageUnknown
	}
	return s.store.Image(id)
}

// findDigest finds an image by its manifest's digest. With repositories, one of
// its names must be in one of them.
func (s *Store) findDigest(d digest.Digest, repositories []string) (*storage.Image, error) {
	images, err := s.store.ImagesByDigest(d)
	if err != nil {
		return nil, err
	}
	for _, img := range images {
		if repositories == nil {
			return img, nil
		}
		for _, name := range append(slices.Clone(img.Names), img.NamesHistory...) {
			n, err := parseName(name)
			if err == nil && slices.Contains(repositories, n.repository()) {
				return img, nil
			}
		}
	}
	return nil, storage.ErrImageUnknown
}

// findName finds an image by its name and returns the full name.
func (s *Store) findName(n imageName) (*storage.Image, string, error) {
	candidates := []imageName{n}
	if n.domain == "" {
		candidates = []imageName{n, n}
		candidates[0].domain, candidates[1].domain = localDomain, dockerDomain
	}
	if n.digest != "" {
		var repositories []string
		for _, c := range candidates {
			repositories = append(repositories, c.repository())
		}
		img, err := s.findDigest(n.digest, repositories)
		return img, "", notFound(n.String(), err)
	}
	for _, c := range candidates {
		img, err := s.store.Image(c.String())
		if err == nil {
			return img, c.String(), nil
		}
		if !errors.Is(err, storage.ErrImageUnknown) {
			return nil, "", fmt.Errorf("image %s: %w", c, err)
		}
	}
	if n.domain == "" {
		return s.findSuffix("/" + n.String())
	}
	return nil, "", notFound(n.String(), storage.ErrImageUnknown)
}

// findSuffix finds the newest image with a name that ends like this.
func (s *Store) findSuffix(suffix string) (img *storage.Image, name string, err error) {
	images, err := s.store.Images()
	if err != nil {
		return nil, "", fmt.Errorf("list images: %w", err)
	}
	for i := range images {
		for _, n := range images[i].Names {
			if strings.HasSuffix(n, suffix) && (img == nil || images[i].Created.After(img.Created)) {
				img, name = &images[i], n
			}
		}
	}
	if img == nil {
		return nil, "", notFound(suffix[1:], storage.ErrImageUnknown)
	}
	return img, name, nil
}

// Tag moves names to an image.
func (s *Store) Tag(nameOrID string, names ...string) error {
	full, err := normalizeAll(names)
	if err != nil {
		return err
	}
	img, _, err := s.find(nameOrID)
	if err != nil {
		return err
	}
	if err := s.store.AddNames(img.ID, full); err != nil {
		return fmt.Errorf("tag image %s: %w", img.ID, err)
	}
	return nil
}

func normalizeAll(names []string) ([]string, error) {
	full := make([]string, 0, len(names))
	for _, name := range names {
		n, err := NormalizeName(name)
		if err != nil {
			return nil, err
		}
		full = append(full, n)
	}
	return full, nil
}

// Untag takes names away from an image, which stays. Without names it takes
// all.
func (s *Store) Untag(nameOrID string, names ...string) error {
	img, _, err := s.find(nameOrID)
	if err != nil {
		return err
	}
	gone := img.Names
	if len(names) > 0 {
		gone = nil
		for _, name := range names {
			other, full, err := s.find(name)
			if err != nil {
				return err
			}
			if other.ID != img.ID || full == "" {
				return fmt.Errorf("untag image %s: it does not have the name %s", img.ID, name)
			}
			gone = append(gone, full)
		}
	}
	if err := s.store.RemoveNames(img.ID, gone); err != nil {
		return fmt.Errorf("untag image %s: %w", img.ID, err)
	}
	return nil
}

// Forget removes the record of an image without names and keeps its layers, as
// cache. With vfs, where nothing else would keep them, the record stays too, and
// so it does in an index.
func (s *Store) Forget(id string) error {
	if !s.overlay {
		return nil
	}
	img, err := s.Image(id)
	if err != nil {
		return err
	}
	if err := s.pin(img.Layer); err != nil {
		return err
	}
	in, err := s.listed("")
	if err != nil {
		return err
	}
	if record, err := s.store.Image(img.ID); err == nil && isListed(record, in) {
		return nil
	}
	if _, err := s.store.DeleteImage(id, true); err != nil {
		return fmt.Errorf("forget image %s: %w", id, notFound(id, err))
	}
	return nil
}

// RemoveImage takes the name away, and removes the image with its last one;
// given an ID it removes the image, which with several names, or in an index,
// needs force. With an index go its images that have no name. The error wraps
// ErrInUse when a container stands on the image. It returns the names and the
// image IDs that are gone. Layers kept for the cache stay.
func (s *Store) RemoveImage(nameOrID string, force bool) (untagged, deleted []string, err error) {
	img, name, err := s.find(nameOrID)
	if err != nil {
		return nil, nil, err
	}
	manifests, err := s.manifests(img)
	if err != nil {
		return nil, nil, fmt.Errorf("image %s: %w", img.ID, err)
	}
	listed := false
	if !force && manifests == nil {
		in, err := s.listed(img.ID)
		if err != nil {
			return nil, nil, err
		}
		listed = isListed(img, in)
	}
	if name != "" && (len(img.Names) > 1 || listed) {
		if err := s.store.RemoveNames(img.ID, []string{name}); err != nil {
			return nil, nil, fmt.Errorf("untag image %s: %w", name, err)
		}
		return []string{name}, nil, nil
	}
	if name == "" && len(img.Names) > 1 && !force {
		return nil, nil, fmt.Errorf("remove image %s: it has the names %s, force is needed: %w", nameOrID, strings.Join(img.Names, ", "), ErrInUse)
	}
	if listed {
		return nil, nil, fmt.Errorf("remove image %s: %w by an index: remove that, or force is needed", nameOrID, ErrInUse)
	}
	if _, err := s.store.DeleteImage(img.ID, true); err != nil {
		if errors.Is(err, storage.ErrImageUsedByContainer) {
			err = fmt.Errorf("%w by a container: %w", ErrInUse, err)
		}
		return nil, nil, fmt.Errorf("remove image %s: %w", nameOrID, notFound(img.ID, err))
	}
	also, err := s.removeListed(manifests)
	err = errors.Join(err, s.SweepShifted())
	return img.Names, append([]string{img.ID}, also...), err
}

// imageExists reports whether the store has an image with exactly this ID.
func (s *Store) imageExists(ctx context.Context, id string) (*storage.Image, bool, error) {
	if err := context.Cause(ctx); err != nil {
		return nil, false, err
	}
	img, err := s.store.Image(id)
	if errors.Is(err, storage.ErrImageUnknown) {
		return nil, false, nil
	}
	return img, err == nil, err
}
