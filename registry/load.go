package registry

import (
	"archive/tar"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	dockerarchive "go.podman.io/image/v5/docker/archive"
	"go.podman.io/image/v5/docker/reference"
	"go.podman.io/image/v5/pkg/compression"
	"go.podman.io/image/v5/types"

	"cooper/layers"
)

// Load brings every image of an archive into the store, under the names it has
// there: what docker save, podman save or WriteArchive wrote, compressed or not.
// Of an index come the images that the archive has, and the index; given a
// platform p only the image for that. Other images are taken whatever they are
// for. On error the images before the one that failed are there.
func (c *Client) Load(ctx context.Context, archive io.Reader, p ocispec.Platform) (_ []layers.Image, err error) {
	ref := Reference{transport: DockerArchive, path: "archive"}
	if f, ok := archive.(*os.File); ok {
		ref.path = f.Name()
	}
	sys, closeSys, err := c.open(ref, p)
	if err != nil {
		return nil, failure(ctx, "load", ref, err)
	}
	defer func() { err = errors.Join(err, closeSys()) }()
	ld := &loading{client: c, sys: sys, ref: ref, platform: p}
	images, err := ld.load(ctx, archive)
	if err != nil {
		err = failure(ctx, "load", ref, err)
	}
	return images, err
}

// loading is one running Load.
type loading struct {
	client *Client
	sys    *types.SystemContext // its scratch directory holds what was unpacked
	ref    Reference
	// platform is the one that was asked for; zero = all that are there.
	platform ocispec.Platform
	images   []layers.Image
}

func (l *loading) load(ctx context.Context, archive io.Reader) ([]layers.Image, error) {
	file, err := l.plain(archive)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	index, entries, err := contents(file)
	switch {
	case err != nil:
		return nil, err
	case index != nil && named(index, entries):
		err = l.loadLayout(ctx, file, index)
	case entries != nil:
		err = l.loadDocker(ctx, file)
	default:
		err = errors.New("it has neither manifest.json nor index.json: not an archive made by docker save or podman save")
	}
	return l.images, err
}

// plain returns archive as an uncompressed file, a copy if need be.
func (l *loading) plain(archive io.Reader) (_ *os.File, err error) {
	r, compressed, err := compression.AutoDecompress(archive)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	if f, ok := archive.(*os.File); ok && !compressed {
		if info, err := f.Stat(); err == nil && info.Mode().IsRegular() {
			return os.Open(procFile(f))
		}
	}
	f, err := os.CreateTemp(l.sys.BigFilesTemporaryDir, "archive-*")
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.Close())
		}
	}()
	if _, err := io.Copy(f, r); err != nil {
		return nil, err
	}
	return f, nil
}

// procFile names an open file, whatever has become of its name.
func procFile(f *os.File) string { return fmt.Sprintf("/proc/self/fd/%d", f.Fd()) }

// maxList bounds the lists of images in an archive, in bytes.
const maxList = 4 << 20

// contents reads the archive's lists of images; one that is missing is nil.
func contents(f *os.File) (index *ocispec.Index, entries []dockerEntry, err error) {
	err = eachFile(f, func(name string, r io.Reader) error {
		var to any
		switch name {
		case ocispec.ImageIndexFile:
			index = &ocispec.Index{}
			to = index
		case "manifest.json":
			entries = []dockerEntry{}
			to = &entries
		default:
			return nil
		}
		raw, err := io.ReadAll(io.LimitReader(r, maxList+1))
		if err == nil && len(raw) > maxList {
			err = fmt.Errorf("larger than %d bytes", maxList)
		}
		if err == nil {
			err = json.Unmarshal(raw, to)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		return nil
	})
	return index, entries, err
}

// eachFile calls fn for the regular files of a tar.
func eachFile(f *os.File, fn func(name string, r io.Reader) error) error {
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return err
	}
	for r := tar.NewReader(f); ; {
		h, err := r.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read tar: %w", err)
		}
		if h.Typeflag != tar.TypeReg {
			continue
		}
		if err := fn(path.Clean(h.Name), r); err != nil {
			return err
		}
	}
}

