package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"path/filepath"

	"github.com/containerd/platforms"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"go.podman.io/image/v5/docker/reference"

	"cooper/layers"
)

// ArchiveImage is an image to be put into an archive or layout.
type ArchiveImage struct {
	layers.Documents
	// Names are full names with a tag, for those who load the archive.
	Names []string
	// Index, if not nil, is written in place of Documents, with all its
	// images. Docker's list has the first of them that suits the host.
	Index *layers.Index
	// Annotations are given to the image's entry in index.json.
	Annotations map[string]string
}

// ArchiveOptions say how an archive or layout is written.
type ArchiveOptions struct {
	// Compression of the layers is gzip, zstd or uncompressed; "" = gzip.
	Compression string
	// CompressionLevel is the algorithm's; nil = its default.
	CompressionLevel *int
	// Docker adds the file by which docker load finds the images.
	Docker bool
}

// WriteArchive writes images as a tar of an image layout, which with o.Docker is
// what docker save writes, and returns the descriptors of their manifests. The
// same images and options give the same bytes. Layers go straight from the store
// through the compressor into w when that is a file, and by way of a temporary
// file in the store when it is not and their compressed size must be known first.
func (c *Client) WriteArchive(ctx context.Context, w io.Writer, images []ArchiveImage, o ArchiveOptions) (_ []ocispec.Descriptor, err error) {
	dir, err := c.Store.Dir("transfer")
	if err != nil {
		return nil, fmt.Errorf("write archive: %w", err)
	}
	spool, err := newScratch(dir)
	if err != nil {
		return nil, fmt.Errorf("write archive: %w", err)
	}
	defer func() { err = errors.Join(err, spool.Close()) }()
	sink := newTarSink(w, spool.path)
	descs, err := c.writeImages(ctx, sink, images, o)
	if err == nil {
		err = sink.finish()
	}
	if err != nil {
		return nil, cancelled(ctx, fmt.Errorf("write archive: %w", err))
	}
	return descs, nil
}

// WriteLayout is WriteArchive for a directory, which is made when missing. An
// image layout that is there is added to: an image of the same name loses it,
// as in docker. What is in the directory is a whole layout at any time.
func (c *Client) WriteLayout(ctx context.Context, dir string, images []ArchiveImage, o ArchiveOptions) ([]ocispec.Descriptor, error) {
	sink, err := newDirSink(dir)
	if err != nil {
		return nil, fmt.Errorf("write layout: %w", err)
	}
	descs, err := c.writeImages(ctx, sink, images, o)
	if err != nil {
		return nil, cancelled(ctx, fmt.Errorf("write layout: %w", err))
	}
	return descs, nil
}

