package layers

import (
	"errors"
	"math"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	digest "github.com/opencontainers/go-digest"
)

// TestUsage compares the sum of all parts with du, and prunes the cache.
func TestUsage(t *testing.T) {
	for _, driver := range []string{"overlay", "vfs"} {
		t.Run(driver, func(t *testing.T) { testUsage(t, testStore(t, driver)) })
	}
}

func testUsage(t *testing.T, s *Store) {
	layer := func(parent Parent, name string) Layer {
		sn := prepare(t, s, parent)
		files{t, sn.Upper()}.write(name, strings.Repeat(name, 1_000_000))
		l, err := sn.Commit(t.Context()).Wait(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	bottom := layer(nil, "bottom")
	var images []Image
	for _, name := range []string{"one", "two"} {
		img, err := s.CreateImage(t.Context(), ImageOptions{Layer: layer(bottom, name).ID, Names: []string{name}})
		if err != nil {
			t.Fatal(err)
		}
		images = append(images, img)
	}
	layer(bottom, "cached")
	id := digest.FromString("container").Encoded()
	c, err := s.CreateContainerLayer(t.Context(), id, images[0].ID, ContainerLayerOptions{})
	if err != nil {
		t.Fatal(err)
	}
	upper, err := c.Upper()
	if err != nil {
		t.Fatal(err)
	}
	files{t, upper}.write("written", strings.Repeat("x", 3_000_000))
	u, err := s.Usage(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	total := u.ImagesSize + u.CacheSize + u.Containers[id]
	if du := diskUsed(t, s.Root()); math.Abs(float64(total-du)) > 0.02*float64(du) {
		t.Errorf("the sum of all parts is %d, du says %d", total, du)
	}
	if u.Containers[id] < 3_000_000 {
		t.Errorf("the container takes %d, want its 3,000,000 at least", u.Containers[id])
	}
	for _, i := range u.Images {
		if want := map[string]int{images[0].ID: 1}[i.Image.ID]; i.Containers != want || i.Shared <= 0 || i.Shared >= i.Size {
			t.Errorf("usage of image %s: %+v", i.Image.Names, i)
		}
	}
	if u.ImagesFree <= 0 || u.ImagesFree >= u.ImagesSize/2 {
		t.Errorf("of %d in images %d are free, want only those of the second", u.ImagesSize, u.ImagesFree)
	}
	testPrune(t, s, len(u.Cache))
}

func testPrune(t *testing.T, s *Store, layers int) {
	sn := prepare(t, s, nil)
	if _, _, err := s.PruneCache(t.Context()); !errors.Is(err, ErrInUse) {
		t.Errorf("PruneCache beside a snapshot = %v, want ErrInUse", err)
	}
	sn.Remove()
	removed, freed, err := s.PruneCache(t.Context())
	if err != nil || removed != layers || freed < 1_000_000 {
		t.Errorf("PruneCache() = %d, %d, %v, want %d layers", removed, freed, err, layers)
	}
	u, err := s.Usage(t.Context())
	if err != nil || len(u.Cache) != 0 || len(u.Images) != 2 || len(u.Containers) != 1 {
		t.Errorf("Usage() = %+v, %v, want two images and a container", u, err)
	}
}

// diskUsed is what du says.
func diskUsed(t *testing.T, dir string) int64 {
	t.Helper()
	cmd := exec.Command("du", "-s", "-B1", dir)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.ParseInt(strings.Fields(string(out))[0], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}
