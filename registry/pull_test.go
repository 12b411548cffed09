package registry

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"cooper/layers"
	"cooper/registry/registrytest"
)

// diffIDs are the digests of an image's layers as the store knows them.
func diffIDs(t testing.TB, c *Client, image layers.Image) []digest.Digest {
	t.Helper()
	chain, err := c.Store.Chain(image.Layer)
	if err != nil {
		t.Fatal(err)
	}
	var ids []digest.Digest
	for _, layer := range chain {
		ids = append(ids, layer.DiffID)
	}
	return ids
}

func TestPull(t *testing.T) {
	reg := registrytest.New(t)
	desc := reg.Put("team/app:1", hello())
	c := newClient(t)
	ref := mustParse(t, reg.Host()+"/team/app:1")
	image, err := c.Pull(t.Context(), ref, PullOptions{Names: []string{"localhost/mine:latest"}})
	if err != nil {
		t.Fatal(err)
	}
	names := slices.Sorted(slices.Values(image.Names))
	if diff := cmp.Diff([]string{ref.Name(), "localhost/mine:latest"}, names); diff != "" {
		t.Errorf("names (-want +got):\n%s", diff)
	}
	if image.Digest != desc.Digest {
		t.Errorf("digest = %s, want %s", image.Digest, desc.Digest)
	}
	want := []digest.Digest{hello().Layers[0].DiffID(), hello().Layers[1].DiffID()}
	if diff := cmp.Diff(want, diffIDs(t, c, image)); diff != "" {
		t.Errorf("layers (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"/hello"}, image.Config.Config.Cmd); diff != "" {
		t.Errorf("Cmd (-want +got):\n%s", diff)
	}
}

func TestPullSharedLayerOnce(t *testing.T) {
	reg := registrytest.New(t)
	base := hello()
	reg.Put("base:1", base)
	child := hello()
	child.Layers = append(child.Layers, registrytest.Layer{"more": "x"})
	reg.Put("child:1", child)
	c := newClient(t)
	if _, err := c.Pull(t.Context(), mustParse(t, reg.Host()+"/base:1"), PullOptions{}); err != nil {
		t.Fatal(err)
	}
	reg.Requests()
	if _, err := c.Pull(t.Context(), mustParse(t, reg.Host()+"/child:1"), PullOptions{}); err != nil {
		t.Fatal(err)
	}
	blobs := 0
	for _, r := range reg.Requests() {
		if strings.HasPrefix(r, "GET ") && strings.Contains(r, "/blobs/") {
			blobs++
		}
	}
	if blobs != 2 { // the new layer and the config
		t.Errorf("fetched %d blobs, want 2", blobs)
	}
}

// index has an image for each of two platforms; it returns their cmds' owners.
func index(reg *registrytest.Registry, name string) {
	var images []registrytest.Image
	for _, arch := range []string{"amd64", "arm64"} {
		image := hello()
		image.Layers = append(image.Layers, registrytest.Layer{"arch": arch})
		image.Config.Platform = ocispec.Platform{OS: "linux", Architecture: arch}
		images = append(images, image)
	}
	reg.PutIndex(name, images...)
}

func TestPullPlatform(t *testing.T) {
	reg := registrytest.New(t)
	index(reg, "multi:1")
	c := newClient(t)
	ref := mustParse(t, reg.Host()+"/multi:1")
	for _, arch := range []string{"arm64", "amd64"} {
		image, err := c.Pull(t.Context(), ref, PullOptions{Platform: ocispec.Platform{OS: "linux", Architecture: arch}})
		if err != nil {
			t.Fatal(err)
		}
		if image.Config.Architecture != arch {
			t.Errorf("architecture = %s, want %s", image.Config.Architecture, arch)
		}
	}
	_, err := c.Pull(t.Context(), ref, PullOptions{Platform: ocispec.Platform{OS: "linux", Architecture: "s390x"}})
	if !errors.Is(err, ErrNotFound) {
		t.Errorf("s390x: %v, want ErrNotFound", err)
	}
}

func TestPullPinned(t *testing.T) {
	reg := registrytest.New(t)
	reg.Put("app:1", hello())
	c := newClient(t)
	ref := mustParse(t, reg.Host()+"/app:1")
	config, manifest, err := c.Config(t.Context(), ref, ocispec.Platform{})
	if err != nil {
		t.Fatal(err)
	}
	moved := hello()
	moved.Layers = moved.Layers[:1]
	reg.Put("app:1", moved)
	image, err := c.Pull(t.Context(), ref, PullOptions{Manifest: manifest})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(config.RootFS.DiffIDs, diffIDs(t, c, image)); diff != "" {
		t.Errorf("layers (-config +pulled):\n%s", diff)
	}
	if !slices.Contains(image.Names, ref.Name()) {
		t.Errorf("names = %q, want %q among them", image.Names, ref.Name())
	}
}

func TestPullProgress(t *testing.T) {
	reg := registrytest.New(t)
	reg.Put("app:1", hello())
	c := newClient(t)
	done := map[digest.Digest]int64{}
	c.Progress = func(p Progress) {
		if p.Done {
			done[p.Blob] = p.Offset
		}
	}
	ref := mustParse(t, reg.Host()+"/app:1")
	if _, err := c.Pull(t.Context(), ref, PullOptions{}); err != nil {
		t.Fatal(err)
	}
	if len(done) != 3 {
		t.Errorf("%d blobs reported done, want 3: %v", len(done), done)
	}
}

// TestPullLyingConfig: keys are made of a config's DiffIDs.
func TestPullLyingConfig(t *testing.T) {
	reg := registrytest.New(t)
	image := hello()
	image.DiffIDs = []digest.Digest{image.Layers[0].DiffID(), digest.FromString("something else")}
	reg.Put("app:1", image)
	c := newClient(t)
	_, err := c.Pull(t.Context(), mustParse(t, reg.Host()+"/app:1"), PullOptions{})
	if err == nil {
		t.Error("an image whose layers are not those its config lists was accepted")
	}
	noImages(t, c)

	image.DiffIDs = image.DiffIDs[:1]
	reg.Put("app:2", image)
	_, _, err = c.Config(t.Context(), mustParse(t, reg.Host()+"/app:2"), ocispec.Platform{})
	if err == nil || !strings.Contains(err.Error(), "lists 1 layers") {
		t.Errorf("Config: %v, want the number of layers refused", err)
	}
}

func noImages(t testing.TB, c *Client) {
	t.Helper()
	images, err := c.Store.Images()
	if err != nil {
		t.Fatal(err)
	}
	if len(images) != 0 {
		t.Errorf("store has %+v, want no image", images)
	}
}

func TestInterruptedPull(t *testing.T) {
	reg := registrytest.New(t)
	reg.Put("app:1", hello())
	reg.Fault(registrytest.Fault{Method: "GET", Path: "/blobs/", Do: registrytest.Stall})
	c := newClient(t)
	temp, err := c.Store.Dir("transfer")
	if err != nil {
		t.Fatal(err)
	}
	write(t, temp+"/killed/blob", "left behind by another process")
	ref := mustParse(t, reg.Host()+"/app:1")
	stop := errors.New("interrupted")
	ctx, cancel := context.WithCancelCause(t.Context())
	time.AfterFunc(200*time.Millisecond, func() { cancel(stop) })
	begin := time.Now()
	_, err = c.Pull(ctx, ref, PullOptions{})
	if !errors.Is(err, stop) {
		t.Errorf("Pull: %v, want %v", err, stop)
	}
	if d := time.Since(begin); d > 3*time.Second {
		t.Errorf("Pull returned %v after it was interrupted", d)
	}
	noImages(t, c)
	empty(t, temp)
	reg.Heal()
	if _, err := c.Pull(t.Context(), ref, PullOptions{}); err != nil {
		t.Errorf("Pull after an interrupted one: %v", err)
	}
}

// empty checks that nothing was left in a directory for temporary files.
func empty(t testing.TB, dir string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && path != dir {
			t.Errorf("left behind: %s", path)
		}
		return err
	})
	if err != nil && !os.IsNotExist(err) {
		t.Error(err)
	}
}
