package output

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"cooper/layers"
	"cooper/registry"
)

// Exporter writes images. Its fields are set before first use.
type Exporter struct {
	Store *layers.Store
	// Registry pushes and writes archives; its Progress is told how layers
	// go.
	Registry *registry.Client
	// Stdout takes what goes to standard output.
	Stdout io.Writer
	// Log takes a line for each thing done.
	Log io.Writer
	// Progress is told how many bytes of files were written in all.
	Progress func(bytes int64)
}

// Done is what an output came to.
type Done struct {
	// Manifest describes the image's manifest as it was written; zero when
	// only files were.
	Manifest ocispec.Descriptor
	// Names are the full names that the image got.
	Names []string
	// Image is the image in the store, if it went there.
	Image *layers.Image
}

// Export brings the product to where o says.
func (e *Exporter) Export(ctx context.Context, p Product, o Output) (Done, error) {
	p = o.shape(p)
	switch o.kind() {
	case Local:
		return Done{}, e.local(ctx, p, o)
	case Tar:
		return Done{}, e.tar(ctx, p, o)
	case OCI, Docker:
		return e.archive(ctx, p, o)
	case CacheOnly:
		return Done{}, nil
	case Image:
		return e.image(ctx, p, o)
	}
	return Done{}, o.Check()
}

func (e *Exporter) logf(format string, args ...any) {
	fmt.Fprintf(e.Log, format+"\n", args...)
}

// image makes an image or index of the store and pushes it.
func (e *Exporter) image(ctx context.Context, p Product, o Output) (Done, error) {
	var done Done
	names, err := fullNames(p.Names)
	if err != nil {
		return done, err
	}
	if o.ByDigest {
		names = nil
	}
	x, err := o.documents(e.Store, p)
	if err != nil {
		return done, err
	}
	done, err = e.store(ctx, p, x, names)
	if err != nil {
		return done, err
	}
	for _, n := range names {
		e.logf("naming to %s", n)
	}
	if !o.Push {
		return done, nil
	}
	return e.push(ctx, p, x, o, done)
}

// store makes the images of the store, and of an index that.
func (e *Exporter) store(ctx context.Context, p Product, x layers.Index, names []string) (Done, error) {
	done := Done{Names: names, Manifest: x.Images[0].Documents.Descriptor()}
	index := x.Options()
	for i, img := range p.Images {
		if !p.Index {
			img.Names = names
		}
		image, err := e.Store.CreateImage(ctx, img)
		if err != nil {
			return done, err
		}
		e.logf("writing image sha256:%s", image.ID)
		done.Image = &image
		// It may be there with another manifest, as it was pulled.
		d, err := e.Store.Descriptor(image.ID)
		if err != nil {
			return done, err
		}
		to := &index.Manifests[i]
		to.MediaType, to.Digest, to.Size = d.MediaType, d.Digest, d.Size
	}
	if p.List != "" {
		list, err := e.Store.AddToIndex(ctx, p.List, index.Manifests...)
		if err != nil {
			return done, err
		}
		e.logf("adding to index %s", p.List)
		if p.Index {
			done.Image = &list
		}
	}
	if !p.Index {
		return done, nil
	}
	raw, mediaType, err := x.Document(index.Manifests)
	if err != nil {
		return done, err
	}
	done.Manifest = ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(raw), Size: int64(len(raw))}
	if p.List != "" && len(names) == 0 {
		return done, nil
	}
	index.Names = names
	made, err := e.Store.CreateIndex(ctx, index)
	if err == nil {
		done.Image = &made
		e.logf("writing index %s", made.Digest)
	}
	return done, err
}

// push sends the product to the registries of its names.
func (e *Exporter) push(ctx context.Context, p Product, x layers.Index, o Output, done Done) (Done, error) {
	if len(p.Names) == 0 {
		return done, fmt.Errorf("tag is needed when pushing to registry: give -t REGISTRY/NAME, or name= in the output")
	}
	po := registry.PushOptions{
		Compression: o.Compression, CompressionLevel: o.CompressionLevel, ForceCompression: o.ForceCompression, ByDigest: o.ByDigest,
	}
	done.Names = nil
	for _, name := range p.Names {
		ref, err := registry.ParseReference(name)
		if err != nil {
			return done, err
		}
		if p.Index {
			done.Manifest, err = e.Registry.PushIndex(ctx, x, ref, po)
		} else {
			done.Manifest, err = e.Registry.PushDocuments(ctx, x.Images[0].Documents, ref, po)
		}
		if err != nil {
			return done, err
		}
		full := ref.Name()
		if o.ByDigest {
			full = strings.TrimSuffix(full, ":latest")
		}
		done.Names = append(done.Names, full)
		e.logf("pushing manifest for %s@%s", full, done.Manifest.Digest)
	}
	return done, nil
}

// fullNames are names as the store has them.
func fullNames(names []string) ([]string, error) {
	full := make([]string, 0, len(names))
	for _, name := range names {
		n, err := layers.NormalizeName(name)
		if err != nil {
			return nil, fmt.Errorf("tag %q: %w", name, err)
		}
		full = append(full, n)
	}
	return full, nil
}

// archive writes an image layout, into a tar or a directory.
func (e *Exporter) archive(ctx context.Context, p Product, o Output) (done Done, err error) {
	if done.Names, err = fullNames(p.Names); err != nil {
		return done, err
	}
	x, err := o.documents(e.Store, p)
	if err != nil {
		return done, err
	}
	image := registry.ArchiveImage{Documents: x.Images[0].Documents, Annotations: x.Images[0].Annotations, Names: done.Names}
	if p.Index {
		image = registry.ArchiveImage{Index: &x, Annotations: o.annotations(OnIndexDescriptor, nil), Names: done.Names}
	}
	images := []registry.ArchiveImage{image}
	ao := registry.ArchiveOptions{Compression: o.Compression, CompressionLevel: o.CompressionLevel, Docker: o.Type == Docker}
	var descs []ocispec.Descriptor
	if o.Dir {
		err = replaceLayout(o.Dest, func(dir string) error {
			descs, err = e.Registry.WriteLayout(ctx, dir, images, ao)
			return err
		})
	} else {
		err = WriteFile(o.Dest, e.Stdout, func(w io.Writer) error {
			descs, err = e.Registry.WriteArchive(ctx, w, images, ao)
			return err
		})
	}
	if err != nil {
		return done, err
	}
	done.Manifest = descs[0]
	e.logf("exporting manifest %s", done.Manifest.Digest)
	for _, n := range done.Names {
		e.logf("naming to %s", n)
	}
	return done, nil
}

// counter adds up what was written.
func (e *Exporter) counter() func(int64) {
	var total int64
	return func(n int64) {
		total += n
		if e.Progress != nil {
			e.Progress(total)
		}
	}
}
