package layers

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// TestExtractRoot: a part of a tree is written with names relative to it, hard
// links among them.
func TestExtractRoot(t *testing.T) {
	from, to := t.TempDir(), t.TempDir()
	for _, name := range []string{"a/b/c", "a/b/d/e"} {
		files{t, from}.write(name, name)
	}
	if err := os.Link(from+"/a/b/c", from+"/a/b/d/linked"); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/a/b", from+"/way"); err != nil {
		t.Fatal(err)
	}
	v, err := OpenView(from)
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	if _, err := v.Extract(t.Context(), to, ExtractOptions{Root: "/way"}); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(tree(t, from+"/a/b"), tree(t, to)); diff != "" {
		t.Errorf("extracted (-want +got):\n%s", diff)
	}
}

// TestOverDir: what is written over a directory stays out of it.
func TestOverDir(t *testing.T) {
	s := testStore(t, "overlay")
	lower, to, at := t.TempDir(), filepath.Join(s.Root(), "over"), t.TempDir()
	files{t, lower}.write("old", "old")
	if err := os.Chmod(lower, 0o751); err != nil {
		t.Fatal(err)
	}
	r, err := s.OverDir(lower, to)
	if err != nil {
		t.Fatal(err)
	}
	options := "lowerdir=" + r.Lower[0] + ",upperdir=" + r.Upper + ",workdir=" + r.Work
	for _, o := range r.Options {
		options += "," + o
	}
	if err := unix.Mount("overlay", at, "overlay", 0, options); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(at, unix.MNT_DETACH)
	files{t, at}.write("new", "new")
	if _, err := os.Stat(at + "/old"); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(lower + "/new"); !os.IsNotExist(err) {
		t.Errorf("the lower directory has what was written over it: %v", err)
	}
	if st, err := os.Stat(at); err != nil || st.Mode().Perm() != 0o751 {
		t.Errorf("mode of the root = %v, %v, want 0751", st.Mode(), err)
	}
}
