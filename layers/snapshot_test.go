package layers

import (
	"context"
	"os"
	"path/filepath"
	"testing"
)

func TestMain(m *testing.M) {
	Init()
	os.Exit(m.Run())
}

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
		os.RemoveAll(dir)
	})
	return s
}

func TestSnapshotChain(t *testing.T) {
	s := testStore(t, "overlay")
	ctx := context.Background()
	var parent Parent
	for i := range 5 {
		sn, err := s.Prepare(ctx, parent)
		if err != nil {
			t.Fatal(err)
		}
		t.Log(sn.Rootfs())
		dir, err := sn.Mount()
		if err != nil {
			t.Fatal(err)
		}
		os.WriteFile(filepath.Join(dir, "f"), []byte{byte('0' + i)}, 0o644)
		os.RemoveAll(filepath.Join(dir, "d"))
		os.Mkdir(filepath.Join(dir, "d"), 0o755)
		os.WriteFile(filepath.Join(dir, "d", string([]byte{byte('a' + i)})), []byte{byte('0' + i)}, 0o644)
		parent = sn.Commit(ctx)
	}
	l, err := parent.Wait(ctx)
	t.Log(l, err)
}
