package registry

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"go.podman.io/image/v5/copy"
	"go.podman.io/image/v5/directory"
	"go.podman.io/image/v5/docker/reference"
	"go.podman.io/image/v5/manifest"
	ociarchive "go.podman.io/image/v5/oci/archive"
	"go.podman.io/image/v5/oci/layout"
	"go.podman.io/image/v5/pkg/compression"
	"go.podman.io/image/v5/types"

	"cooper/layers"
)

// Format is the kind of manifest.
type Format string

// The formats. FormatAsStored converts only where the destination knows nothing
// else.
const (
	FormatAsStored Format = ""
	FormatOCI      Format = "oci"
	FormatDocker   Format = "docker" // schema 2
)

// PushOptions says how Push writes. The zero value keeps the manifest's format
// and compresses layers with gzip unless the destination has them.
type PushOptions struct {
	Format Format
	// Compression is gzip, zstd, zstd:chunked or uncompressed; "" = gzip.
	// It is for the layers that the destination lacks.
	Compression string
	// ForceCompression applies Compression to all layers.
	ForceCompression bool
	// CompressionLevel is the algorithm's; nil = its default.
	CompressionLevel *int
	// Names are further names for a docker archive's image.
	Names []string
	// ByDigest pushes to a registry without giving the image a tag: it is
	// found by the digest of the descriptor returned. The reference's own
	// tag does not count.
	ByDigest bool
}

// Uncompressed is the Compression that leaves layers as they are.
const Uncompressed = "uncompressed"

// Push writes an image of the store, by name or id, to a registry, layout or
// archive and returns the descriptor of what was written. An index goes with all
// its images. Layers the registry has already are not sent. An archive must not
// exist before, and none is left when Push fails; a layout is added to. Errors
// are described by Error.
func (c *Client) Push(ctx context.Context, nameOrID string, to Reference, o PushOptions) (ocispec.Descriptor, error) {
	fail := func(err error) (ocispec.Descriptor, error) {
		return ocispec.Descriptor{}, failure(ctx, "push", Reference{transport: ContainersStorage, name: nameOrID}, err)
	}
	img, err := c.Store.Image(nameOrID)
	if err != nil {
		return fail(err)
	}
	if img.IsIndex() {
		x, err := c.Store.Index(nameOrID)
		if err != nil {
			return fail(err)
		}
		return c.PushIndex(ctx, x, to, o)
	}
	docs, err := c.Store.Documents(nameOrID)
	if err != nil {
		return fail(err)
	}
	return c.PushDocuments(ctx, docs, to, o)
}

// PushDocuments is Push for an image that the store need not have a record of.
// Layers are read, compressed, digested and sent in one go.
func (c *Client) PushDocuments(ctx context.Context, docs layers.Documents, to Reference, o PushOptions) (ocispec.Descriptor, error) {
	src, err := c.storedReference(docs)
	if err != nil {
		return ocispec.Descriptor{}, failure(ctx, "push", to, err)
	}
	return c.pushSource(ctx, src, copy.CopySystemImage, to, o)
}

func (c *Client) pushSource(ctx context.Context, src types.ImageReference, which copy.ImageListSelection, to Reference, o PushOptions) (ocispec.Descriptor, error) {
	raw, err := repeat(ctx, c, to, func() ([]byte, error) { return c.push(ctx, src, which, to, o) })
	if err != nil {
		return ocispec.Descriptor{}, failure(ctx, "push", to, err)
	}
	return ocispec.Descriptor{
		MediaType: manifest.GuessMIMEType(raw),
		Digest:    digest.FromBytes(raw),
		Size:      int64(len(raw)),
	}, nil
}

func (c *Client) push(ctx context.Context, src types.ImageReference, which copy.ImageListSelection, to Reference, o PushOptions) (raw []byte, err error) {
	sys, closeSys, err := c.open(to, ocispec.Platform{})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, closeSys()) }()
	dest, err := destination(to, o.ByDigest)
	if err != nil {
		return nil, err
	}
	co := &copy.Options{SourceCtx: sys, DestinationCtx: sys, ImageListSelection: which}
	if err := o.apply(co); err != nil {
		return nil, err
	}
	if to.transport == OCIArchive || to.transport == DockerArchive {
		if _, err := os.Lstat(to.path); !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("%s: %w", to.path, fs.ErrExist)
		}
		defer func() {
			if err != nil {
				if removeErr := os.Remove(to.path); !errors.Is(removeErr, fs.ErrNotExist) {
					err = errors.Join(err, removeErr)
				}
			}
		}()
	}
	return c.copy(ctx, to, dest, src, co)
}

// apply writes o into image/v5's options.
func (o PushOptions) apply(co *copy.Options) error {
	switch o.Format {
	case FormatAsStored:
	case FormatOCI:
		co.ForceManifestMIMEType = ocispec.MediaTypeImageManifest
	case FormatDocker:
		co.ForceManifestMIMEType = manifest.DockerV2Schema2MediaType
	default:
		return fmt.Errorf("unknown format %q: want oci or docker", o.Format)
	}
	switch o.Compression {
	case "":
	case Uncompressed:
		// The manifest that we hand out lists the layers uncompressed.
		co.PreserveDigests = true
	default:
		algorithm, err := compression.AlgorithmByName(o.Compression)
		if err != nil {
			return fmt.Errorf("compression: %w", err)
		}
		co.DestinationCtx.CompressionFormat = &algorithm
		co.ForceCompressionFormat = o.ForceCompression
	}
	co.DestinationCtx.CompressionLevel = o.CompressionLevel
	for _, name := range o.Names {
		named, err := reference.ParseNormalizedNamed(name)
		if err != nil {
			return nameError(name, err)
		}
		tagged, ok := reference.TagNameOnly(named).(reference.NamedTagged)
		if !ok {
			return fmt.Errorf("name %q has no tag", name)
		}
		co.DestinationCtx.DockerArchiveAdditionalTags = append(co.DestinationCtx.DockerArchiveAdditionalTags, tagged)
	}
	return nil
}

// destination returns image/v5's form of ref, for writing, in a registry without
// a tag if byDigest says so.
func destination(ref Reference, byDigest bool) (types.ImageReference, error) {
	switch ref.transport {
	case Docker:
		if byDigest {
			return untagged(ref)
		}
		return dockerReference(ref)
	case OCI:
		if ref.digest != "" {
			return nil, errors.New("a layout's digest cannot be chosen: write DIR:TAG")
		}
		return layout.NewReference(ref.path, ref.tag)
	case OCIArchive:
		return ociarchive.NewReference(ref.path, ref.tag)
	case DockerArchive:
		return dockerArchiveReference(ref)
	case Dir:
		return directory.NewReference(ref.path)
	case ContainersStorage:
		return nil, errors.New("the image is in the store already: give it a name with tag")
	}
	return nil, errors.New("the reference is empty")
}
