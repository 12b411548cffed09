package chroot

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"cooper/run/internal/wire"
)

// tree lists what is below dir: kinds, modes and contents, and times if they are wanted.
func tree(t *testing.T, dir string, times bool) []string {
	t.Helper()
	var list []string
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		text := ""
		if info.Mode().IsRegular() {
			b, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			text = string(b)
		} else if info.Mode().Type() == os.ModeSymlink {
			text, _ = os.Readlink(path)
		}
		rel, _ := filepath.Rel(dir, path)
		entry := fmt.Sprintf("%s %v %q", rel, info.Mode(), text)
		if times || !e.IsDir() {
			entry += " " + info.ModTime().String()
		}
		list = append(list, entry)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// rootDir makes a root in a directory of its own, all of it an hour old.
func rootDir(t *testing.T, files map[string]string) string {
	t.Helper()
	root := filepath.Join(t.TempDir(), "root")
	for name, text := range files {
		full := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(full, []byte(text), 0o640); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.MkdirAll(root, 0o755); err != nil {
		t.Fatal(err)
	}
	old := time.Now().Add(-time.Hour)
	err := filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
		return errors.Join(err, os.Chtimes(path, old, old))
	})
	if err != nil {
		t.Fatal(err)
	}
	return root
}

var given = []wire.File{
	{Path: "/etc/hosts", Data: []byte("ours"), Mode: 0o644},
	{Path: "/etc/resolv.conf", Data: []byte("ours too"), Mode: 0o600},
	{Path: "/run/a/b", Data: []byte("deep"), Mode: 0o644},
}

// TestFurnish: the files are there for the step, and whatever it does with them, the
// root is what it was before.
func TestFurnish(t *testing.T) {
	for name, tt := range map[string]struct {
		files map[string]string
		times bool // directories keep theirs: the step does not touch them
		step  func(root string) error
	}{
		"an empty root": {nil, true, func(string) error { return nil }},
		"files in the way": {
			map[string]string{"etc/hosts": "theirs", "etc/passwd": "x", "dev/null": "a file", "dev/own": ""}, true,
			func(string) error { return nil },
		},
		"changed and deleted": {
			map[string]string{"etc/hosts": "theirs"}, false,
			func(root string) error {
				return errors.Join(os.Remove(filepath.Join(root, "etc/hosts")), os.RemoveAll(filepath.Join(root, "dev")),
					os.WriteFile(filepath.Join(root, "etc/resolv.conf"), []byte("changed"), 0o600))
			},
		},
		"replaced by a directory": {
			map[string]string{"etc/hosts": "theirs"}, false,
			func(root string) error {
				hosts := filepath.Join(root, "etc/hosts")
				return errors.Join(os.Remove(hosts), os.MkdirAll(filepath.Join(hosts, "sub"), 0o755))
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			root := rootDir(t, tt.files)
			before := tree(t, root, tt.times)
			f, err := Furnish(root, nil, given)
			if err != nil {
				t.Fatal(err)
			}
			for _, g := range given {
				if b, err := os.ReadFile(filepath.Join(root, g.Path)); err != nil || string(b) != string(g.Data) {
					t.Errorf("%s = %q, %v, want %q", g.Path, b, err, g.Data)
				}
			}
			if err := tt.step(root); err != nil {
				t.Fatal(err)
			}
			if err := f.Clear(); err != nil {
				t.Fatal(err)
			}
			if after := tree(t, root, tt.times); !slices.Equal(before, after) {
				t.Errorf("the root was\n%q, is\n%q", before, after)
			}
			if left, _ := os.ReadDir(filepath.Dir(root)); len(left) != 1 {
				t.Errorf("beside the root: %v", left)
			}
		})
	}
}

// TestFurnishDevices: root gets nodes that work, in place of the image's.
func TestFurnishDevices(t *testing.T) {
	probe := filepath.Join(t.TempDir(), "node")
	if err := unix.Mknod(probe, unix.S_IFCHR|0o600, int(unix.Mkdev(1, 3))); err != nil {
		t.Skip("no right to make devices:", err)
	}
	root := rootDir(t, map[string]string{"dev/null": "a file"})
	f, err := Furnish(root, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	var st unix.Stat_t
	if err := unix.Stat(filepath.Join(root, "dev/null"), &st); err != nil || st.Mode != unix.S_IFCHR|0o666 || st.Rdev != unix.Mkdev(1, 3) {
		t.Errorf("null: mode %o, device %d, %v", st.Mode, st.Rdev, err)
	}
	if err := f.Clear(); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(filepath.Join(root, "dev/null")); err != nil || string(b) != "a file" {
		t.Errorf("the image's own is %q, %v", b, err)
	}
}

// TestClearStaysInside: a step may put links that lead out of the root in place of
// its directories.
func TestClearStaysInside(t *testing.T) {
	outside := rootDir(t, map[string]string{"hosts": "the host's", "resolv.conf": "the host's", "null": "the host's", "a/b": "the host's"})
	for _, dir := range []string{"etc", "dev", "run", "run/a"} {
		t.Run(dir, func(t *testing.T) {
			before := tree(t, outside, true)
			root := rootDir(t, map[string]string{"etc/hosts": "theirs"})
			f, err := Furnish(root, nil, given)
			if err != nil {
				t.Fatal(err)
			}
			full := filepath.Join(root, dir)
			if err := errors.Join(os.Rename(full, filepath.Join(root, "moved")), os.Symlink(outside, full)); err != nil {
				t.Fatal(err)
			}
			if err := f.Clear(); err != nil {
				t.Fatal(err)
			}
			if after := tree(t, outside, true); !slices.Equal(before, after) {
				t.Errorf("outside was\n%q, is\n%q", before, after)
			}
		})
	}
}
