package layers

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	digest "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"go.podman.io/storage"
)

// testImage makes an image of two layers.
func testImage(t testing.TB, s *Store, names ...string) Image {
	t.Helper()
	ctx := context.Background()
	bottom, err := s.Apply(ctx, "", bytes.NewReader(tarOf(t, "d bin", "f bin/sh "+strings.Join(names, " "))))
	if err != nil {
		t.Fatal(err)
	}
	top, err := s.Apply(ctx, bottom.ID, bytes.NewReader(tarOf(t, "f motd hello")))
	if err != nil {
		t.Fatal(err)
	}
	created := time.Unix(1e9, 0).UTC()
	config := dockerspec.DockerOCIImage{Image: ocispec.Image{
		Created:  &created,
		Platform: ocispec.Platform{OS: "linux", Architecture: "amd64"},
		History:  []ocispec.History{{CreatedBy: "ADD bottom"}, {CreatedBy: "ADD top"}},
	}}
	config.Config.Cmd = []string{"/bin/sh"}
	config.Config.Healthcheck = &dockerspec.HealthcheckConfig{Test: []string{"CMD", "true"}}
	img, err := s.CreateImage(ctx, ImageOptions{Names: names, Layer: top.ID, Config: config})
	if err != nil {
		t.Fatal(err)
	}
	return img
}

func TestNormalizeName(t *testing.T) {
	long := strings.Repeat("x", 300)
	tests := []struct{ name, want string }{
		{"app", "localhost/app:latest"},
		{"app:1", "localhost/app:1"},
		{"me/app", "localhost/me/app:latest"},
		{"localhost/app", "localhost/app:latest"},
		{"docker.io/nginx", "docker.io/library/nginx:latest"},
		{"index.docker.io/nginx:2", "docker.io/library/nginx:2"},
		{"docker.io/me/nginx", "docker.io/me/nginx:latest"},
		{"quay.io/a/b__c/d-e:V_1.0-x", "quay.io/a/b__c/d-e:V_1.0-x"},
		{"host:5000/app", "host:5000/app:latest"},
		{"[::1]:5000/app", "[::1]:5000/app:latest"},
		{"Host/app", "Host/app:latest"},
		{"", ""}, {"App", ""}, {"a//b", ""}, {"a_-b", ""}, {"a___b", ""}, {"-a", ""}, {"a.", ""}, {"app:", ""},
		{"app:.x", ""}, {"a/../b", ""}, {"a b", ""}, {"app@sha256:12", ""}, {"app\n", ""}, {long, ""},
		{"app@sha256:" + strings.Repeat("0", 64), ""},
	}
	for _, tt := range tests {
		got, err := NormalizeName(tt.name)
		if got != tt.want || (err == nil) != (tt.want != "") {
			t.Errorf("NormalizeName(%q) = %q, %v, want %q", tt.name, got, err, tt.want)
		}
	}
}

func TestImageLookup(t *testing.T) {
	s := testStore(t, "overlay")
	local := testImage(t, s, "app")
	hub := testImage(t, s, "docker.io/library/alpine:3")
	other := testImage(t, s, "registry.example:5000/team/tool:v1")
	tests := []struct {
		name string
		want string
	}{
		{"app", local.ID},
		{"app:latest", local.ID},
		{"localhost/app", local.ID},
		{local.ID, local.ID},
		{local.ID[:12], local.ID},
		{"sha256:" + local.ID, local.ID},
		{"app@" + local.Digest.String(), local.ID},
		{local.Digest.String(), local.ID},
		{"alpine:3", hub.ID},
		{"docker.io/alpine:3", hub.ID},
		{"tool:v1", other.ID},
		{"team/tool:v1", other.ID},
		{"registry.example:5000/team/tool:v1", other.ID},
		{"alpine", ""},
		{"docker.io/app", ""},
		{"ool:v1", ""},
		{"alpine@" + local.Digest.String(), ""},
		{"sha256:" + strings.Repeat("0", 64), ""},
		{"nothing", ""},
	}
	for _, tt := range tests {
		got, err := s.Image(tt.name)
		if got.ID != tt.want || (err == nil) != (tt.want != "") || err != nil && !errors.Is(err, ErrNotFound) {
			t.Errorf("Image(%q) = %.12s, %v, want %.12s", tt.name, got.ID, err, tt.want)
		}
	}
}

