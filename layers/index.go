package layers

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/containerd/platforms"
	digest "github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"go.podman.io/storage"
)

// An index is in the store what podman and buildah call a manifest list: an image
// record without layers. Its document "manifest" is the index, which names its
// images by the digests of their manifests; its document "instances.json" says
// for each digest where that image is:
//
//	{"sha256:...": "containers-storage:[overlay@/root+/run]@IMAGE-ID"}
const instancesKey = "instances.json"

// dockerListType is docker's media type of an index.
const dockerListType = "application/vnd.docker.distribution.manifest.list.v2+json"

// Index describes an index: images for several platforms under one name.
type Index struct {
	// Images are the images, in the order of the index.
	Images []IndexImage
	// Annotations are the index's own; docker's format has none.
	Annotations map[string]string
	// DockerFormat writes docker's media type in place of OCI's.
	DockerFormat bool
}

// IndexImage is one image of an index.
type IndexImage struct {
	Documents
	// Platform is what the image is for; nil if the index does not say.
	Platform *ocispec.Platform
	// Annotations are those of the entry in the index, beside the manifest's
	// own.
	Annotations map[string]string
}

// Descriptor describes the image's manifest, as the index has it.
func (i *IndexImage) Descriptor() ocispec.Descriptor {
	d := i.Documents.Descriptor()
	d.Platform, d.Annotations = i.Platform, i.Annotations
	return d
}

// Document writes the index. manifests are the images' descriptors where these
// have come to differ from the store's by compression; nil keeps those. Platforms
// and annotations are the Index's.
func (x *Index) Document(manifests []ocispec.Descriptor) (raw []byte, mediaType string, err error) {
	o := x.Options()
	for i, d := range manifests {
		to := &o.Manifests[i]
		to.MediaType, to.Digest, to.Size = d.MediaType, d.Digest, d.Size
	}
	return o.document()
}

// Options are what CreateIndex makes the index of, once its images are in the
// store.
func (x *Index) Options() IndexOptions {
	o := IndexOptions{Manifests: make([]ocispec.Descriptor, len(x.Images)), Annotations: x.Annotations, DockerFormat: x.DockerFormat}
	for i := range x.Images {
		o.Manifests[i] = x.Images[i].Descriptor()
	}
	return o
}

// IndexOptions says what an index in the store has.
type IndexOptions struct {
	// Names move here from what has them; see NormalizeName.
	Names []string
	// Manifests are its entries: each the manifest of an image in the store.
	Manifests []ocispec.Descriptor
	// Annotations and DockerFormat are as in Index.
	Annotations  map[string]string
	DockerFormat bool
}

func (o *IndexOptions) document() (raw []byte, mediaType string, err error) {
	doc := ocispec.Index{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex,
		Manifests: append([]ocispec.Descriptor{}, o.Manifests...), Annotations: o.Annotations,
	}
	if o.DockerFormat {
		doc.MediaType, doc.Annotations = dockerListType, nil
	}
	raw, err = json.Marshal(doc)
	return raw, doc.MediaType, err
}

// CreateIndex writes an index of images that are in the store. The same index is
// made once, and only gets the names.
func (s *Store) CreateIndex(ctx context.Context, o IndexOptions) (Image, error) {
	names, err := normalizeAll(o.Names)
	if err != nil {
		return Image{}, err
	}
	data, err := s.indexData(o)
	if err != nil {
		return Image{}, fmt.Errorf("create index: %w", err)
	}
	id := data.Digest.Encoded()
	if there, exists, err := s.imageExists(ctx, id); err != nil {
		return Image{}, fmt.Errorf("create index: %w", err)
	} else if exists && there.BigDataDigests[storage.ImageDigestBigDataKey] != data.Digest {
		id = "" // it has been edited since: this is another one, with an ID of its own
	}
	img, err := s.putImage(ctx, id, "", data)
	if err == nil {
		img, err = s.addNames(img, names)
	}
	if err != nil {
		return Image{}, fmt.Errorf("create index: %w", err)
	}
	return s.image(img, s.layerSize)
}

