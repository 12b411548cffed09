package output

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"cooper/layers"
)

var (
	amd64 = ocispec.Platform{OS: "linux", Architecture: "amd64"}
	armV8 = ocispec.Platform{OS: "linux", Architecture: "arm64", Variant: "v8"}
	arm64 = ocispec.Platform{OS: "linux", Architecture: "arm64"}
)

func TestCheckPlatforms(t *testing.T) {
	one, both := []ocispec.Platform{amd64}, []ocispec.Platform{amd64, armV8}
	note := func(level Level, p *ocispec.Platform) Output {
		return Output{Annotations: []Annotation{{Level: level, Platform: p, Name: "a", Value: "b"}}}
	}
	docker := func(o Output) Output {
		o.Format = "docker"
		return o
	}
	for _, c := range []struct {
		name  string
		o     Output
		all   []ocispec.Platform
		index bool
		want  string
	}{
		{"nothing", Output{}, one, false, ""},
		{"manifest", note("", nil), one, false, ""},
		{"descriptor", note(OnManifestDescriptor, nil), one, false, ""},
		{"index", note(OnIndex, nil), both, true, ""},
		{"index of one", note(OnIndexDescriptor, nil), one, true, ""},
		{"one platform of the index, spelled otherwise", note(OnManifest, &arm64), both, true, ""},
		{"index of an image", note(OnIndex, nil), one, false, "index annotations not supported for single platform export"},
		{"descriptor of the index of an image", note(OnIndexDescriptor, nil), one, false, "index-descriptor annotations not supported for single platform export"},
		{"another platform", note(OnManifest, &arm64), one, false, "invalid annotation: no platform linux/arm64 found in source"},
		{"docker's format", docker(note(OnIndex, nil)), both, true, `cannot export annotations with "oci-mediatypes=false"`},
		{"docker's archive", Output{Type: Docker}, one, false, ""},
		{"index as docker's archive", Output{Type: Docker}, both, true, "docker exporter does not currently support exporting manifest lists: use type=oci"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := ""
			if err := c.o.CheckPlatforms(c.all, c.index); err != nil {
				got = err.Error()
			}
			if got != c.want {
				t.Errorf("CheckPlatforms = %q, want %q", got, c.want)
			}
		})
	}
}

func TestShape(t *testing.T) {
	image := func(p ocispec.Platform) layers.ImageOptions {
		return layers.ImageOptions{Names: []string{"dropped"}, DockerFormat: true, Config: dockerspec.DockerOCIImage{Image: ocispec.Image{Platform: p}}}
	}
	p := Product{Names: []string{"build"}, Images: []layers.ImageOptions{image(amd64), image(armV8)}, Index: true}
	type shaped struct {
		Docker      bool
		Annotations map[string]string
	}
	for _, c := range []struct {
		name  string
		o     Output
		names []string
		want  [2]shaped
	}{
		{"as it is", Output{}, []string{"build"}, [2]shaped{{Docker: true}, {Docker: true}}},
		{"other names, format", Output{Names: []string{"x"}, Format: "oci"}, []string{"x"}, [2]shaped{}},
		{"zstd is OCI's", Output{Compression: "zstd"}, []string{"build"}, [2]shaped{}},
		{"so are an index's annotations", Output{Annotations: []Annotation{{Level: OnIndex, Name: "a"}}}, []string{"build"}, [2]shaped{}},
		{"annotations by platform, the last wins", Output{Annotations: []Annotation{
			{Name: "a", Value: "all"}, {Level: OnManifest, Platform: &arm64, Name: "a", Value: "arm"}, {Level: OnManifestDescriptor, Name: "a", Value: "entry"},
		}}, []string{"build"}, [2]shaped{{Annotations: map[string]string{"a": "all"}}, {Annotations: map[string]string{"a": "arm"}}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := c.o.shape(p)
			if diff := cmp.Diff(c.names, got.Names); diff != "" {
				t.Errorf("names (-want +got):\n%s", diff)
			}
			for i, img := range got.Images {
				if diff := cmp.Diff(c.want[i], shaped{img.DockerFormat, img.Annotations}); diff != "" || img.Names != nil {
					t.Errorf("image %d has names %q (-want +got):\n%s", i, img.Names, diff)
				}
			}
		})
	}
	if p.Images[0].Names == nil || !p.Images[0].DockerFormat {
		t.Error("shape changed the product it was given")
	}
}
