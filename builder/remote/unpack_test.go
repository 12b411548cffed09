package remote

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"
)

// pack makes a tar. A name that ends in a slash is a directory, "a -> b" a
// symbolic link, "a => b" a hard link, "a = x" a file with content x.
func pack(t testing.TB, entries ...string) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, e := range entries {
		h := &tar.Header{Mode: 0o644, ModTime: time.Unix(1600000000, 0), Typeflag: tar.TypeReg}
		var content string
		switch {
		case strings.Contains(e, " -> "):
			h.Typeflag = tar.TypeSymlink
			h.Name, h.Linkname, _ = strings.Cut(e, " -> ")
		case strings.Contains(e, " => "):
			h.Typeflag = tar.TypeLink
			h.Name, h.Linkname, _ = strings.Cut(e, " => ")
		case strings.HasSuffix(e, "/"):
			h.Typeflag, h.Name, h.Mode = tar.TypeDir, e, 0o755
		case strings.HasPrefix(e, "dev "):
			h.Typeflag, h.Name, h.Devmajor, h.Devminor = tar.TypeChar, e[4:], 1, 3
		default:
			h.Name, content, _ = strings.Cut(e, " = ")
			h.Size = int64(len(content))
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(content)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func TestUnpack(t *testing.T) {
	for _, tc := range []struct {
		name    string
		entries []string
		want    string
	}{
		{"empty", nil, ""},
		{"files", []string{"./", "./a = x", "d/", "d/b = y"}, "a 644 \"x\"\nd/ 755\nd/b 644 \"y\""},
		{"no entries for directories", []string{"a/b/c = x"}, "a/ 755\na/b/ 755\na/b/c 644 \"x\""},
		{"leading slash", []string{"/etc/passwd = x"}, "etc/ 755\netc/passwd 644 \"x\""},
		{"links", []string{"a = x", "b -> a", "c => a", "d -> /nowhere", "e -> ../../up"}, "a 644 \"x\"\nb -> a\nc 644 \"x\"\nd -> /nowhere\ne -> ../../up"},
		{"later wins", []string{"a = x", "a = y", "b/", "b = z", "c = 1", "c/"}, "a 644 \"y\"\nb 644 \"z\"\nc/ 755"},
		{"file replaces link", []string{"a = x", "b -> a", "b = y"}, "a 644 \"x\"\nb 644 \"y\""},
		{"through a link inside", []string{"d/", "l -> d", "l/f = x"}, "d/ 755\nd/f 644 \"x\"\nl -> d"},
		{"devices are left out", []string{"dev null", "a = x"}, "a 644 \"x\""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			data := pack(t, tc.entries...)
			tree, err := newClient(t).Unpack(t.Context(), bytes.NewReader(data))
			if err != nil {
				t.Fatal(err)
			}
			defer tree.Close()
			if diff := cmp.Diff(tc.want, list(t, tree.Dir)); diff != "" {
				t.Errorf("files (-want +got):\n%s", diff)
			}
			if want := digest.FromBytes(data); tree.Key != want || !tree.Owners {
				t.Errorf("Key, Owners = %s, %v, want %s, true", tree.Key, tree.Owners, want)
			}
		})
	}
}

// TestUnpackHostile checks that nothing outside the tree is read or written.
func TestUnpackHostile(t *testing.T) {
	outside := t.TempDir()
	if err := os.WriteFile(filepath.Join(outside, "secret"), []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, entries := range map[string][]string{
		"dots":                        {"../evil = x"},
		"dots in the middle":          {"a/../../evil = x"},
		"directory with dots":         {"../../evil/"},
		"link with dots":              {"../evil -> x"},
		"absolute link":               {"l -> " + outside, "l/evil = x"},
		"relative link":               {"l -> ../../../../../../../../.." + outside, "l/evil = x"},
		"link to link":                {"l -> m", "m -> " + outside, "l/evil = x"},
		"link over directory":         {"d/", "d/f = x", "d -> " + outside, "d/evil = x"},
		"directory through link":      {"l -> " + outside, "l/evil/"},
		"hard link out":               {"h => ../../../secret"},
		"hard link through link":      {"l -> " + outside, "h => l/secret"},
		"file through hard-link name": {"l -> " + outside, "l/secret = x"},
		"link through link":           {"l -> " + outside, "l/evil -> x"},
		"proc":                        {"l -> /proc/self/cwd", "l/evil = x"},
	} {
		t.Run(name, func(t *testing.T) {
			c := newClient(t)
			tree, err := c.Unpack(t.Context(), bytes.NewReader(pack(t, entries...)))
			if err == nil {
				t.Errorf("no error; files:\n%s", list(t, tree.Dir))
				tree.Close()
			}
			if got := list(t, outside); got != `secret 600 "secret"` {
				t.Errorf("outside is now\n%s", got)
			}
		})
	}
}

func TestUnpackKeepsMetadata(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root or a user namespace")
	}
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, h := range []*tar.Header{
		{Name: "d/", Typeflag: tar.TypeDir, Mode: 0o1555, Uid: 7, Gid: 8, ModTime: time.Unix(1000, 0)},
		{Name: "d/f", Mode: 0o4711, Uid: 9, Gid: 10, ModTime: time.Unix(2000, 0)},
	} {
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
	}
	w.Close()
	tree, err := newClient(t).Unpack(t.Context(), &buf)
	if err != nil {
		t.Fatal(err)
	}
	defer tree.Close()
	var got []string
	for _, name := range []string{"d", "d/f"} {
		var st unix.Stat_t
		if err := unix.Lstat(filepath.Join(tree.Dir, name), &st); err != nil {
			t.Fatal(err)
		}
		got = append(got, fmt.Sprintf("%s %o %d:%d %d", name, st.Mode, st.Uid, st.Gid, st.Mtim.Sec))
	}
	if diff := cmp.Diff([]string{"d 41555 7:8 1000", "d/f 104711 9:10 2000"}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if !tree.Time.Equal(time.Unix(2000, 0)) {
		t.Errorf("Time = %v, want that of the newest file", tree.Time)
	}
}

func TestUnpackCompressed(t *testing.T) {
	data := pack(t, "a = x")
	for _, program := range []string{"cat", "gzip", "bzip2", "xz", "zstd"} {
		t.Run(program, func(t *testing.T) {
			path, err := exec.LookPath(program)
			if err != nil {
				t.Skip(err)
			}
			cmd := exec.Command(path)
			if program != "cat" {
				cmd.Args = append(cmd.Args, "-c")
			}
			cmd.Stdin = bytes.NewReader(data)
			packed, err := cmd.Output()
			if err != nil {
				t.Fatal(err)
			}
			if !IsArchive(packed[:min(len(packed), HeaderSize)]) {
				t.Error("IsArchive = false")
			}
			tree, err := newClient(t).Unpack(t.Context(), bytes.NewReader(packed))
			if err != nil {
				t.Fatal(err)
			}
			defer tree.Close()
			if got := list(t, tree.Dir); got != `a 644 "x"` {
				t.Errorf("files:\n%s", got)
			}
			if want := digest.FromBytes(packed); tree.Key != want {
				t.Errorf("Key = %s, want %s", tree.Key, want)
			}
		})
	}
}

func TestUnpackDamaged(t *testing.T) {
	data := pack(t, "a = "+strings.Repeat("x", 5000))
	var zipped bytes.Buffer
	z := gzip.NewWriter(&zipped)
	z.Write(data)
	z.Close()
	for name, damaged := range map[string][]byte{
		"cut": data[:3000], "cut gzip": zipped.Bytes()[:zipped.Len()/2], "noise": bytes.Repeat([]byte("noise"), 1000),
	} {
		if tree, err := newClient(t).Unpack(t.Context(), bytes.NewReader(damaged)); err == nil {
			tree.Close()
			t.Errorf("%s: no error", name)
		}
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	stop := errors.New("stop")
	cancel(stop)
	if _, err := newClient(t).Unpack(ctx, bytes.NewReader(data)); !errors.Is(err, stop) {
		t.Errorf("cancelled: %v", err)
	}
}

func TestIsArchive(t *testing.T) {
	for _, text := range []string{"", "FROM scratch\n", "# syntax=docker/dockerfile:1\n", "B", strings.Repeat("FROM x\n", 100)} {
		if IsArchive([]byte(text)) {
			t.Errorf("IsArchive(%q) = true", text)
		}
	}
	long := pack(t, strings.Repeat("long/", 60)+"name = x")
	if !IsArchive(long[:HeaderSize]) {
		t.Error("IsArchive = false for a tar with an extended header")
	}
}

func TestSweep(t *testing.T) {
	c := newClient(t)
	dir, err := c.Store.Dir("trees")
	if err != nil {
		t.Fatal(err)
	}
	stale := filepath.Join(dir, "stale")
	if err := os.MkdirAll(filepath.Join(stale, "files", "d"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(stale, "lock"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	first, err := c.newTree()
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	second, err := c.newTree()
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	if _, err := os.Stat(stale); err == nil {
		t.Error("the stale tree is still there")
	}
	if _, err := os.Stat(first.Dir); err != nil {
		t.Error("a tree in use was swept:", err)
	}
}

// FuzzUnpack is best run with -fuzzminimizetime 1x: decompression in several
// goroutines never takes quite the same way, so that minimizing doesn't end.
func FuzzUnpack(f *testing.F) {
	f.Add(pack(f, "a = x", "d/", "l -> d", "l/f = y", "h => a"))
	f.Add(pack(f, "../evil = x", "l -> ..", "l/evil = x"))
	f.Add([]byte("FROM scratch"))
	c := newClient(f)
	parent, err := c.Store.Dir("trees")
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		tree, err := c.Unpack(t.Context(), bytes.NewReader(data))
		if err == nil {
			var names []string
			entries, _ := os.ReadDir(filepath.Dir(tree.Dir))
			for _, e := range entries {
				names = append(names, e.Name())
			}
			if diff := cmp.Diff([]string{"files", "lock"}, names); diff != "" {
				t.Errorf("beside the tree (-want +got):\n%s", diff)
			}
			if err := tree.Close(); err != nil {
				t.Error(err)
			}
		}
		if left, _ := os.ReadDir(parent); len(left) > 0 {
			t.Errorf("left: %v", left)
		}
	})
}