// cancelled is the reason that ctx ended for, if it did, else err.
func cancelled(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// sink is where the parts of an image layout go: a directory or a tar.
type sink interface {
	// blob stores what write writes under its digest.
	blob(write func(io.Writer) error) (digest.Digest, int64, error)
	// known stores what write writes, of which digest and size are known.
	known(d digest.Digest, size int64, write func(io.Writer) error) error
	// index is the index.json that is there; zero = none.
	index() (ocispec.Index, error)
	// file stores a file beside the blobs.
	file(name string, content []byte) error
}

// imageWriter is one running WriteArchive or WriteLayout.
type imageWriter struct {
	client  *Client
	sink    sink
	options ArchiveOptions
	written map[digest.Digest]ocispec.Descriptor // layers by DiffID
}

// dockerEntry is an image in the manifest.json of docker save.
type dockerEntry struct {
	Config   string
	RepoTags []string
	Layers   []string
}

func (c *Client) writeImages(ctx context.Context, s sink, images []ArchiveImage, o ArchiveOptions) ([]ocispec.Descriptor, error) {
	w := &imageWriter{client: c, sink: s, options: o, written: map[digest.Digest]ocispec.Descriptor{}}
	if _, err := layerType(o.Compression, false); err != nil {
		return nil, err
	}
	index, err := s.index()
	if err != nil {
		return nil, err
	}
	var descs []ocispec.Descriptor
	entries := []dockerEntry{}
	for _, image := range images {
		desc, entry, err := w.entry(ctx, image)
		if err != nil {
			return nil, err
		}
		descs = append(descs, desc)
		if entry != nil {
			entry.RepoTags = append([]string{}, image.Names...)
			entries = append(entries, *entry)
		}
		desc.Annotations = image.Annotations
		if index.Manifests, err = list(index.Manifests, desc, image.Names); err != nil {
			return nil, err
		}
	}
	index.Versioned, index.MediaType = specs.Versioned{SchemaVersion: 2}, ocispec.MediaTypeImageIndex
	files := []struct {
		name  string
		value any
	}{{ocispec.ImageLayoutFile, ocispec.ImageLayout{Version: ocispec.ImageLayoutVersion}}, {"manifest.json", entries}, {ocispec.ImageIndexFile, index}}
	for _, f := range files {
		if f.name == "manifest.json" && !o.Docker {
			continue
		}
		content, err := json.Marshal(f.value)
		if err != nil {
			return nil, err
		}
		if err := s.file(f.name, content); err != nil {
			return nil, fmt.Errorf("%s: %w", f.name, err)
		}
	}
	return descs, nil
}

// entry writes the blobs of an image or index. It returns what docker's list has
// of it, nil for an index without an image for the host.
func (w *imageWriter) entry(ctx context.Context, image ArchiveImage) (ocispec.Descriptor, *dockerEntry, error) {
	if image.Index == nil {
		desc, entry, err := w.image(ctx, image.Documents)
		return desc, &entry, err
	}
	var descs []ocispec.Descriptor
	var host *dockerEntry
	for _, one := range image.Index.Images {
		desc, entry, err := w.image(ctx, one.Documents)
		if err != nil {
			return desc, nil, err
		}
		descs = append(descs, desc)
		if host == nil && one.Platform != nil && platforms.Default().Match(*one.Platform) {
			host = &entry
		}
	}
	raw, mediaType, err := image.Index.Document(descs)
	if err == nil {
		err = w.bytes(raw)
	}
	return ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(raw), Size: int64(len(raw))}, host, err
}

// image writes the blobs of an image.
func (w *imageWriter) image(ctx context.Context, image layers.Documents) (ocispec.Descriptor, dockerEntry, error) {
	var m ocispec.Manifest
	if err := json.Unmarshal(image.Manifest, &m); err != nil {
		return ocispec.Descriptor{}, dockerEntry{}, fmt.Errorf("manifest: %w", err)
	}
	entry := dockerEntry{Config: blobPath(m.Config.Digest), RepoTags: []string{}, Layers: []string{}}
	for i, l := range image.Layers {
		desc, err := w.layer(ctx, l, image.Docker())
		if err != nil {
			return ocispec.Descriptor{}, dockerEntry{}, err
		}
		m.Layers[i] = desc
		entry.Layers = append(entry.Layers, blobPath(desc.Digest))
	}
	if err := w.bytes(image.Config); err != nil {
		return ocispec.Descriptor{}, dockerEntry{}, fmt.Errorf("config: %w", err)
	}
	raw, err := json.Marshal(m)
	if err == nil {
		err = w.bytes(raw)
	}
	desc := ocispec.Descriptor{MediaType: image.ManifestType, Digest: digest.FromBytes(raw), Size: int64(len(raw))}
	return desc, entry, err
}

// bytes writes a blob that is at hand.
func (w *imageWriter) bytes(content []byte) error {
	return w.sink.known(digest.FromBytes(content), int64(len(content)), func(out io.Writer) error {
		_, err := out.Write(content)
		return err
	})
}

// layer writes a layer, once for all images that have it.
func (w *imageWriter) layer(ctx context.Context, l layers.Layer, docker bool) (desc ocispec.Descriptor, err error) {
	desc, ok := w.written[l.DiffID]
	if !ok {
		if desc, err = w.newLayer(ctx, l); err != nil {
			return desc, fmt.Errorf("layer %s: %w", l.DiffID, err)
		}
		w.written[l.DiffID] = desc
	}
	desc.MediaType, err = layerType(w.options.Compression, docker)
	return desc, err
}

