package layers

import (
	"context"
	"errors"
	"io"
)

// Diff returns the uncompressed tar of a layer; its digest is the DiffID. The
// caller closes it. Reading holds no lock of the store.
func (s *Store) Diff(ctx context.Context, id string) (io.ReadCloser, error) {
	return nil, errors.ErrUnsupported
}