func TestImageNames(t *testing.T) {
	s := testStore(t, "overlay")
	first := testImage(t, s, "app", "app:1")
	second := testImage(t, s, "app", "app:2")
	names := func() map[string][]string {
		images, err := s.Images()
		if err != nil {
			t.Fatal(err)
		}
		m := make(map[string][]string)
		for _, img := range images {
			slices.Sort(img.Names)
			m[img.ID] = img.Names
		}
		return m
	}
	check := func(what string, want map[string][]string) {
		t.Helper()
		if diff := cmp.Diff(want, names()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", what, diff)
		}
	}
	check("a name moves to the new image", map[string][]string{
		first.ID: {"localhost/app:1"}, second.ID: {"localhost/app:2", "localhost/app:latest"}})
	if err := s.Tag("app:1", "quay.io/x/y:z", "app"); err != nil {
		t.Fatal(err)
	}
	check("Tag", map[string][]string{
		first.ID: {"localhost/app:1", "localhost/app:latest", "quay.io/x/y:z"}, second.ID: {"localhost/app:2"}})
	if err := s.Untag("app", "y:z"); err != nil {
		t.Fatal(err)
	}
	untagged, deleted, err := s.RemoveImage("app", false)
	if diff := cmp.Diff([][]string{{"localhost/app:latest"}, nil}, [][]string{untagged, deleted}); diff != "" || err != nil {
		t.Errorf("RemoveImage by one of two names: %v (-want +got):\n%s", err, diff)
	}
	check("Untag and RemoveImage", map[string][]string{first.ID: {"localhost/app:1"}, second.ID: {"localhost/app:2"}})
	if err := s.Tag("app:1", "b", "c"); err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.RemoveImage(first.ID, false); !errors.Is(err, ErrInUse) {
		t.Errorf("RemoveImage by ID with three names = %v, want ErrInUse", err)
	}
	if _, deleted, err = s.RemoveImage(first.ID, true); err != nil || !slices.Equal(deleted, []string{first.ID}) {
		t.Errorf("RemoveImage by force = %v, %v", deleted, err)
	}
	check("RemoveImage by force", map[string][]string{second.ID: {"localhost/app:2"}})
}

// TestImageDocuments: what is in the store is what went in.
func TestImageDocuments(t *testing.T) {
	s := testStore(t, "overlay")
	img := testImage(t, s, "app")
	again := testImage(t, s, "app")
	if diff := cmp.Diff(img, again); diff != "" {
		t.Errorf("the same image made again (-first +second):\n%s", diff)
	}
	chain, err := s.Chain(img.Layer)
	if err != nil {
		t.Fatal(err)
	}
	for i, l := range chain {
		if img.Config.RootFS.DiffIDs[i] != l.DiffID {
			t.Errorf("DiffID %d = %s, want %s", i, img.Config.RootFS.DiffIDs[i], l.DiffID)
		}
	}
	if img.Config.Config.Healthcheck == nil || img.Config.History[1].CreatedBy != "ADD top" {
		t.Errorf("the config has lost something: %+v", img.Config)
	}
}

// peer runs another program on the store.
func peer(t *testing.T, name string, args ...string) string {
	t.Helper()
	if _, err := exec.LookPath(name); err != nil {
		t.Skip(err)
	}
	cmd := exec.Command(name, args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, stderr.Bytes())
	}
	return string(out)
}

// TestPeersReadImage: podman, buildah and skopeo take the image for theirs.
// TestImageManifest: of several builds of one config the last says how the image
// is presented, but a registry's manifest stays.
func TestImageManifest(t *testing.T) {
	s := testStore(t, "overlay")
	ctx := context.Background()
	img := testImage(t, s, "app")
	o := ImageOptions{Layer: img.Layer, Config: img.Config}
	manifest := func(o ImageOptions) (annotations map[string]string, docker bool) {
		t.Helper()
		made, err := s.CreateImage(ctx, o)
		if err != nil {
			t.Fatal(err)
		}
		d, err := s.Documents(img.ID)
		if err != nil || made.ID != img.ID {
			t.Fatalf("image %s, documents of %s: %v", made.ID, img.ID, err)
		}
		if found, err := s.Image(made.Digest.String()); err != nil || found.ID != img.ID {
			t.Errorf("image of manifest %s: %v, %v", made.Digest, found.ID, err)
		}
		return d.Annotations, d.Docker()
	}
	annotated := o
	annotated.Annotations = map[string]string{"a": "b"}
	if got, _ := manifest(annotated); !cmp.Equal(got, annotated.Annotations) {
		t.Errorf("annotations of the second build = %v, want a=b", got)
	}
	docker := o
	docker.DockerFormat = true
	if _, ok := manifest(docker); !ok {
		t.Error("the third build's manifest is not docker's")
	}
	if got, ok := manifest(o); ok || len(got) > 0 {
		t.Errorf("the plain build left annotations %v, docker %v", got, ok)
	}
	pulled := []byte(`{"schemaVersion":2,"layers":[{"digest":"sha256:00"},{"digest":"sha256:01"}],"annotations":{"from":"registry"}}`)
	sum := func([]byte) (digest.Digest, error) { return digest.FromBytes(pulled), nil }
	if err := s.store.SetImageBigData(img.ID, storage.ImageDigestBigDataKey, pulled, sum); err != nil {
		t.Fatal(err)
	}
	if got, _ := manifest(o); got["from"] != "registry" {
		t.Errorf("annotations = %v, want those of the registry's manifest", got)
	}
	if got, _ := manifest(annotated); !cmp.Equal(got, annotated.Annotations) {
		t.Errorf("annotations = %v, want a=b as asked for", got)
	}
}

