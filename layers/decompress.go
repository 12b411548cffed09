package layers

import (
	"io"

	"go.podman.io/storage/pkg/archive"
)

// Decompress reads r, plain or compressed with gzip, zstd, xz or bzip2, by what
// its first bytes say. Closing the result does not close r.
func Decompress(r io.Reader) (io.ReadCloser, error) {
	d, err := archive.DecompressStream(r)
	if err != nil {
		return nil, err
	}
	// Reading and io.Copy may be mixed: pgzip's WriteTo, which io.Copy would
	// call, panics after a Read.
	return struct {
		io.Reader
		io.Closer
	}{d, d}, nil
}
