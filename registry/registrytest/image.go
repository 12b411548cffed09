package registrytest

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"

	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Layer is a layer's files: path to content.
type Layer map[string]string

// Tar is the layer as a tar, the same bytes for the same files.
func (l Layer) Tar() []byte {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, name := range slices.Sorted(maps.Keys(l)) {
		must(w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(l[name]))}))
		_, err := io.WriteString(w, l[name])
		must(err)
	}
	must(w.Close())
	return b.Bytes()
}

// DiffID is the digest of Tar.
func (l Layer) DiffID() digest.Digest { return digest.FromBytes(l.Tar()) }

// Blob is the layer as the registry has it, compressed.
func (l Layer) Blob() []byte {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, err := w.Write(l.Tar())
	must(err)
	must(w.Close())
	return b.Bytes()
}

// Image is an image to put into a registry.
type Image struct {
	// Config is written as it is, but for RootFS, and for the platform when
	// it names none: then it is linux/amd64.
	Config dockerspec.DockerOCIImage
	Layers []Layer
	// DiffIDs, if not nil, are what the config says in place of the truth.
	DiffIDs []digest.Digest
}

// Put stores an image under NAME:TAG and returns its manifest's descriptor.
func (r *Registry) Put(name string, image Image) ocispec.Descriptor {
	repository, tag, _ := strings.Cut(name, ":")
	desc, raw := r.image(repository, image)
	r.put(fmt.Sprintf("/v2/%s/manifests/%s", repository, tag), desc.MediaType, raw)
	return desc
}

// PutIndex stores an index of images under NAME:TAG and returns its descriptor.
func (r *Registry) PutIndex(name string, images ...Image) ocispec.Descriptor {
	repository, tag, _ := strings.Cut(name, ":")
	index := ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex}
	for _, image := range images {
		desc, raw := r.image(repository, image)
		r.put(fmt.Sprintf("/v2/%s/manifests/%s", repository, desc.Digest), desc.MediaType, raw)
		platform := image.platform()
		desc.Platform = &platform
		index.Manifests = append(index.Manifests, desc)
	}
	raw := encode(index)
	r.put(fmt.Sprintf("/v2/%s/manifests/%s", repository, tag), index.MediaType, raw)
	return descriptor(index.MediaType, raw)
}

func (i Image) platform() ocispec.Platform {
	if i.Config.Architecture == "" {
		return ocispec.Platform{OS: "linux", Architecture: "amd64"}
	}
	return i.Config.Platform
}

// image stores an image's blobs and returns its manifest.
func (r *Registry) image(repository string, image Image) (ocispec.Descriptor, []byte) {
	m := ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest}
	config := image.Config
	config.Platform = image.platform()
	config.RootFS = ocispec.RootFS{Type: "layers", DiffIDs: image.DiffIDs}
	for _, layer := range image.Layers {
		m.Layers = append(m.Layers, r.blob(repository, ocispec.MediaTypeImageLayerGzip, layer.Blob()))
		if image.DiffIDs == nil {
			config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, layer.DiffID())
		}
	}
	m.Config = r.blob(repository, ocispec.MediaTypeImageConfig, encode(config))
	raw := encode(m)
	return descriptor(m.MediaType, raw), raw
}

// blob stores one blob.
func (r *Registry) blob(repository, mediaType string, data []byte) ocispec.Descriptor {
	desc := descriptor(mediaType, data)
	r.do(http.MethodPost, fmt.Sprintf("/v2/%s/blobs/uploads/?digest=%s", repository, desc.Digest), "application/octet-stream", data)
	return desc
}

func (r *Registry) put(path, mediaType string, data []byte) {
	r.do(http.MethodPut, path, mediaType, data)
}

// do asks the registry itself, past faults and authentication.
func (r *Registry) do(method, path, mediaType string, data []byte) {
	req := httptest.NewRequest(method, path, bytes.NewReader(data))
	req.Header.Set("Content-Type", mediaType)
	answer := httptest.NewRecorder()
	r.base.ServeHTTP(answer, req)
	if answer.Code != http.StatusCreated {
		panic(fmt.Sprintf("registrytest: %s %s: %d %s", method, path, answer.Code, answer.Body))
	}
}

func descriptor(mediaType string, data []byte) ocispec.Descriptor {
	return ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(data), Size: int64(len(data))}
}

func encode(v any) []byte {
	b, err := json.Marshal(v)
	must(err)
	return b
}

// must is for what cannot fail but by a mistake in this package.
func must(err error) {
	if err != nil {
		panic("registrytest: " + err.Error())
	}
}