func (w *imageWriter) newLayer(ctx context.Context, l layers.Layer) (ocispec.Descriptor, error) {
	copyTo := func(out io.Writer) error {
		r, err := w.client.Store.Diff(ctx, l.ID)
		if err != nil {
			return err
		}
		defer r.Close()
		return w.compress(out, &layerReader{r: r, client: w.client, layer: l})
	}
	desc := ocispec.Descriptor{Digest: l.DiffID, Size: l.Size}
	if w.options.Compression == Uncompressed && l.Size > 0 {
		return desc, w.sink.known(l.DiffID, l.Size, copyTo)
	}
	var err error
	desc.Digest, desc.Size, err = w.sink.blob(copyTo)
	return desc, err
}

// list puts an image into an index under its names, which others there lose.
func list(manifests []ocispec.Descriptor, desc ocispec.Descriptor, names []string) ([]ocispec.Descriptor, error) {
	if len(names) == 0 {
		return append(without(manifests, func(d ocispec.Descriptor) bool {
			return d.Digest == desc.Digest && maps.Equal(d.Annotations, desc.Annotations)
		}), desc), nil
	}
	for _, name := range names {
		named, err := reference.ParseNormalizedNamed(name)
		if err != nil {
			return nil, nameError(name, err)
		}
		tagged, ok := reference.TagNameOnly(named).(reference.NamedTagged)
		if !ok {
			return nil, fmt.Errorf("name %q has no tag", name)
		}
		full := tagged.String()
		manifests = without(manifests, func(d ocispec.Descriptor) bool { return d.Annotations[nameAnnotation] == full })
		one := desc
		one.Annotations = map[string]string{nameAnnotation: full, ocispec.AnnotationRefName: tagged.Tag()}
		maps.Copy(one.Annotations, desc.Annotations)
		manifests = append(manifests, one)
	}
	return manifests, nil
}

// nameAnnotation is where containerd, docker and BuildKit keep an image's full
// name; the specification's own has the tag alone.
const nameAnnotation = "io.containerd.image.name"

func without(list []ocispec.Descriptor, drop func(ocispec.Descriptor) bool) []ocispec.Descriptor {
	kept := []ocispec.Descriptor{}
	for _, d := range list {
		if !drop(d) {
			kept = append(kept, d)
		}
	}
	return kept
}

// blobPath is where a blob is in a layout.
func blobPath(d digest.Digest) string {
	return path.Join(ocispec.ImageBlobsDir, d.Algorithm().String(), d.Encoded())
}

// dirSink is a layout in a directory.
type dirSink struct{ dir string }

func newDirSink(dir string) (*dirSink, error) {
	return &dirSink{dir}, os.MkdirAll(filepath.Join(dir, ocispec.ImageBlobsDir, "sha256"), 0o755)
}

func (s *dirSink) index() (index ocispec.Index, err error) {
	raw, err := os.ReadFile(filepath.Join(s.dir, ocispec.ImageIndexFile))
	if errors.Is(err, os.ErrNotExist) {
		return index, nil
	}
	if err == nil {
		err = json.Unmarshal(raw, &index)
	}
	if err != nil {
		err = fmt.Errorf("%s: %w", ocispec.ImageIndexFile, err)
	}
	return index, err
}

func (s *dirSink) blob(write func(io.Writer) error) (d digest.Digest, size int64, err error) {
	err = replace(filepath.Join(s.dir, ocispec.ImageBlobsDir, "sha256"), func(out io.Writer) (string, error) {
		m := newMeter(out)
		err := write(m)
		d, size = m.sum(), m.size
		return d.Encoded(), err
	})
	return d, size, err
}

func (s *dirSink) known(want digest.Digest, _ int64, write func(io.Writer) error) error {
	if _, err := os.Lstat(filepath.Join(s.dir, blobPath(want))); err == nil {
		return nil
	}
	got, _, err := s.blob(write)
	if err == nil && got != want {
		err = fmt.Errorf("it has digest %s", got)
	}
	return err
}

func (s *dirSink) file(name string, content []byte) error {
	return replace(s.dir, func(out io.Writer) (string, error) {
		_, err := out.Write(content)
		return name, err
	})
}

// replace writes a file in dir under a temporary name, and gives it the name
// that write returns.
func replace(dir string, write func(io.Writer) (string, error)) (err error) {
	f, err := os.CreateTemp(dir, ".part-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(f.Name())
		}
	}()
	name, err := write(f)
	if err = errors.Join(err, f.Chmod(0o644), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), filepath.Join(dir, name))
}
