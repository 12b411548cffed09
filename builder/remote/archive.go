package remote

import (
	"archive/tar"
	"bytes"
	"encoding/binary"
)

// HeaderSize is how many of the first bytes IsArchive looks at: a tar header is
// one block of 512 bytes, or a few when it has extensions.
const HeaderSize = 4096

// magics begin compressed streams: bzip2, gzip, xz and zstd.
var magics = [][]byte{
	[]byte("BZh"),
	{0x1f, 0x8b, 0x08},
	{0xfd, '7', 'z', 'X', 'Z', 0},
	{0x28, 0xb5, 0x2f, 0xfd},
}

// zstd's skippable frames have one of sixteen magic numbers.
const (
	zstdSkippable     = 0x184d2a50
	zstdSkippableMask = 0xfffffff0
)

// IsArchive reports whether a stream that begins with head is a tar, plain or
// compressed. Nothing compressed is taken for a Dockerfile, so what is in it is
// not looked at.
func IsArchive(head []byte) bool {
	for _, magic := range magics {
		if bytes.HasPrefix(head, magic) {
			return true
		}
	}
	if len(head) >= 4 && binary.LittleEndian.Uint32(head)&zstdSkippableMask == zstdSkippable {
		return true
	}
	_, err := tar.NewReader(bytes.NewReader(head)).Next()
	return err == nil
}
