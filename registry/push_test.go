package registry

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"cooper/registry/registrytest"
)

func TestPush(t *testing.T) {
	reg, other := registrytest.New(t), registrytest.New(t)
	reg.Put("app:1", hello())
	c := newClient(t)
	image, err := c.Pull(t.Context(), mustParse(t, reg.Host()+"/app:1"), PullOptions{})
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for _, tt := range []struct {
		to string
		o  PushOptions
	}{
		{other.Host() + "/team/app:1", PushOptions{}},
		{other.Host() + "/team/app:docker", PushOptions{Format: FormatDocker}},
		{other.Host() + "/team/app:zstd", PushOptions{Format: FormatOCI, Compression: "zstd"}},
		{"oci:" + dir + "/layout:v1", PushOptions{}},
		{"oci-layout://" + dir + "/untagged", PushOptions{}},
		{"oci-archive:" + dir + "/oci.tar:v1", PushOptions{}},
		{"docker-archive:" + dir + "/docker.tar:app:1", PushOptions{Names: []string{"app:2"}}},
		{"dir:" + dir + "/dir", PushOptions{}},
	} {
		t.Run(strings.ReplaceAll(tt.to, dir, ""), func(t *testing.T) {
			to := mustParse(t, tt.to)
			desc, err := c.Push(t.Context(), image.ID, to, tt.o)
			if err != nil {
				t.Fatal(err)
			}
			if to.IsRegistry() {
				if got, err := c.Digest(t.Context(), to); err != nil || got != desc.Digest {
					t.Errorf("Push returned %s, the registry has %s, %v", desc.Digest, got, err)
				}
			}
			back := newClient(t)
			again, err := back.Pull(t.Context(), to, PullOptions{})
			if err != nil {
				t.Fatal(err)
			}
			want := []digest.Digest{hello().Layers[0].DiffID(), hello().Layers[1].DiffID()}
			if diff := cmp.Diff(want, diffIDs(t, back, again)); diff != "" {
				t.Errorf("layers (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(image.Config.Config, again.Config.Config); diff != "" {
				t.Errorf("config (-want +got):\n%s", diff)
			}
		})
	}
}

func TestPushErrors(t *testing.T) {
	fast(t)
	reg := registrytest.New(t)
	reg.Put("app:1", hello())
	c := newClient(t)
	image, err := c.Pull(t.Context(), mustParse(t, reg.Host()+"/app:1"), PullOptions{})
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if _, err := c.Push(t.Context(), "nothing", mustParse(t, reg.Host()+"/x"), PushOptions{}); !errors.Is(err, ErrNotFound) {
		t.Errorf("no such image: %v, want ErrNotFound", err)
	}
	full := write(t, dir+"/full.tar", "mine")
	if _, err := c.Push(t.Context(), image.ID, mustParse(t, "oci-archive:"+full), PushOptions{}); !errors.Is(err, fs.ErrExist) {
		t.Errorf("archive that exists: %v, want fs.ErrExist", err)
	}
	if content, err := os.ReadFile(full); err != nil || string(content) != "mine" {
		t.Errorf("archive that existed: %q, %v", content, err)
	}
	for _, o := range []PushOptions{{Format: "rkt"}, {Compression: "lha"}, {Names: []string{"Not A Name"}}} {
		if _, err := c.Push(t.Context(), image.ID, mustParse(t, "docker-archive:"+dir+"/x.tar:x"), o); err == nil {
			t.Errorf("%+v was accepted", o)
		}
	}
	if _, err := os.Lstat(dir + "/x.tar"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a failed push left an archive: %v", err)
	}
	reg.Basic("me", "hunter2")
	_, err = c.Push(t.Context(), image.ID, mustParse(t, reg.Host()+"/app:2"), PushOptions{})
	checkKind(t, err, ErrUnauthorized)
	t.Log(err)
}

// TestPushedLayersOnce: what the registry has is not sent again.
func TestPushedLayersOnce(t *testing.T) {
	reg := registrytest.New(t)
	reg.Put("app:1", hello())
	c := newClient(t)
	image, err := c.Pull(t.Context(), mustParse(t, reg.Host()+"/app:1"), PullOptions{})
	if err != nil {
		t.Fatal(err)
	}
	reg.Requests()
	if _, err := c.Push(t.Context(), image.ID, mustParse(t, reg.Host()+"/app:2"), PushOptions{}); err != nil {
		t.Fatal(err)
	}
	for _, r := range reg.Requests() {
		if strings.HasPrefix(r, "PATCH ") || strings.HasPrefix(r, "POST ") {
			t.Errorf("something was sent: %s", r)
		}
	}
}

// inspect is skopeo's view of an image.
func inspect(t testing.TB, ref string) (out struct {
	Digest digest.Digest
	Layers []digest.Digest
}) {
	t.Helper()
	raw := skopeo(t, "inspect", "--tls-verify=false", ref)
	if err := json.Unmarshal([]byte(raw), &out); err != nil {
		t.Fatalf("%v in %s", err, raw)
	}
	return out
}
