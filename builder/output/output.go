package output

import (
	"fmt"
	"os"
	"path/filepath"
)

// Type says what is written.
type Type string

// The types, by BuildKit's names. BuildKit's "registry" is an Image with Push.
const (
	Image  Type = "image"  // an image of the store, pushed if asked for
	OCI    Type = "oci"    // an image layout
	Docker Type = "docker" // what docker save writes
	Local  Type = "local"  // the image's files in a directory
	Tar    Type = "tar"    // the image's files in a tar
	// CacheOnly keeps nothing but the cache.
	CacheOnly Type = "cacheonly"
)

// Stdout is the Dest that means standard output.
const Stdout = "-"

// Output is one place where an image is to go. The zero value is the store.
type Output struct {
	// Type "" is Image.
	Type Type
	// Dest is a file (OCI, Docker, Tar; Stdout allowed) or a directory
	// (Local, and OCI and Docker with Dir).
	Dest string
	// Dir writes the layout of OCI and Docker as a directory.
	Dir bool
	// Names are given to the image in place of the build's; nil keeps those.
	Names []string
	// Push sends an Image to the registry of each of its names.
	Push bool
	// Compression is gzip, zstd or uncompressed for layers that leave; "" is
	// gzip. Images in the store are never compressed.
	Compression string
	// CompressionLevel is the algorithm's; nil is its default.
	CompressionLevel *int
	// ForceCompression applies Compression to layers that a registry has in
	// another form, too.
	ForceCompression bool
	// Format is "oci" or "docker"; "" is the build's.
	Format string
	// Annotations are put on the image or the index.
	Annotations []Annotation
	// RewriteTimestamp is BuildKit's key of that name. It is for the layers,
	// which all outputs have in common: the builder sees to it.
	RewriteTimestamp bool
	// ByDigest pushes without a tag: the image is found by its digest.
	ByDigest bool
	// PlatformSplit puts the files for each platform into a directory of its
	// own (Local, Tar); nil does so with an index.
	PlatformSplit *bool
}

// kind is the type, with its default.
func (o *Output) kind() Type {
	if o.Type == "" {
		return Image
	}
	return o.Type
}

// Title is how BuildKit names the work.
func (o *Output) Title() string {
	switch o.kind() {
	case OCI:
		return "exporting to oci image format"
	case Docker:
		return "exporting to docker image format"
	case Local:
		return "exporting to client directory"
	case Tar:
		return "exporting to client tarball"
	case CacheOnly:
		return "exporting cache only"
	}
	return "exporting to image"
}

// directory reports whether Dest is one.
func (o *Output) directory() bool {
	return o.Type == Local || o.Dir && (o.Type == OCI || o.Type == Docker)
}

// Check finds what would keep o from being written, so that nobody waits for a
// build to learn it.
func (o *Output) Check() error {
	switch o.kind() {
	case Image, CacheOnly:
		return nil
	case OCI, Docker, Local, Tar:
	default:
		return fmt.Errorf("exporter %q could not be found: want local, tar, oci, docker, image or registry", o.Type)
	}
	if o.Dest == "" {
		return fmt.Errorf("dest is required for %s exporter", o.Type)
	}
	if o.directory() {
		if o.Dest == Stdout {
			return fmt.Errorf("dest cannot be stdout for %s exporter", o.Type)
		}
		if info, err := os.Stat(o.Dest); err == nil && !info.IsDir() {
			return fmt.Errorf("destination directory %q is a file", o.Dest)
		}
		return nil
	}
	if o.Dest == Stdout {
		return nil
	}
	if info, err := os.Stat(o.Dest); err == nil && info.IsDir() {
		return fmt.Errorf("destination file %q is a directory", o.Dest)
	}
	if dir := filepath.Dir(o.Dest); !isDir(dir) {
		return fmt.Errorf("invalid destination file %q: there is no directory %s", o.Dest, dir)
	}
	return nil
}

func isDir(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}
