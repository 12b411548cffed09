package builder

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"cooper/builder/output"
)

const platformsDockerfile = `FROM --platform=$BUILDPLATFORM localhost/base AS tools
RUN echo tools >/common
FROM --platform=$BUILDPLATFORM tools AS made
ARG TARGETARCH
RUN cat /common >/out && echo $TARGETARCH >>/out
FROM scratch
COPY file /
COPY --from=made /out /out
`

// TestPlatforms: what does not depend on the target platform is done once, and the
// images become an index.
func TestPlatforms(t *testing.T) {
	bn := newBench(t)
	bn.write("file", "x")
	both := []ocispec.Platform{{OS: "linux", Architecture: "s390x"}, {OS: "linux", Architecture: "riscv64"}}
	change := func(o *Options) {
		o.Platforms, o.Tags = both, []string{"app"}
		o.Annotations = []output.Annotation{{Level: output.OnIndex, Name: "made", Value: "here"}}
	}
	r := bn.mustBuild(platformsDockerfile, change)
	if !r.Index || r.Image.Digest != r.Manifest.Digest || !slices.Equal(r.Image.Names, []string{"localhost/app:latest"}) {
		t.Errorf("Build = %+v", r)
	}
	for _, p := range both {
		img, err := bn.b.Store.ImageFor("app", p)
		if err != nil {
			t.Fatal(err)
		}
		if got, want := bn.read(&Result{Image: img}, "out"), "tools\n"+p.Architecture+"\n"; got != want {
			t.Errorf("%s has %q, want %q", p.Architecture, got, want)
		}
	}
	if n := bn.ran("echo tools"); n != 1 {
		t.Errorf("the common step ran %d times, want once", n)
	}
	if n := bn.ran("echo $TARGETARCH") + bn.ran("echo s390x") + bn.ran("echo riscv64"); n != 2 {
		t.Errorf("the steps for the platforms ran %d times, want 2", n)
	}
	again := bn.mustBuild(platformsDockerfile, change)
	if again.Image.ID != r.Image.ID {
		t.Errorf("the cached build gives %s, want %s", again.Image.ID, r.Image.ID)
	}
}

// ran counts the RUN steps whose name contains text that made a layer, and were not
// in the cache.
func (bn *bench) ran(text string) (n int) {
	bn.mu.Lock()
	defer bn.mu.Unlock()
	for _, e := range bn.events {
		if e.Kind == Committed && strings.Contains(e.Name, "RUN") && strings.Contains(e.Name, text) {
			n++
		}
	}
	return n
}

func TestSquashHistory(t *testing.T) {
	const layer, empty = false, true
	for _, c := range []struct {
		name    string
		history []bool // whether an entry has no layer
		kept    int
		want    []bool
	}{
		{"of the build", []bool{layer, empty, layer, layer, empty}, 2, []bool{layer, empty, empty, layer, empty}},
		{"all", []bool{layer, empty, layer, layer, empty}, 0, []bool{empty, empty, empty, layer, empty}},
		{"nothing new", []bool{layer, empty}, 1, []bool{layer, empty}},
		{"one", []bool{layer, empty, layer}, 2, []bool{layer, empty, layer}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var h []ocispec.History
			for _, e := range c.history {
				h = append(h, ocispec.History{EmptyLayer: e})
			}
			squashHistory(h, c.kept)
			var got []bool
			for _, e := range h {
				got = append(got, e.EmptyLayer)
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// TestForeignSteps: a step that cannot run is found before any other runs; one in a
// stage of unknown content is tried.
func TestForeignSteps(t *testing.T) {
	bn := newBench(t)
	base := bn.mustBuild("FROM scratch\nLABEL a=b\n", func(o *Options) {
		o.Platforms, o.Tags = []ocispec.Platform{{OS: "linux", Architecture: "s390x"}}, []string{"localhost/foreign"}
	})
	if base.Image.Config.Architecture != "s390x" {
		t.Fatalf("the base is for %s", base.Image.Config.Architecture)
	}
	_, err := bn.build("FROM --platform=linux/amd64 localhost/base\nRUN echo first\nFROM localhost/foreign\nCOPY --from=0 /etc /etc\nRUN true\n", func(o *Options) {
		o.Platforms = []ocispec.Platform{{OS: "linux", Architecture: "s390x"}}
	})
	if err == nil || !strings.Contains(err.Error(), "programs for linux/s390x do not run on this machine") {
		t.Errorf("Build = %v", err)
	}
	if bn.ran("echo first") != 0 {
		t.Error("another step ran first")
	}
}
