package registry

import (
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"cooper/registry/registrytest"
)

// BenchmarkConfig is what planning a build costs for each base.
func BenchmarkConfig(b *testing.B) {
	reg := registrytest.New(b)
	reg.Put("app:1", hello())
	c := newClient(b)
	ref := mustParse(b, reg.Host()+"/app:1")
	for b.Loop() {
		if _, _, err := c.Config(b.Context(), ref, ocispec.Platform{}); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkPullPresent is a pull of an image the store has.
func BenchmarkPullPresent(b *testing.B) {
	reg := registrytest.New(b)
	reg.Put("app:1", hello())
	c := newClient(b)
	ref := mustParse(b, reg.Host()+"/app:1")
	for b.Loop() {
		if _, err := c.Pull(b.Context(), ref, PullOptions{}); err != nil {
			b.Fatal(err)
		}
	}
}
