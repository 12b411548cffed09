package layers

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// testStore opens a new store on a tmpfs.
func testStore(t testing.TB, driver string) *Store {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "cooper-layers-")
	if err != nil {
		t.Fatal(err)
	}
	s, err := Open(context.Background(), Options{Root: filepath.Join(dir, "root"), RunRoot: filepath.Join(dir, "run"), Driver: driver})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
		unix.Unmount(filepath.Join(dir, "root", "overlay"), unix.MNT_DETACH) // skopeo and buildah leave it
		if err := os.RemoveAll(dir); err != nil {
			t.Errorf("remove test store: %v", err)
		}
	})
	return s
}