// IndexOptions returns what an index of the store has.
func (s *Store) IndexOptions(nameOrID string) (IndexOptions, error) {
	r, _, err := s.find(nameOrID)
	if err != nil {
		return IndexOptions{}, err
	}
	doc, err := s.indexDocument(r)
	if err == nil && doc == nil {
		err = errors.New("it is an image, not an index")
	}
	if err != nil {
		return IndexOptions{}, fmt.Errorf("index %s: %w", nameOrID, err)
	}
	return IndexOptions{Names: r.Names, Manifests: doc.Manifests, Annotations: doc.Annotations, DockerFormat: doc.MediaType == dockerListType}, nil
}

// EditIndex lets edit change what the index nameOrID has. It keeps its ID and its
// names; those in the options don't count. Several processes may edit an index at
// once: edit has it for itself.
func (s *Store) EditIndex(nameOrID string, edit func(*IndexOptions) error) (Image, error) {
	unlock, err := s.lockCommits()
	if err != nil {
		return Image{}, fmt.Errorf("index %s: %w", nameOrID, err)
	}
	defer unlock()
	return s.editIndex(nameOrID, edit)
}

func (s *Store) editIndex(nameOrID string, edit func(*IndexOptions) error) (Image, error) {
	o, err := s.IndexOptions(nameOrID)
	if err != nil {
		return Image{}, err
	}
	img, _, err := s.find(nameOrID)
	if err != nil {
		return Image{}, err
	}
	if err := edit(&o); err != nil {
		return Image{}, err
	}
	data, err := s.indexData(o)
	if err != nil {
		return Image{}, fmt.Errorf("index %s: %w", nameOrID, err)
	}
	for _, d := range data.BigData {
		digestOf := func([]byte) (digest.Digest, error) { return d.Digest, nil }
		if err := s.store.SetImageBigData(img.ID, d.Key, d.Data, digestOf); err != nil {
			return Image{}, fmt.Errorf("index %s: %w", nameOrID, err)
		}
	}
	return s.Image(img.ID)
}

// AddToIndex adds images of the store to the index called name, which is made
// when it is not there. An entry for the same platform is replaced. Several
// processes may add to an index at once.
func (s *Store) AddToIndex(ctx context.Context, name string, manifests ...ocispec.Descriptor) (Image, error) {
	unlock, err := s.lockCommits()
	if err != nil {
		return Image{}, fmt.Errorf("index %s: %w", name, err)
	}
	defer unlock()
	img, err := s.editIndex(name, func(o *IndexOptions) error {
		for _, d := range manifests {
			i := slices.IndexFunc(o.Manifests, func(old ocispec.Descriptor) bool { return samePlatform(old.Platform, d.Platform) })
			if i < 0 {
				o.Manifests = append(o.Manifests, d)
			} else {
				o.Manifests[i] = d
			}
		}
		return nil
	})
	if errors.Is(err, ErrNotFound) {
		return s.CreateIndex(ctx, IndexOptions{Names: []string{name}, Manifests: manifests})
	}
	return img, err
}

func samePlatform(a, b *ocispec.Platform) bool {
	return a != nil && b != nil && platforms.FormatAll(platforms.Normalize(*a)) == platforms.FormatAll(platforms.Normalize(*b))
}

// Manifest returns the manifest of an image of the store, or an index, as it is
// there.
func (s *Store) Manifest(nameOrID string) ([]byte, error) {
	r, _, err := s.find(nameOrID)
	if err != nil {
		return nil, err
	}
	raw, err := s.store.ImageBigData(r.ID, storage.ImageDigestBigDataKey)
	if err != nil {
		return nil, fmt.Errorf("image %s: %w", nameOrID, err)
	}
	return raw, nil
}

