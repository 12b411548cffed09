package dockerfile_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"cooper/dockerfile"
)

func TestChange(t *testing.T) {
	var base dockerspec.DockerOCIImage
	base.Platform = ocispec.Platform{OS: "linux", Architecture: "arm64"}
	base.Author = "somebody"
	base.Config.Env = []string{"PATH=/bin", "A=1"}
	base.Config.Cmd = []string{"old"}
	base.Config.WorkingDir = "/srv"
	base.Config.OnBuild = []string{"RUN true"}
	got, err := dockerfile.Change(base, []string{
		`CMD ["new", "arg"]`, "env B=$A C='two words'", "WORKDIR sub", "EXPOSE 80", "LABEL l=v", "USER 33", "ONBUILD COPY . .",
	})
	if err != nil {
		t.Fatal(err)
	}
	want := base
	want.Config.Env = []string{"PATH=/bin", "A=1", "B=1", "C=two words"}
	want.Config.Cmd = []string{"new", "arg"}
	//lint:ignore SA1019 BuildKit sets it in all images
	want.Config.ArgsEscaped = true
	want.Config.WorkingDir = "/srv/sub"
	want.Config.ExposedPorts = map[string]struct{}{"80/tcp": {}}
	want.Config.Labels = map[string]string{"l": "v"}
	want.Config.User = "33"
	want.Config.OnBuild = []string{"RUN true", "COPY . ."}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("Change (-want +got):\n%s", diff)
	}
}

func TestChangeRefused(t *testing.T) {
	for line, want := range map[string]string{
		"RUN true":           "not an instruction",
		"COPY a b":           "not an instruction",
		"FROM other":         "not an instruction",
		"":                   "not an instruction",
		"ENV A=1\nRUN true":  "more than one line",
		"STOPSIGNAL NOTHING": "signal",
	} {
		if _, err := dockerfile.Change(dockerspec.DockerOCIImage{}, []string{line}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Change(%q) = %v, want an error about %q", line, err, want)
		}
	}
}
