package registry

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"cooper/registry/registrytest"
)

func TestConfig(t *testing.T) {
	reg := registrytest.New(t)
	image := hello()
	shell, onBuild := []string{"/bin/ash", "-c"}, []string{"RUN make"}
	image.Config.Config.Shell, image.Config.Config.OnBuild = shell, onBuild
	desc := reg.Put("app:1", image)
	c := newClient(t)
	config, manifest, err := c.Config(t.Context(), mustParse(t, reg.Host()+"/app:1"), ocispec.Platform{})
	if err != nil {
		t.Fatal(err)
	}
	if manifest != desc.Digest {
		t.Errorf("manifest = %s, want %s", manifest, desc.Digest)
	}
	want := image.Config
	want.Platform = ocispec.Platform{OS: "linux", Architecture: "amd64"}
	want.RootFS = ocispec.RootFS{Type: "layers", DiffIDs: []digest.Digest{image.Layers[0].DiffID(), image.Layers[1].DiffID()}}
	if diff := cmp.Diff(want, config); diff != "" {
		t.Errorf("config (-want +got):\n%s", diff)
	}
	for _, r := range reg.Requests() {
		for _, layer := range image.Layers {
			if strings.Contains(r, layer.DiffID().Encoded()) {
				t.Errorf("a layer was fetched: %s", r)
			}
		}
	}
	noImages(t, c)
}

func TestConfigPlatform(t *testing.T) {
	reg := registrytest.New(t)
	index(reg, "multi:1")
	c := newClient(t)
	ref := mustParse(t, reg.Host()+"/multi:1")
	for _, arch := range []string{"arm64", "amd64"} {
		config, _, err := c.Config(t.Context(), ref, ocispec.Platform{Architecture: arch})
		if err != nil {
			t.Fatal(err)
		}
		if config.Architecture != arch {
			t.Errorf("architecture = %s, want %s", config.Architecture, arch)
		}
	}
	_, _, err := c.Config(t.Context(), ref, ocispec.Platform{Architecture: "s390x"})
	if !errors.Is(err, ErrNotFound) || !strings.Contains(err.Error(), "linux/amd64, linux/arm64") {
		t.Errorf("s390x: %v, want ErrNotFound and the platforms there are", err)
	}
}

func TestConfigFromStore(t *testing.T) {
	reg := registrytest.New(t)
	desc := reg.Put("app:1", hello())
	c := newClient(t)
	ref := mustParse(t, reg.Host()+"/app:1")
	image, err := c.Pull(t.Context(), ref, PullOptions{})
	if err != nil {
		t.Fatal(err)
	}
	reg.Requests()
	for _, name := range []string{ref.Name(), image.ID} {
		config, manifest, err := c.Config(t.Context(), mustParse(t, "containers-storage:"+name), ocispec.Platform{})
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(image.Config, config); diff != "" || manifest != desc.Digest {
			t.Errorf("%s: manifest %s, config (-want +got):\n%s", name, manifest, diff)
		}
	}
	if r := reg.Requests(); len(r) > 0 {
		t.Errorf("the registry was asked: %q", r)
	}
	_, _, err = c.Config(t.Context(), mustParse(t, "containers-storage:nothing"), ocispec.Platform{})
	if !errors.Is(err, ErrNotFound) {
		t.Errorf("nothing: %v, want ErrNotFound", err)
	}
}

func TestDigest(t *testing.T) {
	reg := registrytest.New(t)
	desc := reg.Put("app:1", hello())
	c := newClient(t)
	got, err := c.Digest(t.Context(), mustParse(t, reg.Host()+"/app:1"))
	if err != nil || got != desc.Digest {
		t.Errorf("Digest = %s, %v, want %s", got, err, desc.Digest)
	}
	if _, err := c.Digest(t.Context(), mustParse(t, reg.Host()+"/app:2")); !errors.Is(err, ErrNotFound) {
		t.Errorf("Digest of a missing tag: %v, want ErrNotFound", err)
	}
}

func TestConfigPolicy(t *testing.T) {
	reg := registrytest.New(t)
	reg.Put("app:1", hello())
	c := newClient(t)
	ref := mustParse(t, reg.Host()+"/app:1")
	write(t, c.root+"/etc/containers/policy.json", `{"default":[{"type":"reject"}]}`)
	if _, _, err := c.Config(t.Context(), ref, ocispec.Platform{}); !errors.Is(err, ErrRejected) {
		t.Errorf("Config under a system policy: %v, want ErrRejected", err)
	}
	if _, err := c.Pull(t.Context(), ref, PullOptions{}); !errors.Is(err, ErrRejected) {
		t.Errorf("Pull under a system policy: %v, want ErrRejected", err)
	}
	c.SignaturePolicy = write(t, t.TempDir()+"/policy.json", `{"default":[{"type":"insecureAcceptAnything"}]}`)
	if _, _, err := c.Config(t.Context(), ref, ocispec.Platform{}); err != nil {
		t.Errorf("Config under a policy of its own: %v", err)
	}
	c.SignaturePolicy = write(t, t.TempDir()+"/policy.json", `{"default":`)
	if _, _, err := c.Config(t.Context(), ref, ocispec.Platform{}); err == nil {
		t.Error("a policy that cannot be read was passed over")
	}
	c.SignaturePolicy = "/nonexistent/policy.json"
	if _, _, err := c.Config(t.Context(), ref, ocispec.Platform{}); err == nil || errors.Is(err, ErrNotFound) {
		t.Errorf("missing policy: %v, want an error about the file", err)
	}
}
