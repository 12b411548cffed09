package layers

import (
	"io"

	"go.podman.io/storage/pkg/archive"
)

// Decompress reads r, plain or compressed with gzip, zstd, xz or bzip2, by what
// its first bytes say. Closing the result does not close r.
func Decompress(r io.Reader) (io.ReadCloser, error) {
	return archive.DecompressStream(r)
}
