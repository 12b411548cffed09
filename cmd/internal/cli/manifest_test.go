package cli

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

func TestEntryFlags(t *testing.T) {
	was := ocispec.Descriptor{Platform: &ocispec.Platform{OS: "linux", Architecture: "arm"}, Annotations: map[string]string{"a": "1", "b": "2"}}
	for _, c := range []struct {
		name string
		f    entryFlags
		want ocispec.Descriptor
		fail string
	}{
		{"nothing", entryFlags{}, was, ""},
		{"variant", entryFlags{variant: "v7"}, ocispec.Descriptor{
			Platform: &ocispec.Platform{OS: "linux", Architecture: "arm", Variant: "v7"}, Annotations: was.Annotations,
		}, ""},
		{"all", entryFlags{os: "windows", arch: "amd64", osVersion: "10", annotations: []string{"b=3", "c=d=e"}}, ocispec.Descriptor{
			Platform:    &ocispec.Platform{OS: "windows", Architecture: "amd64", OSVersion: "10"},
			Annotations: map[string]string{"a": "1", "b": "3", "c": "d=e"},
		}, ""},
		{"no name", entryFlags{annotations: []string{"=x"}}, was, `invalid annotation "=x"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := was
			err := c.f.apply(&got)
			if !failsWith(err, c.fail) {
				t.Fatalf("apply = %v, want %q", err, c.fail)
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
	if was.Platform.Variant != "" || was.Annotations["b"] != "2" {
		t.Error("apply changed the entry that it was given a copy of")
	}
}
