package layers

import (
	"context"
	"errors"
	"fmt"
	"io"

	digest "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Apply reads a layer's tar, plain or compressed with gzip, zstd, xz or bzip2,
// and makes it a layer on parent ("" = none). The tar may come from anyone: no
// entry of it can reach outside the layer. The tar's own bytes are what Diff
// gives back, so DiffID is its digest. A tar that has the same path twice is
// refused.
func (s *Store) Apply(ctx context.Context, parent string, r io.Reader) (Layer, error) {
	if _, err := s.Layer(parent); err != nil {
		return Layer{}, err
	}
	u, err := s.Unpack(ctx, r)
	if err != nil {
		return Layer{}, err
	}
	return u.Commit(ctx, parent, ocispec.Descriptor{})
}

// Unpacked is a foreign layer that is not in the store yet, because the one below
// it need not be there either. It ends with Commit or Remove.
type Unpacked struct {
	// DiffID is the digest of the uncompressed tar.
	DiffID digest.Digest
	sn     *Snapshot
	root   bool // the tar describes the root directory
}

// Unpack reads a layer's tar as Apply does, for whatever parent. It may be called
// concurrently.
func (s *Store) Unpack(ctx context.Context, r io.Reader) (*Unpacked, error) {
	sn, err := s.prepare(ctx, nil, false)
	if err != nil {
		return nil, err
	}
	u := &Unpacked{sn: sn}
	sn.stream, u.root, err = sn.area.extract(&contextReader{ctx, r})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("apply layer: %w", err), sn.Remove())
	}
	u.DiffID = sn.stream.digest
	return u, nil
}

// Remove drops what was unpacked; nil has nothing to drop.
func (u *Unpacked) Remove() error {
	if u == nil {
		return nil
	}
	return u.sn.Remove()
}

// Commit makes it a layer on parent ("" = none). It ends the Unpacked, with an
// error too. blob, if its digest is not "", is what the tar came in; its digest is
// kept with the layer, so that nobody fetches it again.
func (u *Unpacked) Commit(ctx context.Context, parent string, blob ocispec.Descriptor) (Layer, error) {
	sn := u.sn
	on, err := sn.store.Layer(parent)
	if err == nil {
		sn.parent = on
		sn.lower, err = on.stack(sn.store)
	}
	if err == nil && !u.root {
		err = sn.copyRoot()
	}
	if err != nil {
		return Layer{}, errors.Join(fmt.Errorf("apply layer: %w", err), sn.Remove())
	}
	if sn.stream != nil {
		sn.stream.blob = blob
	}
	l, err := sn.Commit(ctx).Wait(context.WithoutCancel(ctx))
	// Nobody stands on the area, even if Commit has kept it (see there).
	return l, errors.Join(err, sn.area.remove())
}

// contextReader ends a stream when the context does.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (c *contextReader) Read(p []byte) (int, error) {
	if err := context.Cause(c.ctx); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}
