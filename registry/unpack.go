package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"go.podman.io/image/v5/copy"
	"go.podman.io/image/v5/docker/reference"
	"go.podman.io/image/v5/pkg/blobinfocache/memory"
	"go.podman.io/image/v5/storage"
	"go.podman.io/image/v5/types"
	"golang.org/x/sys/unix"

	"cooper/layers"
)

// unpackingReference is an image of the store. Its layers are unpacked as they
// arrive, several at a time, and each becomes a layer of the store as soon as the
// one below it is there. image/v5's own reference keeps every blob in a file, and
// has the storage library read it again to unpack it; all but the layers is still
// its business.
type unpackingReference struct {
	types.ImageReference
	store  *layers.Store
	layers []types.BlobInfo // bottom first
	dest   *unpackingDestination
}

// canUnpack reports whether an unpackingReference can take the image m. Images of
// the old schema 1 and such as may be fetched in parts are left to image/v5.
func (c *Client) canUnpack(m selected) bool {
	if m.checkConfig() != nil || len(c.Store.Containers().UIDMap()) > 0 {
		return false
	}
	for _, l := range m.image.LayerInfos() {
		if inParts(l) || l.Digest.Validate() != nil {
			return false
		}
	}
	return true
}

// inParts reports whether a layer has a table of contents, of zstd:chunked or
// eStargz, by which files that are here need not be fetched.
func inParts(l types.BlobInfo) bool {
	return l.Annotations["io.github.containers.zstd-chunked.manifest-checksum"] != "" || l.Annotations["containerd.io/snapshot/stargz/toc.digest"] != ""
}

// errSignatures says that the image has signatures that only image/v5 can store.
var errSignatures = errors.New("signatures of another kind than GnuPG's")

// pullUnpacking is pullTo for such an image. It gives the name in the end: the
// store's reference would compare a digest in it, which may be an index's, with the
// image. After errSignatures the layers are in the store.
func (c *Client) pullUnpacking(ctx context.Context, sys *types.SystemContext, ref Reference, name reference.Named, src types.ImageReference, m selected) (string, error) {
	id := m.image.ConfigInfo().Digest.Encoded()
	inner, err := storage.Transport.NewStoreReference(c.Store.Containers(), nil, id)
	if err != nil {
		return "", err
	}
	dest := &unpackingReference{ImageReference: inner, store: c.Store, layers: m.image.LayerInfos()}
	if _, err := c.copy(ctx, ref, dest, src, &copy.Options{SourceCtx: sys, DestinationCtx: sys, ReportResolvedReference: new(types.ImageReference)}); err != nil {
		if d := dest.dest; d != nil && d.described && !d.committing && context.Cause(ctx) == nil {
			// Between the two there are only the signatures.
			err = errors.Join(errSignatures, err)
		}
		return "", err
	}
	if err := c.verify(id); err != nil || name == nil {
		return id, err
	}
	return id, c.Store.Containers().AddNames(id, []string{name.String()})
}

func (r *unpackingReference) NewImageDestination(ctx context.Context, sys *types.SystemContext) (types.ImageDestination, error) {
	inner, err := r.ImageReference.NewImageDestination(ctx, sys)
	if err != nil {
		return nil, err
	}
	r.dest = &unpackingDestination{
		ImageDestination: inner, store: r.store, layers: r.layers, known: memory.New(), arrived: map[digest.Digest]*arrival{},
	}
	return r.dest, nil
}

// unpackingDestination is one running copy to an unpackingReference.
type unpackingDestination struct {
	types.ImageDestination // of image/v5
	store                  *layers.Store
	layers                 []types.BlobInfo
	known                  types.BlobInfoCache // the DiffIDs of what has arrived
	described, committing  bool                // PutManifest, Commit have been called

	mu      sync.Mutex
	arrived map[digest.Digest]*arrival
	next    int    // of layers, to be put into the store
	top     string // layer in the store, of all before next
	made    []string
}

// arrival is a layer that need not be fetched any more.
type arrival struct {
	diffID   digest.Digest
	size     int64
	unpacked *layers.Unpacked // nil when it is in the store
}

// layer returns what the manifest says of a blob, if it is a layer.
func (d *unpackingDestination) layer(blob digest.Digest) (types.BlobInfo, bool) {
	for _, l := range d.layers {
		if l.Digest == blob {
			return l, true
		}
	}
	return types.BlobInfo{}, false
}

func (d *unpackingDestination) PutBlob(ctx context.Context, stream io.Reader, info types.BlobInfo, cache types.BlobInfoCache, isConfig bool) (types.BlobInfo, error) {
	l, ok := d.layer(info.Digest)
	if isConfig || !ok {
		return d.ImageDestination.PutBlob(ctx, stream, info, cache, isConfig)
	}
	count := &blobReader{r: stream, info: l}
	u, err := d.store.Unpack(ctx, count)
	var errno unix.Errno
	if err == nil || !errors.As(err, &errno) {
		// At its end the stream tells whether it was the right one, which
		// explains why it makes no sense, too.
		if restErr := count.rest(); restErr != nil {
			err = errors.Join(restErr, u.Remove())
		}
	}
	if err != nil {
		return types.BlobInfo{}, err
	}
	cache.RecordDigestUncompressedPair(info.Digest, u.DiffID)
	return types.BlobInfo{Digest: info.Digest, Size: count.n}, d.arrive(ctx, info.Digest, &arrival{u.DiffID, count.n, u})
}

