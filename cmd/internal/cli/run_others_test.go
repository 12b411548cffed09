package cli

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"cooper/run"
)

// TestBorrow: what is mounted already stays, but for the image's volumes, and
// what is borrowed is nobody's to remove.
func TestBorrow(t *testing.T) {
	own := []run.ContainerMount{
		{Type: "bind", Source: "/s", Destination: "/mine"},
		{Type: "volume", Destination: "/image"},
		{Type: "volume", Destination: "/alone"},
	}
	got := borrow(own, []run.ContainerMount{
		{Type: "volume", Name: "a", Anonymous: true, Destination: "/image"},
		{Type: "bind", Source: "/other", Destination: "/mine"},
		{Type: "tmpfs", Destination: "/tmp"},
		{Type: "volume", Name: "b", Destination: "/b", Options: []string{"ro"}},
		{Type: "bind", Source: "/c", Destination: "/c"},
	}, true)
	want := []run.ContainerMount{
		{Type: "bind", Source: "/s", Destination: "/mine"},
		{Type: "volume", Destination: "/alone"},
		{Type: "volume", Name: "a", Destination: "/image", Options: []string{"ro"}, NoCopy: true},
		{Type: "volume", Name: "b", Destination: "/b", Options: []string{"ro"}, NoCopy: true},
		{Type: "bind", Source: "/c", Destination: "/c", Options: []string{"ro"}, NoCopy: true},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("borrow (-want +got):\n%s", diff)
	}
}
