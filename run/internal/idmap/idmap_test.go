package idmap

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

var shifted = []specs.LinuxIDMapping{{ContainerID: 0, HostID: 1000, Size: 10}}

func TestOutside(t *testing.T) {
	for in, want := range map[uint32]int{0: 1000, 9: 1009, 10: 10} {
		if got := Outside(shifted, in); got != want {
			t.Errorf("Outside(%d) = %d, want %d", in, got, want)
		}
	}
}

// TestMount: files of a mounted directory have other owners, and what is made there
// has them on disk too.
func TestMount(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can mount with other owners")
	}
	dir, at := t.TempDir(), t.TempDir()
	if !Possible(dir, shifted, shifted) {
		t.Fatalf("%s cannot be mounted with other owners", dir)
	}
	if Possible("/proc", shifted, shifted) {
		t.Error("/proc can be mounted with other owners")
	}
	file := filepath.Join(dir, "f")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(file, 3, 4); err != nil {
		t.Fatal(err)
	}
	n, err := Make(shifted, shifted, false)
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	d, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	mapped, unmount, err := Mount([]*os.File{d}, n.User, at)
	defer unmount()
	if err != nil {
		t.Fatal(err)
	}
	defer mapped[0].Close()
	var st unix.Stat_t
	if err := unix.Fstatat(int(mapped[0].Fd()), "f", &st, 0); err != nil || st.Uid != 1003 || st.Gid != 1004 {
		t.Errorf("owner %d:%d, %v, want 1003:1004", st.Uid, st.Gid, err)
	}
	if got, want := LowerOption(mapped, nil), fdPath(mapped[0]); got != want {
		t.Errorf("LowerOption = %q, want %q", got, want)
	}
}

func TestLowerOption(t *testing.T) {
	var files []*os.File
	for range 4 {
		f, err := os.Open(os.DevNull)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		files = append(files, f)
	}
	p := func(i int) string { return fdPath(files[i]) }
	want := p(1) + ":" + p(0) + "::" + p(2) + "::" + p(3)
	if got := LowerOption(files[:2], files[2:]); got != want {
		t.Errorf("LowerOption = %q, want %q", got, want)
	}
	if got := LowerOption(files[:2], nil); got != strings.Join([]string{p(0), p(1)}, ":") {
		t.Errorf("LowerOption without data = %q", got)
	}
}

// TestAdopt: directories that another tree has become as there.
func TestAdopt(t *testing.T) {
	dir, like := t.TempDir(), t.TempDir()
	for _, d := range []string{dir + "/etc/new", like + "/etc"} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := unix.Chmod(like+"/etc", 0o1710); err != nil {
		t.Fatal(err)
	}
	uid, gid := os.Geteuid(), os.Getegid()
	if os.Geteuid() == 0 {
		uid, gid = 7, 8
		if err := os.Chown(like+"/etc", 5, 6); err != nil {
			t.Fatal(err)
		}
	}
	if err := Adopt(dir, like, uid, gid); err != nil {
		t.Fatal(err)
	}
	var there, got, made unix.Stat_t
	for path, st := range map[string]*unix.Stat_t{like + "/etc": &there, dir + "/etc": &got, dir + "/etc/new": &made} {
		if err := unix.Lstat(path, st); err != nil {
			t.Fatal(err)
		}
	}
	if got.Mode != there.Mode || got.Uid != there.Uid || got.Gid != there.Gid || got.Mtim != there.Mtim {
		t.Errorf("etc is %+v, want as %+v", got, there)
	}
	if int(made.Uid) != uid || int(made.Gid) != gid {
		t.Errorf("etc/new is of %d:%d, want %d:%d", made.Uid, made.Gid, uid, gid)
	}
}