// blobReader reads a blob, which must have the size that the manifest says.
type blobReader struct {
	r    io.Reader
	info types.BlobInfo // of the manifest
	n    int64
	err  error // of the last Read
}

func (b *blobReader) Read(p []byte) (n int, err error) {
	if b.err != nil {
		return 0, b.err
	}
	n, b.err = b.r.Read(p)
	b.n += int64(n)
	if b.info.Size >= 0 && b.n > b.info.Size {
		b.err = tooLong(b.info)
	}
	return n, b.err
}

// rest reads to the end.
func (b *blobReader) rest() error {
	if _, err := io.Copy(io.Discard, b); err != nil {
		return err
	}
	if b.info.Size >= 0 && b.n != b.info.Size {
		return fmt.Errorf("blob %s has %d bytes, its manifest says %d", b.info.Digest, b.n, b.info.Size)
	}
	return nil
}

// TryReusingBlob finds a layer that the store has. Another blob with the same
// content would change the manifest, and is not asked for.
func (d *unpackingDestination) TryReusingBlob(ctx context.Context, info types.BlobInfo, cache types.BlobInfoCache, _ bool) (bool, types.BlobInfo, error) {
	if _, ok := d.layer(info.Digest); !ok {
		return d.ImageDestination.TryReusingBlob(ctx, info, cache, false)
	}
	d.mu.Lock()
	a := d.arrived[info.Digest]
	d.mu.Unlock()
	if a != nil {
		return true, types.BlobInfo{Digest: info.Digest, Size: a.size}, nil
	}
	there, ok := d.store.LayerOf(info.Digest)
	if diffID := cache.UncompressedDigest(info.Digest); !ok && diffID != "" {
		there, ok = d.store.LayerOf(diffID)
	}
	if !ok || info.Size < 0 {
		return false, types.BlobInfo{}, nil
	}
	return true, types.BlobInfo{Digest: info.Digest, Size: info.Size}, d.arrive(ctx, info.Digest, &arrival{there.DiffID, info.Size, nil})
}

// arrive notes a layer, and puts into the store what is complete from below.
func (d *unpackingDestination) arrive(ctx context.Context, blob digest.Digest, a *arrival) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.arrived[blob] != nil { // an image may have a layer twice
		return a.drop()
	}
	d.arrived[blob] = a
	d.known.RecordDigestUncompressedPair(blob, a.diffID)
	for ; d.next < len(d.layers); d.next++ {
		blob := d.layers[d.next].Digest
		a := d.arrived[blob]
		if a == nil {
			break
		}
		l, err := d.put(ctx, blob, a)
		if err != nil {
			return err
		}
		d.top = l.ID
	}
	return nil
}

// put makes a the layer on top.
func (d *unpackingDestination) put(ctx context.Context, blob digest.Digest, a *arrival) (layers.Layer, error) {
	id := d.store.LayerID(d.top, a.diffID)
	l, err := d.store.Layer(id)
	if err == nil {
		return l, nil
	}
	if u := a.unpacked; u != nil {
		a.unpacked = nil
		l, err = u.Commit(ctx, d.top, ocispec.Descriptor{Digest: blob, Size: a.size})
	} else if there, ok := d.store.LayerOf(a.diffID); ok {
		l, err = d.store.Rebase(ctx, there.ID, d.top)
	} else {
		err = fmt.Errorf("layer %s was removed from the store meanwhile: %w", a.diffID, layers.ErrNotFound)
	}
	if err == nil {
		d.made = append(d.made, l.ID)
	}
	return l, err
}

func (a *arrival) drop() error {
	if a.unpacked == nil {
		return nil
	}
	return a.unpacked.Remove()
}

func (d *unpackingDestination) PutManifest(ctx context.Context, raw []byte, instance *digest.Digest) error {
	err := d.ImageDestination.PutManifest(ctx, raw, instance)
	d.described = err == nil
	return err
}

// Commit has image/v5 make the image, of layers that it finds in the store.
func (d *unpackingDestination) Commit(ctx context.Context, unparsed types.UnparsedImage) (err error) {
	d.committing = true
	defer func() {
		if err != nil {
			d.unmake()
		}
	}()
	if d.next < len(d.layers) {
		return fmt.Errorf("layer %s has not arrived", d.layers[d.next].Digest)
	}
	for blob, a := range d.arrived {
		ok, _, err := d.ImageDestination.TryReusingBlob(ctx, types.BlobInfo{Digest: blob, Size: a.size}, d.known, false)
		if err == nil && !ok {
			err = fmt.Errorf("layer %s was removed from the store meanwhile: %w", a.diffID, layers.ErrNotFound)
		}
		if err != nil {
			return err
		}
	}
	return d.ImageDestination.Commit(ctx, unparsed)
}

// unmake removes the layers of an image that could not be made, unless somebody
// else has a use for them.
func (d *unpackingDestination) unmake() {
	for i := len(d.made) - 1; i >= 0; i-- {
		if d.store.Delete(d.made[i]) != nil {
			return
		}
	}
}

func (d *unpackingDestination) Close() error {
	var errs []error
	for _, a := range d.arrived {
		errs = append(errs, a.drop())
	}
	return errors.Join(append(errs, d.ImageDestination.Close())...)
}
