package registry

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"cooper/registry/registrytest"
)

func TestCandidates(t *testing.T) {
	for _, tt := range []struct {
		name, conf, in string
		want           []string
	}{
		{"nothing configured", "", "app", []string{"docker.io/library/app:latest"}},
		{"nothing configured", "", "team/app@" + sha, []string{"docker.io/team/app@" + sha}},
		{"search", `unqualified-search-registries = ["quay.io", "docker.io"]`, "app:1", []string{"quay.io/app:1", "docker.io/library/app:1"}},
		{"search, not for full names", `unqualified-search-registries = ["quay.io"]`, "docker.io/app:1", []string{"docker.io/library/app:1"}},
		{"enforcing asks nobody", "short-name-mode = \"enforcing\"\nunqualified-search-registries = [\"a.io\", \"b.io\"]", "app", []string{"a.io/app:latest", "b.io/app:latest"}},
		{"alias", "unqualified-search-registries = [\"quay.io\"]\n[aliases]\napp = \"example.com/team/app\"", "app:2", []string{"example.com/team/app:2"}},
		{"alias of another", "[aliases]\napp = \"example.com/team/app\"", "team/app", []string{"docker.io/team/app:latest"}},
		{"files are not names", `unqualified-search-registries = ["quay.io"]`, "oci:dir", []string{"oci:dir"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := &Client{RegistriesConf: write(t, t.TempDir()+"/registries.conf", tt.conf), root: t.TempDir()}
			t.Setenv("HOME", t.TempDir())
			t.Setenv("XDG_CONFIG_HOME", "")
			refs, err := c.Candidates(mustParse(t, tt.in))
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, ref := range refs {
				got = append(got, ref.String())
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("Candidates(%s) (-want +got):\n%s", tt.in, diff)
			}
		})
	}
}

func TestPullSearched(t *testing.T) {
	fast(t)
	first, second := registrytest.New(t), registrytest.New(t)
	second.Put("app:latest", hello())
	c := newClient(t)
	c.RegistriesConf = write(t, t.TempDir()+"/registries.conf",
		`unqualified-search-registries = ["`+first.Host()+`", "`+second.Host()+`"]`)
	image, err := c.Pull(t.Context(), mustParse(t, "app"), PullOptions{Platform: ocispec.Platform{}})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{second.Host() + "/app:latest"}, image.Names); diff != "" {
		t.Errorf("names (-want +got):\n%s", diff)
	}
	if len(first.Requests()) == 0 {
		t.Error("the first registry was not asked")
	}
}
