package registry

import (
	"errors"
	"fmt"
	"io"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"go.podman.io/image/v5/manifest"
	"go.podman.io/image/v5/pkg/compression"

	"cooper/layers"
)

// errDockerZstd: docker's manifests know gzip only.
var errDockerZstd = errors.New("zstd layers need OCI media types: choose gzip or uncompressed for the docker format")

// layerType is the media type of a layer compressed in this way.
func layerType(compression string, docker bool) (string, error) {
	switch compression {
	case "", "gzip":
		if docker {
			return manifest.DockerV2Schema2LayerMediaType, nil
		}
		return ocispec.MediaTypeImageLayerGzip, nil
	case "zstd":
		if docker {
			return "", errDockerZstd
		}
		return ocispec.MediaTypeImageLayerZstd, nil
	case Uncompressed:
		if docker {
			return manifest.DockerV2SchemaLayerMediaTypeUncompressed, nil
		}
		return ocispec.MediaTypeImageLayer, nil
	}
	return "", fmt.Errorf("unknown compression %q: want gzip, zstd or uncompressed", compression)
}

// compress copies a layer as the options want it. The gzip is the one that a
// push makes, so that an archive's blobs are a registry's.
func (w *imageWriter) compress(out io.Writer, in io.Reader) error {
	if w.options.Compression == Uncompressed {
		_, err := io.Copy(out, in)
		return err
	}
	algorithm := compression.Gzip
	if w.options.Compression == "zstd" {
		algorithm = compression.Zstd
	}
	z, err := compression.CompressStream(out, algorithm, w.options.CompressionLevel)
	if err != nil {
		return fmt.Errorf("compression: %w", err)
	}
	_, err = io.Copy(z, in)
	return errors.Join(err, z.Close())
}

// layerReader reports how far a layer has been read.
type layerReader struct {
	r      io.Reader
	client *Client
	layer  layers.Layer
	at     int64
	told   int64
}

// step is how many bytes are read between two reports.
const step = 4 << 20

// Read reads the layer's tar.
func (l *layerReader) Read(p []byte) (int, error) {
	n, err := l.r.Read(p)
	l.at += int64(n)
	if l.client.Progress != nil && (err != nil || l.at >= l.told+step) {
		l.told = l.at
		l.client.Progress(Progress{Blob: l.layer.DiffID, Offset: l.at, Total: l.layer.Size, Done: err == io.EOF})
	}
	return n, err
}