// Descriptor describes an image of the store by its manifest as it is there, with
// its platform: an entry for an index.
func (s *Store) Descriptor(nameOrID string) (ocispec.Descriptor, error) {
	r, _, err := s.find(nameOrID)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	raw, err := s.store.ImageBigData(r.ID, storage.ImageDigestBigDataKey)
	if err != nil {
		return ocispec.Descriptor{}, fmt.Errorf("image %s: %w", nameOrID, err)
	}
	config, err := s.imageConfig(r)
	if err != nil {
		return ocispec.Descriptor{}, fmt.Errorf("image %s: %w", nameOrID, err)
	}
	var m ocispec.Manifest
	var p ocispec.Platform
	if err := errors.Join(json.Unmarshal(raw, &m), json.Unmarshal(config, &p)); err != nil {
		return ocispec.Descriptor{}, fmt.Errorf("image %s: %w", nameOrID, err)
	}
	d := ocispec.Descriptor{MediaType: m.MediaType, Digest: digest.FromBytes(raw), Size: int64(len(raw)), Platform: &p}
	if d.MediaType == "" { // OCI's manifest need not say
		d.MediaType = ocispec.MediaTypeImageManifest
	}
	return d, nil
}

// indexData lays the documents of an index out as podman does.
func (s *Store) indexData(o IndexOptions) (*storage.ImageOptions, error) {
	raw, _, err := o.document()
	if err != nil {
		return nil, err
	}
	where := make(map[digest.Digest]string, len(o.Manifests))
	for _, d := range o.Manifests {
		img, err := s.findDigest(d.Digest, nil)
		if err != nil {
			return nil, fmt.Errorf("image %s: %w", d.Digest, notFound(d.Digest.String(), err))
		}
		where[d.Digest] = fmt.Sprintf("containers-storage:[%s@%s+%s]@%s", s.DriverName(), s.Root(), s.RunRoot(), img.ID)
	}
	instances, err := json.Marshal(where)
	if err != nil {
		return nil, err
	}
	sum := digest.FromBytes(raw)
	return &storage.ImageOptions{
		Digest:   sum,
		Metadata: "{}",
		BigData: []storage.ImageBigDataOption{
			{Key: storage.ImageDigestBigDataKey, Data: raw, Digest: sum},
			{Key: instancesKey, Data: instances, Digest: digest.FromBytes(instances)},
		},
	}, nil
}

// indexDocument reads the index that a record is, nil if it is an image's.
func (s *Store) indexDocument(r *storage.Image) (*ocispec.Index, error) {
	if r.TopLayer != "" || slices.Contains(r.BigDataNames, "sha256:"+r.ID) || !slices.Contains(r.BigDataNames, storage.ImageDigestBigDataKey) {
		return nil, nil
	}
	raw, err := s.store.ImageBigData(r.ID, storage.ImageDigestBigDataKey)
	if err != nil {
		return nil, err
	}
	var doc ocispec.Index
	if err := json.Unmarshal(raw, &doc); err != nil {
		return nil, fmt.Errorf("manifest: %w", err)
	}
	if doc.MediaType != ocispec.MediaTypeImageIndex && doc.MediaType != dockerListType && doc.Manifests == nil {
		return nil, nil
	}
	return &doc, nil
}

// manifests returns the entries of an index, nil if the record is an image's.
func (s *Store) manifests(r *storage.Image) ([]ocispec.Descriptor, error) {
	doc, err := s.indexDocument(r)
	if err != nil || doc == nil {
		return nil, err
	}
	return append([]ocispec.Descriptor{}, doc.Manifests...), nil
}

// ImageFor is Image, but of an index the image for platform p; of a zero p what
// is empty is the host's. An index that has none in the store wraps ErrNotFound.
func (s *Store) ImageFor(nameOrID string, p ocispec.Platform) (Image, error) {
	img, err := s.Image(nameOrID)
	if err != nil || !img.IsIndex() {
		return img, err
	}
	host := platforms.DefaultSpec()
	if p.Architecture == "" {
		p.Architecture, p.Variant = host.Architecture, host.Variant
	}
	if p.OS == "" {
		p.OS = host.OS
	}
	found, ok := choose(img.Manifests, p)
	if !ok {
		return Image{}, fmt.Errorf("image %s: %w: it has no image for %s, only for %s", nameOrID, ErrNotFound, platforms.Format(p), listPlatforms(img.Manifests))
	}
	one, err := s.findDigest(found.Digest, nil)
	if err != nil {
		return Image{}, fmt.Errorf("image %s for %s: %w", nameOrID, platforms.Format(p), notFound(found.Digest.String(), err))
	}
	return s.image(one, s.layerSize)
}