func TestPeersReadImage(t *testing.T) {
	if os.Getuid() != 0 || Rootless() {
		t.Skip("the peers run as root here")
	}
	for _, docker := range []bool{false, true} {
		s := testStore(t, "overlay")
		img := testImage(t, s, "app")
		if docker {
			var err error
			if img, err = s.CreateImage(context.Background(), ImageOptions{Names: []string{"app"}, Layer: img.Layer, Config: img.Config, DockerFormat: true}); err != nil {
				t.Fatal(err)
			}
		}
		at := []string{"--root", s.Root(), "--runroot", s.RunRoot()}
		if got := strings.TrimSpace(peer(t, "podman", append(at, "images", "-a", "--no-trunc", "--format", "{{.ID}} {{.Repository}}:{{.Tag}}")...)); got != "sha256:"+img.ID+" localhost/app:latest" {
			t.Errorf("podman images = %q, want %s", got, img.ID)
		}
		var inspected []struct{ RootFS ocispec.RootFS }
		var layers []struct{ RootFS struct{ Layers []string } }
		out := peer(t, "podman", append(at, "image", "inspect", "app")...)
		if err := errors.Join(json.Unmarshal([]byte(out), &inspected), json.Unmarshal([]byte(out), &layers)); err != nil || len(layers[0].RootFS.Layers) != 2 {
			t.Errorf("podman image inspect: %v\n%s", err, out)
		}
		name := strings.TrimSpace(peer(t, "buildah", append(at, "from", "app")...))
		peer(t, "buildah", append(at, "rm", name)...)
		ref := "containers-storage:[overlay@" + s.Root() + "+" + s.RunRoot() + "]localhost/app:latest"
		copied := filepath.Join(t.TempDir(), "oci")
		peer(t, "skopeo", "copy", ref, "oci:"+copied+":app") // reads and checks every layer
		if got := peer(t, "skopeo", "inspect", "--raw", ref); !strings.Contains(got, "sha256:"+img.ID) {
			t.Errorf("skopeo inspect --raw = %s, want the config %s", got, img.ID)
		}
	}
}

// TestPinnedLayers: layers outlive their image, whoever removes it, and show
// nowhere.
func TestPinnedLayers(t *testing.T) {
	if os.Getuid() != 0 || Rootless() {
		t.Skip("podman runs as root here")
	}
	s := testStore(t, "overlay")
	at := []string{"--root", s.Root(), "--runroot", s.RunRoot()}
	for name, remove := range map[string]func(){
		"podman": func() { peer(t, "podman", append(at, "rmi", "app")...) },
		"us": func() {
			if _, _, err := s.RemoveImage("app", false); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			img := testImage(t, s, "app")
			remove()
			if chain, err := s.Chain(img.Layer); err != nil || len(chain) != 2 {
				t.Errorf("Chain after the image is gone = %v, %v, want both layers", chain, err)
			}
			if got := peer(t, "podman", append(at, "images", "-a", "-q")...); got != "" {
				t.Errorf("podman images -a -q = %q, want nothing", got)
			}
			if got := peer(t, "podman", append(at, "ps", "-a", "-q", "--external")...); got != "" {
				t.Errorf("podman ps -a --external = %q, want nothing", got)
			}
		})
	}
	img := testImage(t, s, "app")
	if err := s.Delete(img.Layer); !errors.Is(err, ErrInUse) {
		t.Errorf("Delete of a layer in use = %v, want ErrInUse", err)
	}
	if _, _, err := s.RemoveImage("app", false); err != nil {
		t.Fatal(err)
	}
	bottom, err := s.Layer(img.Layer)
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{img.Layer, bottom.Parent} {
		if err := s.Delete(id); err != nil {
			t.Errorf("Delete: %v", err)
		}
	}
	if layers, err := s.store.Layers(); err != nil || len(layers) > 0 {
		t.Errorf("layers left: %v, %v", layers, err)
	}
}