// named reports whether the index has all the names that docker's list has.
func named(index *ocispec.Index, entries []dockerEntry) bool {
	var names []string
	for _, d := range index.Manifests {
		names = append(names, layoutName(d))
	}
	for _, e := range entries {
		for _, tag := range e.RepoTags {
			if !slices.Contains(names, fullName(tag)) {
				return false
			}
		}
	}
	return true
}

// layoutName is the full name that an index gives an image, "" if none: a tag
// alone, as the specification would have it, does not name an image.
func layoutName(d ocispec.Descriptor) string {
	if name := d.Annotations[nameAnnotation]; name != "" {
		return fullName(name)
	}
	if name := d.Annotations[ocispec.AnnotationRefName]; strings.Contains(name, "/") || strings.Contains(name, ":") {
		return fullName(name)
	}
	return ""
}

// fullName is a name with registry and tag, "" if it is not one.
func fullName(name string) string {
	n, err := reference.ParseNormalizedNamed(name)
	if err != nil {
		return ""
	}
	tagged, ok := reference.TagNameOnly(n).(reference.NamedTagged)
	if !ok {
		return ""
	}
	return tagged.String()
}

// loadLayout loads the images of an image layout.
func (l *loading) loadLayout(ctx context.Context, f *os.File, index *ocispec.Index) error {
	dir, err := os.MkdirTemp(l.sys.BigFilesTemporaryDir, "layout-*")
	if err != nil {
		return err
	}
	if err := unpackLayout(ctx, f, dir); err != nil {
		return err
	}
	names := map[digest.Digest][]string{}
	var order []digest.Digest
	for _, d := range index.Manifests {
		if _, seen := names[d.Digest]; !seen {
			order = append(order, d.Digest)
			names[d.Digest] = nil
		}
		if name := layoutName(d); name != "" {
			names[d.Digest] = append(names[d.Digest], name)
		}
	}
	for _, d := range order {
		if err := d.Validate(); err != nil {
			return fmt.Errorf("%s: digest %q: %w", ocispec.ImageIndexFile, d, err)
		}
		if err := l.fromLayout(ctx, dir, d, names[d]); err != nil {
			return err
		}
	}
	return nil
}

// unpackLayout writes the files of a layout into dir, and nothing else that the
// archive may hold.
func unpackLayout(ctx context.Context, f *os.File, dir string) error {
	blobs := path.Join(ocispec.ImageBlobsDir, "sha256")
	if err := os.MkdirAll(filepath.Join(dir, blobs), 0o700); err != nil {
		return err
	}
	return eachFile(f, func(name string, r io.Reader) error {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		base := path.Base(name)
		isBlob := path.Dir(name) == blobs && digest.NewDigestFromEncoded(digest.SHA256, base).Validate() == nil
		if !isBlob && name != ocispec.ImageIndexFile && name != ocispec.ImageLayoutFile {
			return nil
		}
		out, err := os.Create(filepath.Join(dir, name))
		if err != nil {
			return err
		}
		_, err = io.Copy(out, r)
		return errors.Join(err, out.Close())
	})
}

// loadDocker loads the images of an archive as docker save used to write it.
func (l *loading) loadDocker(ctx context.Context, f *os.File) (err error) {
	r, err := dockerarchive.NewReader(l.sys, procFile(f))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	groups, err := r.List()
	if err != nil {
		return err
	}
	for _, refs := range groups {
		var names []string
		for _, ref := range refs {
			if n := ref.DockerReference(); n != nil {
				names = append(names, n.String())
			}
		}
		if err := l.image(ctx, refs[0], names); err != nil {
			return err
		}
	}
	return nil
}

// image brings one image into the store.
func (l *loading) image(ctx context.Context, src types.ImageReference, names []string) error {
	id, err := l.client.pullUnnamed(ctx, l.sys, l.ref, src)
	if err != nil {
		return err
	}
	if len(names) > 0 {
		if err := l.client.Store.Tag(id, names...); err != nil {
			return err
		}
	}
	image, err := l.client.Store.Image(id)
	if err == nil {
		l.images = append(l.images, image)
	}
	return err
}
