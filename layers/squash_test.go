package layers

import (
	"archive/tar"
	"context"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestSquash: one layer in place of two shows the same files, on the base or
// alone, here and elsewhere.
func TestSquash(t *testing.T) {
	for _, driver := range []string{"overlay", "vfs"} {
		t.Run(driver, func(t *testing.T) {
			s, other := testStore(t, driver), testStore(t, "vfs")
			ctx := context.Background()
			sn := prepare(t, s, nil)
			changeTree(t, sn, base)
			bottom, err := sn.Commit(ctx).Wait(ctx)
			must(t, err)
			for _, tt := range snapshotCases {
				t.Run(tt.name, func(t *testing.T) {
					first := prepare(t, s, bottom)
					changeTree(t, first, tt.change)
					second := prepare(t, s, first.Commit(ctx))
					want := changeTree(t, second, func(f files) {
						f.remove("var/log/one")
						f.remove("new")
						f.remove("m/x")
						f.write("second/file", "x")
					})
					top, err := second.Commit(ctx).Wait(ctx)
					must(t, err)
					for _, onto := range []string{bottom.ID, ""} {
						l, err := s.Squash(ctx, top.ID, onto)
						must(t, err)
						if l.Parent != onto {
							t.Errorf("Squash onto %q gives a layer on %q", onto, l.Parent)
						}
						checkDiff(t, s, l)
						checkElsewhere(t, s, other, l, want)
					}
				})
			}
		})
	}
}

// TestSquashedAway: what one layer makes and the next deletes is not there.
func TestSquashedAway(t *testing.T) {
	s := testStore(t, "overlay")
	ctx := context.Background()
	bottom := baseLayer(t, s)
	sn := prepare(t, s, bottom)
	changeTree(t, sn, func(f files) { f.write("secret/key", "x"); f.write("kept", "x") })
	above := prepare(t, s, sn.Commit(ctx))
	changeTree(t, above, func(f files) { f.remove("secret") })
	top, err := above.Commit(ctx).Wait(ctx)
	must(t, err)
	l, err := s.Squash(ctx, top.ID, bottom.ID)
	must(t, err)
	if names := tarNames(t, s, l); !cmp.Equal(names, []string{"kept"}) {
		t.Errorf("the squashed layer has %q", names)
	}
	if again, err := s.Squash(ctx, l.ID, bottom.ID); err != nil || again.ID != l.ID {
		t.Errorf("Squash of a single layer = %+v, %v, want it as it is", again, err)
	}
	if _, err := s.Squash(ctx, bottom.ID, top.ID); err == nil || !strings.Contains(err.Error(), "is not below") {
		t.Errorf("Squash onto a layer above = %v", err)
	}
}

// tarNames lists the names in the layer's tar.
func tarNames(t *testing.T, s *Store, l Layer) (names []string) {
	t.Helper()
	rc, err := s.Diff(context.Background(), l.ID)
	must(t, err)
	defer rc.Close()
	for r := tar.NewReader(rc); ; {
		h, err := r.Next()
		if err == io.EOF {
			return names
		}
		must(t, err)
		names = append(names, h.Name)
	}
}
