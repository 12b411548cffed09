package layers

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/google/go-cmp/cmp"
	digest "github.com/opencontainers/go-digest"
)

// keptUser is how a user namespace has a user with the id 5 be this process's first.
var keptUser = Owners{
	UIDs: []IDRange{{0, 1, 5}, {5, 0, 1}, {6, 6, 60000}},
	GIDs: []IDRange{{0, 1, 6}, {6, 0, 1}, {7, 7, 60000}},
}

func TestOwners(t *testing.T) {
	few := Owners{UIDs: []IDRange{{0, 1000, 10}}, GIDs: []IDRange{{0, 2000, 10}, {20, 20, 1}}}
	for _, tt := range []struct {
		owners                   Owners
		uid, gid, outUID, outGID uint32
		back                     bool
	}{
		{Owners{}, 3, 70000, 3, 70000, true},
		{keptUser, 0, 0, 1, 1, true},
		{keptUser, 5, 5, 0, 6, true},
		{keptUser, 6, 6, 6, 0, true},
		{few, 9, 20, 1009, 20, true},
		{few, 10, 10, 65534, 65534, false},
	} {
		uid, gid := tt.owners.Outside(tt.uid, tt.gid)
		if uid != tt.outUID || gid != tt.outGID {
			t.Errorf("%v: Outside(%d, %d) = %d, %d, want %d, %d", tt.owners, tt.uid, tt.gid, uid, gid, tt.outUID, tt.outGID)
		}
		inUID, inGID := tt.owners.Inside(uid, gid)
		if back := inUID == tt.uid && inGID == tt.gid; back != tt.back {
			t.Errorf("%v: Inside(%d, %d) = %d, %d, want %d, %d: %v", tt.owners, uid, gid, inUID, inGID, tt.uid, tt.gid, tt.back)
		}
	}
}

var treeOwner = regexp.MustCompile(` (\d+):(\d+)`)

// insideTree is tree with the owners that a container has.
func insideTree(t testing.TB, root string, o Owners) []string {
	t.Helper()
	lines := tree(t, root)
	for i, line := range lines {
		at := treeOwner.FindStringIndex(line)
		var uid, gid uint32
		if _, err := fmt.Sscanf(line[at[0]:at[1]], "%d:%d", &uid, &gid); err != nil {
			t.Fatal(err)
		}
		uid, gid = o.Inside(uid, gid)
		lines[i] = fmt.Sprintf("%s %d:%d%s", line[:at[0]], uid, gid, line[at[1]:])
	}
	return lines
}

func imageLayer(t testing.TB, c *ContainerLayer) string {
	t.Helper()
	img, err := c.store.Image(c.Image)
	if err != nil {
		t.Fatal(err)
	}
	return img.Layer
}

// TestSnapshotContainerOwners makes the changes of the snapshots' contract in
// containers with user namespaces: what they see, and what is committed, has the
// owners inside.
func TestSnapshotContainerOwners(t *testing.T) {
	if SingleID() {
		t.Skip("only one owner can be had")
	}
	may := overlayRefers
	defer func() { overlayRefers = may }()
	for _, mode := range []struct {
		name, driver string
		refers       bool
	}{{"content elsewhere", "overlay", true}, {"copied", "overlay", false}, {"vfs", "vfs", false}} {
		if mode.refers && !may() {
			continue // nothing to be tried on this kernel
		}
		t.Run(mode.name, func(t *testing.T) {
			overlayRefers = func() bool { return mode.refers }
			s := testStore(t, mode.driver)
			sn := prepare(t, s, nil)
			before := changeTree(t, sn, base)
			bottom, err := sn.Commit(t.Context()).Wait(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			img, err := s.CreateImage(t.Context(), ImageOptions{Layer: bottom.ID, Names: []string{"base"}})
			if err != nil {
				t.Fatal(err)
			}
			t.Run("unchanged", func(t *testing.T) { testShifted(t, s, img, before) })
			for _, tt := range snapshotCases {
				if want, ok := containerChanges[tt.name]; ok {
					t.Run(tt.name, func(t *testing.T) { testContainer(t, s, img, keptUser, tt.change, want) })
				}
			}
			if _, _, err := s.RemoveImage(img.ID, true); err != nil {
				t.Fatal(err)
			}
			if left, _ := os.ReadDir(filepath.Join(s.Root(), "cooper", shiftedDir)); len(left) > 0 && mode.driver == "overlay" {
				t.Errorf("left after the image: %v", left)
			}
		})
	}
}

// testShifted compares the image's files in a container with what was written.
func testShifted(t *testing.T, s *Store, img Image, want []string) {
	id := digest.FromString(t.Name()).Encoded()
	c, err := s.CreateContainerLayer(t.Context(), id, img.ID, ContainerLayerOptions{Owners: keptUser})
	if err != nil {
		t.Fatal(err)
	}
	root, unmount := mountContainer(t, c)
	got := insideTree(t, root, keptUser)
	unmount()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("files of the image (-want +got):\n%s", diff)
	}
	if err := s.RemoveContainerLayer(id); err != nil {
		t.Fatal(err)
	}
}
