package output

import (
	"context"
	"fmt"
	"io"

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

// Export brings the image img to where o says.
func (e *Exporter) Export(ctx context.Context, img layers.ImageOptions, o Output) (Done, error) {
	img = o.options(img)
	switch o.kind() {
	case Local:
		return Done{}, e.local(ctx, img.Layer, o.Dest)
	case Tar:
		return Done{}, e.tar(ctx, img.Layer, o.Dest)
	case OCI, Docker:
		return e.archive(ctx, img, o)
	case CacheOnly:
		return Done{}, nil
	case Image:
		return e.image(ctx, img, o)
	}
	return Done{}, o.Check()
}

func (e *Exporter) logf(format string, args ...any) {
	fmt.Fprintf(e.Log, format+"\n", args...)
}

// image makes an image of the store and pushes it.
func (e *Exporter) image(ctx context.Context, img layers.ImageOptions, o Output) (Done, error) {
	written := img.Names
	var done Done
	var err error
	if img.Names, err = fullNames(written); err != nil {
		return done, err
	}
	stored, err := e.Store.CreateImage(ctx, img)
	if err != nil {
		return done, err
	}
	e.logf("writing image sha256:%s", stored.ID)
	for _, n := range img.Names {
		e.logf("naming to %s", n)
	}
	done = Done{Image: &stored, Names: img.Names}
	docs, err := e.Store.Describe(img)
	if err != nil || !o.Push {
		done.Manifest = describe(docs)
		return done, err
	}
	return e.push(ctx, docs, written, o, done)
}

// push sends an image to the registries of its names.
func (e *Exporter) push(ctx context.Context, docs layers.Documents, names []string, o Output, done Done) (Done, error) {
	if len(names) == 0 {
		return done, fmt.Errorf("tag is needed when pushing to registry: give -t REGISTRY/NAME, or name= in the output")
	}
	done.Names = nil
	for _, name := range names {
		ref, err := registry.ParseReference(name)
		if err != nil {
			return done, err
		}
		done.Manifest, err = e.Registry.PushDocuments(ctx, docs, ref, registry.PushOptions{
			Compression: o.Compression, CompressionLevel: o.CompressionLevel, ForceCompression: o.ForceCompression,
		})
		if err != nil {
			return done, err
		}
		done.Names = append(done.Names, ref.Name())
		e.logf("pushing manifest for %s@%s", ref.Name(), done.Manifest.Digest)
	}
	return done, nil
}

// describe is the descriptor of a manifest.
func describe(d layers.Documents) ocispec.Descriptor {
	return ocispec.Descriptor{MediaType: d.ManifestType, Digest: digest.FromBytes(d.Manifest), Size: int64(len(d.Manifest))}
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
func (e *Exporter) archive(ctx context.Context, img layers.ImageOptions, o Output) (done Done, err error) {
	if done.Names, err = fullNames(img.Names); err != nil {
		return done, err
	}
	docs, err := e.Store.Describe(img)
	if err != nil {
		return done, err
	}
	images := []registry.ArchiveImage{{Documents: docs, Names: done.Names}}
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

// tar writes the files of a layer and those below it as a tar.
func (e *Exporter) tar(ctx context.Context, layer, dest string) error {
	view, err := e.Store.View(layer)
	if err != nil {
		return err
	}
	defer view.Close()
	return WriteFile(dest, e.Stdout, func(w io.Writer) error {
		return view.WriteTar(ctx, w, layers.WriteOptions{OnProgress: e.counter()})
	})
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