// choose picks the entry that suits p best.
func choose(manifests []ocispec.Descriptor, p ocispec.Platform) (best ocispec.Descriptor, ok bool) {
	matcher := platforms.Only(platforms.Normalize(p))
	for _, d := range manifests {
		if d.Platform == nil || !matcher.Match(platforms.Normalize(*d.Platform)) {
			continue
		}
		if !ok || matcher.Less(*d.Platform, *best.Platform) {
			best, ok = d, true
		}
	}
	return best, ok
}

// listPlatforms names the platforms of an index for a message.
func listPlatforms(manifests []ocispec.Descriptor) string {
	var names []string
	for _, d := range manifests {
		if d.Platform != nil {
			names = append(names, platforms.Format(*d.Platform))
		}
	}
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, ", ")
}

// Index returns an index of the store with the documents of its images, which, as
// those of Documents, list the layers uncompressed. An image that the store has
// not is an error that wraps ErrNotFound.
func (s *Store) Index(nameOrID string) (Index, error) {
	o, err := s.IndexOptions(nameOrID)
	if err != nil {
		return Index{}, err
	}
	x := Index{Annotations: o.Annotations, DockerFormat: o.DockerFormat}
	for _, d := range o.Manifests {
		img, err := s.findDigest(d.Digest, nil)
		if err != nil {
			return Index{}, fmt.Errorf("index %s: %w", nameOrID, notFound(d.Digest.String(), err))
		}
		docs, err := s.storedDocuments(img, d.Digest)
		if err != nil {
			return Index{}, fmt.Errorf("index %s: %w", nameOrID, err)
		}
		x.Images = append(x.Images, IndexImage{Documents: docs, Platform: d.Platform, Annotations: d.Annotations})
	}
	return x, nil
}

// listed returns the digests that the store's indexes list, but for the index
// with this ID.
func (s *Store) listed(except string) (map[digest.Digest]bool, error) {
	records, err := s.store.Images()
	if err != nil {
		return nil, fmt.Errorf("list images: %w", err)
	}
	in := map[digest.Digest]bool{}
	for i := range records {
		if records[i].ID == except {
			continue
		}
		manifests, err := s.manifests(&records[i])
		if errors.Is(err, storage.ErrImageUnknown) {
			continue // removed since
		}
		if err != nil {
			return nil, fmt.Errorf("image %s: %w", records[i].ID, err)
		}
		for _, d := range manifests {
			in[d.Digest] = true
		}
	}
	return in, nil
}

// isListed reports whether one of the image's manifests is among those listed.
func isListed(img *storage.Image, listed map[digest.Digest]bool) bool {
	return slices.ContainsFunc(img.Digests, func(d digest.Digest) bool { return listed[d] })
}

// removeListed removes the images of an index that is gone: those without a name
// that no other index lists and no container uses.
func (s *Store) removeListed(manifests []ocispec.Descriptor) (deleted []string, err error) {
	kept, err := s.listed("")
	if err != nil {
		return nil, err
	}
	for _, d := range manifests {
		img, err := s.findDigest(d.Digest, nil)
		if err != nil || isListed(img, kept) || len(img.Names) > 0 {
			continue
		}
		_, err = s.store.DeleteImage(img.ID, true)
		switch {
		case err == nil:
			deleted = append(deleted, img.ID)
		case !errors.Is(err, storage.ErrImageUsedByContainer) && !errors.Is(err, storage.ErrImageUnknown):
			return deleted, fmt.Errorf("remove image %s: %w", img.ID, err)
		}
	}
	return deleted, nil
}
