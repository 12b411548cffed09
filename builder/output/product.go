package output

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/containerd/platforms"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"cooper/layers"
)

// Product is what a build has made.
type Product struct {
	// Images has the image for each platform. Their names don't count.
	Images []layers.ImageOptions
	// Names are given to the image or, with Index, the index.
	Names []string
	// Index says that the result is an index, also of one image.
	Index bool
	// List is an index of the store that images of the store are added to as
	// well; "" is none.
	List string
}

// ID is the ID that the product has, in hex, if it is not in the store: the digest
// of the image's config or of the index.
func (p *Product) ID(store *layers.Store) (string, error) {
	x, err := p.describe(store)
	if err != nil {
		return "", err
	}
	if !p.Index {
		return x.Images[0].ID(), nil
	}
	raw, _, err := x.Document(nil)
	return digest.FromBytes(raw).Encoded(), err
}

// describe writes the documents of the product. Without Index, that of the only
// image counts.
func (p *Product) describe(store *layers.Store) (layers.Index, error) {
	x := layers.Index{DockerFormat: p.Images[0].DockerFormat}
	for _, img := range p.Images {
		docs, err := store.Describe(img)
		if err != nil {
			return x, err
		}
		platform := platforms.Normalize(img.Config.Platform)
		x.Images = append(x.Images, layers.IndexImage{Documents: docs, Platform: &platform})
	}
	return x, nil
}

// Level says what an annotation is put on. The names are BuildKit's.
type Level string

// The levels. The zero value is OnManifest.
const (
	OnManifest           Level = "manifest"
	OnManifestDescriptor Level = "manifest-descriptor" // the manifest's entry in the index
	OnIndex              Level = "index"
	OnIndexDescriptor    Level = "index-descriptor" // the index's entry in an image layout
)

// Annotation is a note on a part of an image.
type Annotation struct {
	Level Level
	// Platform is that of the image; nil is all. It means nothing for an
	// index.
	Platform    *ocispec.Platform
	Name, Value string
}

// level is the level, with its default.
func (a *Annotation) level() Level {
	if a.Level == "" {
		return OnManifest
	}
	return a.Level
}

// annotations are those of a level for an image; p nil is the index. nil is none.
func (o *Output) annotations(level Level, p *ocispec.Platform) map[string]string {
	var found map[string]string
	for _, a := range o.Annotations {
		if a.level() != level || p != nil && a.Platform != nil && !samePlatform(*p, *a.Platform) {
			continue
		}
		if found == nil {
			found = map[string]string{}
		}
		found[a.Name] = a.Value
	}
	return found
}

func samePlatform(a, b ocispec.Platform) bool {
	return platforms.FormatAll(platforms.Normalize(a)) == platforms.FormatAll(platforms.Normalize(b))
}

// CheckPlatforms finds what o cannot do with images for these platforms, or with
// an index of them, in BuildKit's words.
func (o *Output) CheckPlatforms(all []ocispec.Platform, index bool) error {
	for _, a := range o.Annotations {
		if a.Platform != nil && !slices.ContainsFunc(all, func(p ocispec.Platform) bool { return samePlatform(p, *a.Platform) }) {
			return fmt.Errorf("invalid annotation: no platform %s found in source", platforms.FormatAll(*a.Platform))
		}
		switch level := a.level(); {
		case !index && (level == OnIndex || level == OnIndexDescriptor):
			return fmt.Errorf("%s annotations not supported for single platform export", level)
		case o.Format == "docker" && level != OnManifest:
			return errors.New(`cannot export annotations with "oci-mediatypes=false"`)
		}
	}
	if index && o.kind() == Docker {
		return errors.New("docker exporter does not currently support exporting manifest lists: use type=oci")
	}
	return nil
}

// shape makes the product what o says: its names, annotations and format.
func (o *Output) shape(p Product) Product {
	if o.Names != nil {
		p.Names = o.Names
	}
	p.Images = slices.Clone(p.Images)
	oci := o.Compression == "zstd" || len(o.annotations(OnIndex, nil)) > 0
	for i := range p.Images {
		img := &p.Images[i]
		img.Names = nil
		img.Annotations = maps.Clone(img.Annotations)
		if found := o.annotations(OnManifest, &img.Config.Platform); found != nil {
			img.Annotations = found
		}
		if o.Format != "" {
			img.DockerFormat = o.Format == "docker"
		}
		oci = oci || len(img.Annotations) > 0
	}
	// As with BuildKit, what docker's format cannot hold makes it OCI's.
	for i := range p.Images {
		p.Images[i].DockerFormat = p.Images[i].DockerFormat && !oci
	}
	return p
}

// documents are those of the shaped product p, with o's annotations.
func (o *Output) documents(store *layers.Store, p Product) (layers.Index, error) {
	x, err := p.describe(store)
	if err != nil {
		return x, err
	}
	x.Annotations = o.annotations(OnIndex, nil)
	for i := range x.Images {
		x.Images[i].Annotations = o.annotations(OnManifestDescriptor, x.Images[i].Platform)
	}
	return x, nil
}
