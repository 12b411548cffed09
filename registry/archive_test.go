package registry

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"cooper/registry/registrytest"
)

// skopeo copies an image with the peer everybody uses.
func skopeo(t testing.TB, args ...string) string {
	t.Helper()
	return command(t, "skopeo", append([]string{"--insecure-policy", "--tmpdir", t.TempDir()}, args...)...)
}

// archives writes the image app:1 of a registry in every form, with skopeo.
func archives(t testing.TB, reg *registrytest.Registry) (dir string) {
	t.Helper()
	dir = t.TempDir()
	from := "docker://" + reg.Host() + "/app:1"
	for _, to := range []string{"oci:" + dir + "/layout:v1", "oci:" + dir + "/latest:latest", "oci:" + dir + "/latest:other",
		"oci-archive:" + dir + "/oci.tar:v1", "docker-archive:" + dir + "/docker.tar:app:1", "dir:" + dir + "/dir"} {
		skopeo(t, "copy", "--src-tls-verify=false", from, to)
	}
	return dir
}

func TestArchives(t *testing.T) {
	reg := registrytest.New(t)
	reg.Put("app:1", hello())
	t.Chdir(archives(t, reg))
	var index ocispec.Index
	raw, err := os.ReadFile("layout/index.json")
	if err == nil {
		err = json.Unmarshal(raw, &index)
	}
	if err != nil {
		t.Fatal(err)
	}
	layout := index.Manifests[0].Digest.String()
	want := []digest.Digest{hello().Layers[0].DiffID(), hello().Layers[1].DiffID()}
	for _, s := range []string{
		"oci-layout://layout", "oci-layout://./layout:v1", "oci-layout://layout@" + layout, "oci-layout://latest",
		"oci:layout", "oci:layout:v1", "oci-archive:oci.tar", "oci-archive:oci.tar:v1",
		"docker-archive:docker.tar", "docker-archive:docker.tar:app:1", "dir:dir",
	} {
		t.Run(s, func(t *testing.T) {
			c := newClient(t)
			ref := mustParse(t, s)
			config, manifest, err := c.Config(t.Context(), ref, ocispec.Platform{})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, config.RootFS.DiffIDs); diff != "" || manifest == "" {
				t.Errorf("Config: manifest %q, DiffIDs (-want +got):\n%s", manifest, diff)
			}
			image, err := c.Pull(t.Context(), ref, PullOptions{Names: []string{"localhost/x:1"}})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, diffIDs(t, c, image)); diff != "" {
				t.Errorf("layers (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff([]string{"localhost/x:1"}, image.Names); diff != "" {
				t.Errorf("names (-want +got):\n%s", diff)
			}
			if _, err := c.Pull(t.Context(), ref, PullOptions{Manifest: manifest}); err != nil {
				t.Errorf("Pull of what is here already: %v", err)
			}
		})
	}
}

func TestArchiveErrors(t *testing.T) {
	reg := registrytest.New(t)
	reg.Put("app:1", hello())
	t.Chdir(archives(t, reg))
	write(t, "empty.tar", "")
	write(t, "junk.tar", strings.Repeat("junk ", 4096))
	write(t, "junk/index.json", "{")
	c := newClient(t)
	for s, want := range map[string]error{
		"oci-layout://layout:v2":          ErrNotFound,
		"oci-layout://missing":            ErrNotFound,
		"oci-layout://missing/deeper":     ErrNotFound,
		"oci-layout://layout@" + sha:      ErrNotFound,
		"oci:latest":                      nil, // two images, which?
		"oci-layout://junk":               nil,
		"oci-archive:missing.tar":         ErrNotFound,
		"oci-archive:empty.tar":           nil,
		"oci-archive:junk.tar":            nil,
		"docker-archive:missing.tar":      ErrNotFound,
		"docker-archive:empty.tar":        nil,
		"docker-archive:junk.tar":         nil,
		"docker-archive:docker.tar:other": ErrNotFound,
		"dir:missing":                     ErrNotFound,
		"dir:layout":                      ErrNotFound,
	} {
		ref := mustParse(t, s)
		_, _, err := c.Config(t.Context(), ref, ocispec.Platform{})
		if err == nil {
			t.Errorf("Config of %s succeeded", s)
			continue
		}
		_, pullErr := c.Pull(t.Context(), ref, PullOptions{})
		if pullErr == nil {
			t.Errorf("Pull of %s succeeded", s)
		}
		t.Log(err)
		if want != nil && !errors.Is(err, want) {
			t.Errorf("%s: %v, want kind %v", s, err, want)
		}
		if !strings.Contains(err.Error(), ref.String()) {
			t.Errorf("%s: %v, want the reference in it", s, err)
		}
	}
	noImages(t, c)
}

// TestArchiveCorruptLayout changes a manifest and a layer, whose names are their
// digests.
func TestArchiveCorruptLayout(t *testing.T) {
	reg := registrytest.New(t)
	manifest := reg.Put("app:1", hello()).Digest
	layer := digest.FromBytes(hello().Layers[1].Blob())
	for name, blob := range map[string]digest.Digest{"manifest": manifest, "layer": layer} {
		t.Run(name, func(t *testing.T) {
			dir := archives(t, reg)
			path := filepath.Join(dir, "layout/blobs/sha256", blob.Encoded())
			content, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if name == "manifest" {
				content = append(content, ' ')
			} else {
				content[len(content)/2] ^= 1
			}
			write(t, path, string(content))
			c := newClient(t)
			if _, err := c.Pull(t.Context(), mustParse(t, "oci-layout://"+dir+"/layout"), PullOptions{}); err == nil {
				t.Error("accepted")
			} else {
				t.Log(err)
			}
			noImages(t, c)
		})
	}
}

// TestArchiveNestedIndex reads an index out of a layout, and one of its
// manifests by a digest that index.json does not list.
func TestArchiveNestedIndex(t *testing.T) {
	reg := registrytest.New(t)
	index(reg, "multi:1")
	dir := t.TempDir()
	skopeo(t, "copy", "--all", "--src-tls-verify=false", "docker://"+reg.Host()+"/multi:1", "oci:"+dir+":v1")
	c := newClient(t)
	for _, arch := range []string{"amd64", "arm64"} {
		config, manifest, err := c.Config(t.Context(), mustParse(t, "oci-layout://"+dir+":v1"), ocispec.Platform{Architecture: arch})
		if err != nil || config.Architecture != arch {
			t.Fatalf("%s: %s, %v", arch, config.Architecture, err)
		}
		image, err := c.Pull(t.Context(), mustParse(t, "oci-layout://"+dir+"@"+manifest.String()), PullOptions{})
		if err != nil || image.Config.Architecture != arch {
			t.Errorf("%s: pulled %s, %v", arch, image.Config.Architecture, err)
		}
	}
}

// TestArchiveUmoci pulls a layout that umoci has changed.
func TestArchiveUmoci(t *testing.T) {
	reg := registrytest.New(t)
	reg.Put("app:1", hello())
	dir := archives(t, reg)
	command(t, "umoci", "config", "--image", dir+"/layout:v1", "--tag", "v2", "--config.user", "nobody")
	c := newClient(t)
	image, err := c.Pull(t.Context(), mustParse(t, "oci-layout://"+dir+"/layout:v2"), PullOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if image.Config.Config.User != "nobody" {
		t.Errorf("user = %q, want nobody", image.Config.Config.User)
	}
}
