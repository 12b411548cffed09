package output

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// tree makes files below a new directory; a name with a slash at its end is a
// directory, a value that begins with -> a symbolic link.
func tree(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, content := range files {
		p := filepath.Join(dir, name)
		err := os.MkdirAll(filepath.Dir(p), 0o755)
		switch target, link := strings.CutPrefix(content, "->"); {
		case err != nil:
		case strings.HasSuffix(name, "/"):
			err = os.MkdirAll(p, 0o755)
		case link:
			err = os.Symlink(target, p)
		default:
			err = os.WriteFile(p, []byte(content), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// files reads a tree back in tree's notation, without directories that hold
// something.
func files(t *testing.T, dir string) map[string]string {
	t.Helper()
	found := map[string]string{}
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil || p == dir {
			return err
		}
		name, _ := filepath.Rel(dir, p)
		switch {
		case d.IsDir():
			if entries, _ := os.ReadDir(p); len(entries) == 0 {
				found[name+"/"] = ""
			}
		case d.Type() == fs.ModeSymlink:
			target, _ := os.Readlink(p)
			found[name] = "->" + target
		default:
			content, _ := os.ReadFile(p)
			found[name] = string(content)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// What is written merges with what is there; links there lead nowhere.
func TestWriteDir(t *testing.T) {
	base := t.TempDir()
	dest := filepath.Join(base, "dest")
	tree(t, base, map[string]string{"outside/kept": "kept"})
	tree(t, dest, map[string]string{
		"old": "old", "both/old": "old", "both/same": "old", "link": "->../outside", "filelink": "->../outside/kept",
		"becomes-file/x": "old", "becomes-dir": "old", "links/in": "->../../outside",
	})
	err := writeDir(dest, func(dir string) error {
		tree(t, dir, map[string]string{
			"new/deep/f": "new", "both/same": "new", "both/new": "new", "link/kept": "new", "filelink": "new",
			"becomes-file": "new", "becomes-dir/x": "new", "links/in/kept": "new", "empty/": "",
		})
		return errors.Join(os.Chmod(filepath.Join(dir, "new"), 0o555), os.Chmod(filepath.Join(dir, "both"), 0o500))
	})
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"outside/kept": "kept", "dest/old": "old", "dest/both/old": "old", "dest/both/same": "new", "dest/both/new": "new",
		"dest/new/deep/f": "new", "dest/link/kept": "new", "dest/filelink": "new", "dest/becomes-file": "new",
		"dest/becomes-dir/x": "new", "dest/links/in/kept": "new", "dest/empty/": "",
	}
	if diff := cmp.Diff(want, files(t, base)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for name, mode := range map[string]fs.FileMode{"new": 0o555, "both": 0o500} {
		info, err := os.Stat(filepath.Join(dest, name))
		if err != nil || info.Mode().Perm() != mode {
			t.Errorf("%s has mode %v, %v, want %v", name, info.Mode(), err, mode)
		}
		_ = os.Chmod(filepath.Join(dest, name), 0o755)
	}
}

// After an error everything is as it was.
func TestNothingHalfWritten(t *testing.T) {
	base := t.TempDir()
	broken := errors.New("broken")
	tree(t, base, map[string]string{"there/f": "old", "there.tar": "old"})
	for _, dest := range []string{"there", "new", "deep/new"} {
		err := writeDir(filepath.Join(base, dest), func(dir string) error {
			tree(t, dir, map[string]string{"f": "new", "d/f": "new"})
			return errors.Join(broken, os.Chmod(filepath.Join(dir, "d"), 0o500))
		})
		if !errors.Is(err, broken) {
			t.Errorf("%s: %v, want %v", dest, err, broken)
		}
	}
	for _, dest := range []string{"there.tar", "new.tar"} {
		err := WriteFile(filepath.Join(base, dest), nil, func(w io.Writer) error {
			_, err := io.WriteString(w, "new")
			return errors.Join(err, broken)
		})
		if !errors.Is(err, broken) {
			t.Errorf("%s: %v, want %v", dest, err, broken)
		}
	}
	if diff := cmp.Diff(map[string]string{"there/f": "old", "there.tar": "old", "deep/": ""}, files(t, base)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestWriteFile(t *testing.T) {
	base := t.TempDir()
	old := syscall.Umask(0o027)
	defer syscall.Umask(old)
	tree(t, base, map[string]string{"there": "old", "link": "->there"})
	write := func(s string) func(io.Writer) error {
		return func(w io.Writer) error {
			_, err := io.WriteString(w, s)
			return err
		}
	}
	if err := os.Chmod(filepath.Join(base, "there"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"link", "fresh"} {
		if err := WriteFile(filepath.Join(base, name), nil, write(name)); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(map[string]string{"there": "link", "link": "->there", "fresh": "fresh"}, files(t, base)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for name, want := range map[string]fs.FileMode{"there": 0o600, "fresh": 0o640} {
		if info, err := os.Stat(filepath.Join(base, name)); err != nil || info.Mode() != want {
			t.Errorf("%s has mode %v, %v, want %v", name, info.Mode(), err, want)
		}
	}
	if err := WriteFile("/dev/null", nil, write("x")); err != nil {
		t.Error(err)
	}
	if info, err := os.Stat("/dev/null"); err != nil || info.Mode().IsRegular() {
		t.Errorf("/dev/null is %v, %v", info.Mode(), err)
	}
	var out strings.Builder
	if err := WriteFile(Stdout, &out, write("x")); err != nil || out.String() != "x" {
		t.Errorf("standard output got %q, %v", out.String(), err)
	}
}

func TestCheck(t *testing.T) {
	t.Chdir(t.TempDir())
	tree(t, ".", map[string]string{"dir/f": "", "file": ""})
	for _, c := range []struct {
		o    Output
		want string
	}{
		{Output{}, ""},
		{Output{Type: Local, Dest: "dir"}, ""},
		{Output{Type: Local, Dest: "new/deep"}, ""},
		{Output{Type: Tar, Dest: "file"}, ""},
		{Output{Type: OCI, Dest: "dir", Dir: true}, ""},
		{Output{Type: Local}, "dest is required for local exporter"},
		{Output{Type: Local, Dest: "-"}, "dest cannot be stdout for local exporter"},
		{Output{Type: Local, Dest: "file"}, `destination directory "file" is a file`},
		{Output{Type: Tar, Dest: "dir"}, `destination file "dir" is a directory`},
		{Output{Type: OCI, Dest: "none/x.tar"}, `invalid destination file "none/x.tar": there is no directory none`},
		{Output{Type: "zip", Dest: "x"}, `exporter "zip" could not be found: want local, tar, oci, docker, image or registry`},
	} {
		got := ""
		if err := c.o.Check(); err != nil {
			got = err.Error()
		}
		if got != c.want {
			t.Errorf("Check(%+v) = %q, want %q", c.o, got, c.want)
		}
	}
}
