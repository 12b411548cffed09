package layers

import (
	"bufio"
	"compress/bzip2"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"
	"github.com/klauspost/pgzip"
	"github.com/ulikunitz/xz"
	"go.podman.io/storage/pkg/archive"
)

// Decompress reads r, plain or compressed with gzip, zstd, xz or bzip2, by what
// its first bytes say. Closing the result does not close r.
//
// The storage library's DecompressStream is not used: it starts pigz and the like
// where they are installed, and its readers may then serve two streams at once.
func Decompress(r io.Reader) (io.ReadCloser, error) {
	b := bufio.NewReaderSize(r, 32<<10)
	head, err := b.Peek(10)
	if err != nil && !errors.Is(err, io.EOF) { // a short stream is a plain one
		return nil, err
	}
	compression := archive.DetectCompression(head)
	d, err := decompressor(b, compression)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", compression.Extension(), err)
	}
	// Reading and io.Copy may be mixed: pgzip's WriteTo, which io.Copy would
	// call, panics after a Read.
	return struct {
		io.Reader
		io.Closer
	}{d, d}, nil
}

func decompressor(r io.Reader, c archive.Compression) (io.ReadCloser, error) {
	switch c {
	case archive.Gzip:
		return pgzip.NewReader(r)
	case archive.Zstd:
		z, err := zstd.NewReader(r)
		if err != nil {
			return nil, err
		}
		return z.IOReadCloser(), nil
	case archive.Xz:
		x, err := xz.NewReader(r)
		return io.NopCloser(x), err
	case archive.Bzip2:
		return io.NopCloser(bzip2.NewReader(r)), nil
	}
	return io.NopCloser(r), nil
}
