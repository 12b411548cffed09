package layers

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	digest "github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"
)

// containerChanges are what docker diff shows of some of the snapshot cases.
var containerChanges = map[string][]string{
	"nothing":                    nil,
	"write":                      {"C /etc", "C /etc/passwd", "A /new", "A /new/file"},
	"delete file":                {"C /lib", "D /lib/a"},
	"delete directory":           {"D /empty", "C /lib", "D /lib/deep"},
	"file replaced by directory": {"C /lib", "C /lib/a", "A /lib/a/b", "A /lib/a/b/c"},
	"directory replaced by link": {"C /lib"},
	"link replaced by directory": {"C /lib64", "A /lib64/x"},
	"opaque":                     {"C /var", "C /var/log", "D /var/log/one", "D /var/log/two", "A /var/log/three"},
	"rename file":                {"C /lib", "D /lib/a", "A /lib/z"},
	"change hidden by its time":  {"C /lib", "C /lib/b"},
	"directory replaced by file": {"C /lib"},
	"opaque with an old name":    {"C /lib", "D /lib/a", "D /lib/b", "C /lib/deep", "C /lib/deep/c", "D /lib/deep/er"},
	"xattr":                      nil, // only committed
	"file capability":            nil,
	"hard links":                 {"A /c", "A /h", "A /h/a", "A /h/b"},
	"root directory":             {"A /x"},
	"a thousand files":           nil,
	"hard link to a lower file":  nil,
	"empty directory":            {"A /d", "A /d/e", "A /d/e/f"},
	"delete all":                 {"D /bin", "D /empty", "D /etc", "D /lib", "D /lib64", "D /var"},
	"rename over":                {"C /lib", "D /lib/a", "C /lib/b"},
	"opaque and empty":           {"C /var", "D /var/log"},
	"names":                      nil,
	"sparse":                     {"A /sparse"},
}

// TestSnapshotContainer makes the changes of the snapshots' contract in
// containers.
func TestSnapshotContainer(t *testing.T) {
	for _, driver := range []string{"overlay", "vfs"} {
		t.Run(driver, func(t *testing.T) {
			s := testStore(t, driver)
			sn := prepare(t, s, nil)
			changeTree(t, sn, base)
			bottom, err := sn.Commit(t.Context()).Wait(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			img, err := s.CreateImage(t.Context(), ImageOptions{Layer: bottom.ID, Names: []string{"base"}})
			if err != nil {
				t.Fatal(err)
			}
			for _, tt := range snapshotCases {
				if want, ok := containerChanges[tt.name]; ok {
					t.Run(tt.name, func(t *testing.T) { testContainer(t, s, img, Owners{}, tt.change, want) })
				}
			}
		})
	}
}

func testContainer(t *testing.T, s *Store, img Image, owners Owners, change func(files), want []string) {
	id := digest.FromString(t.Name()).Encoded()
	c, err := s.CreateContainerLayer(t.Context(), id, img.ID, ContainerLayerOptions{Owners: owners})
	if err != nil {
		t.Fatal(err)
	}
	root, unmount := mountContainer(t, c)
	change(files{t, root})
	unmount()
	root, unmount = mountContainer(t, c) // inode numbers are not settled before
	before := insideTree(t, root, owners)
	layer, err := c.Commit(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	above := prepare(t, s, layer)
	if diff := cmp.Diff(before, changeTree(t, above, func(files) {})); diff != "" {
		t.Errorf("the committed layer is another tree (-container +layer):\n%s", diff)
	}
	checkDiff(t, s, layer)
	changes, err := c.Changes(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, one := range changes {
		got = append(got, string(one.Kind)+" "+one.Path)
	}
	// Deletions by an opaque mark come first, whatever their names.
	slices.SortFunc(got, func(a, b string) int { return strings.Compare(a[2:], b[2:]) })
	slices.SortFunc(want, func(a, b string) int { return strings.Compare(a[2:], b[2:]) })
	if diff := cmp.Diff(want, got); want != nil && diff != "" {
		t.Errorf("Changes (-want +got):\n%s", diff)
	}
	if size, err := c.Size(t.Context()); err != nil || size < 0 {
		t.Errorf("Size() = %d, %v", size, err)
	}
	unmount()
	if err := s.RemoveContainerLayer(id); err != nil {
		t.Fatal(err)
	}
	if _, err := s.ContainerLayer(id, img.ID, ContainerLayerOptions{}); !errors.Is(err, ErrNotFound) {
		t.Errorf("ContainerLayer after its removal = %v, want ErrNotFound", err)
	}
}

// mountContainer mounts c as a runner would.
func mountContainer(t *testing.T, c *ContainerLayer) (root string, unmount func()) {
	t.Helper()
	r, err := c.Rootfs()
	if err != nil {
		t.Fatal(err)
	}
	if r.Dir != "" {
		return r.Dir, func() {}
	}
	target := filepath.Join(t.TempDir(), "root")
	if err := os.Mkdir(target, 0o700); err != nil {
		t.Fatal(err)
	}
	if r, err = c.store.ShiftLayer(t.Context(), imageLayer(t, c), c.owners, r, nil); err != nil {
		t.Fatal(err)
	}
	lower := strings.Join(r.Lower, ":")
	for _, data := range r.Data {
		lower += "::" + data
	}
	options := append(r.Options, "lowerdir="+lower, "upperdir="+r.Upper, "workdir="+r.Work)
	if err := unix.Mount("overlay", target, "overlay", 0, strings.Join(options, ",")); err != nil {
		t.Fatalf("mount: %v", err)
	}
	unmount = func() { unix.Unmount(target, unix.MNT_DETACH) }
	t.Cleanup(unmount)
	return target, unmount
}

// TestSnapshotContainerLive commits a container that changes its files all the time.
func TestSnapshotContainerLive(t *testing.T) {
	s := testStore(t, "overlay")
	img, err := s.CreateImage(t.Context(), ImageOptions{Names: []string{"empty"}})
	if err != nil {
		t.Fatal(err)
	}
	c, err := s.CreateContainerLayer(t.Context(), digest.FromString("live").Encoded(), img.ID, ContainerLayerOptions{})
	if err != nil {
		t.Fatal(err)
	}
	upper, err := c.Upper()
	if err != nil {
		t.Fatal(err)
	}
	files{t, upper}.write("stays", "stays")
	stop := make(chan struct{})
	var busy sync.WaitGroup
	busy.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			os.MkdirAll(upper+"/d/e", 0o755)
			os.WriteFile(upper+"/d/e/comes", []byte(strings.Repeat("x", i%50_000)), 0o644)
			os.WriteFile(upper+"/changes", []byte(strings.Repeat("y", i%600_000)), 0o644)
			os.RemoveAll(upper + "/d")
		}
	})
	defer busy.Wait()
	defer close(stop)
	for range 100 {
		layer, err := c.Commit(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		v, err := s.View(layer.ID)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := v.Lstat("stays"); err != nil {
			t.Error(err)
		}
		v.Close()
		if _, err := c.Changes(t.Context()); err != nil {
			t.Error(err)
		}
	}
}
