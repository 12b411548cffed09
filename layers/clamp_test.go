package layers

import (
	"archive/tar"
	"context"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	digest "github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"
)

// TestClamp: neither the tar nor the directory of a clamped layer has a later
// time, whether Write made the tar on the way or Commit read the directory, and
// the base keeps its own.
func TestClamp(t *testing.T) {
	limit := testTime.Add(-10 * time.Minute).Truncate(time.Second)
	for _, mounted := range []bool{false, true} {
		drivers(t, func(t *testing.T, s *Store) {
			ctx := context.Background()
			base := baseLayer(t, s)
			before, err := s.layerDirs(base.ID)
			must(t, err)
			baseTree := tree(t, before[0].path)
			sn := prepare(t, s, base)
			sn.Clamp(limit)
			old := fileEntry("old", "old", 0o644)
			old.ModTime = limit.Add(-time.Hour)
			must(t, sn.Write(ctx, append(awkwardEntries(), old), WriteOptions{DirTime: time.Now()}))
			if mounted { // somebody else writes too, with today's times
				root, err := sn.Mount()
				must(t, err)
				must(t, os.WriteFile(filepath.Join(root, "usr/share/later"), []byte("x"), 0o600))
				must(t, os.Symlink("later", filepath.Join(root, "usr/share/alias")))
				must(t, os.RemoveAll(filepath.Join(root, "gone")))
				must(t, sn.Unmount())
			}
			l, err := sn.Commit(ctx).Wait(ctx)
			must(t, err)
			checkTarTimes(t, s, l, limit)
			if s.overlay { // with vfs the base's files are in it too
				dirs, err := s.layerDirs(l.ID)
				must(t, err)
				checkTreeTimes(t, dirs[0].path, limit)
			}
			if diff := cmp.Diff(baseTree, tree(t, before[0].path)); diff != "" {
				t.Errorf("the base changed: %s", diff)
			}
		})
	}
}

// checkTarTimes checks the layer's tar: its digest and its times.
func checkTarTimes(t *testing.T, s *Store, l Layer, limit time.Time) {
	t.Helper()
	rc, err := s.Diff(context.Background(), l.ID)
	must(t, err)
	defer rc.Close()
	sum := digest.Canonical.Digester()
	in := io.TeeReader(rc, sum.Hash())
	r := tar.NewReader(in)
	for {
		h, err := r.Next()
		if err == io.EOF {
			break
		}
		must(t, err)
		if h.ModTime.After(limit) {
			t.Errorf("tar: %s has the time %s, want at most %s", h.Name, h.ModTime, limit)
		}
		if h.Name == "old" && !h.ModTime.Equal(limit.Add(-time.Hour)) {
			t.Errorf("tar: old has the time %s, want its own", h.ModTime)
		}
	}
	_, err = io.Copy(io.Discard, in)
	must(t, err)
	if got := sum.Digest(); got != l.DiffID {
		t.Errorf("Diff has the digest %s, want the DiffID %s", got, l.DiffID)
	}
}

// checkTreeTimes checks the files below dir, but not its own time.
func checkTreeTimes(t *testing.T, dir string, limit time.Time) {
	t.Helper()
	must(t, filepath.WalkDir(dir, func(name string, _ os.DirEntry, err error) error {
		if err != nil || name == dir {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(name, &st); err != nil {
			return err
		}
		if mtime := time.Unix(st.Mtim.Unix()); mtime.After(limit) && !isWhiteout(&st) {
			t.Errorf("%s has the time %s, want at most %s", name, mtime, limit)
		}
		return nil
	}))
}
