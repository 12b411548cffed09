package layers

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	digest "github.com/opencontainers/go-digest"
)

// tarOf makes a tar from lines like "d dir", "f name content", "l name target",
// "h name target", "c name" (device 1:3), "p name".
func tarOf(t testing.TB, lines ...string) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, line := range lines {
		parts := strings.SplitN(line, " ", 3)
		for len(parts) < 3 {
			parts = append(parts, "")
		}
		h := &tar.Header{Name: parts[1], Mode: 0o644, ModTime: time.Unix(1e9, 0), Format: tar.FormatPAX}
		content := ""
		switch parts[0] {
		case "d":
			h.Typeflag, h.Mode = tar.TypeDir, 0o755
		case "f":
			h.Typeflag, content = tar.TypeReg, parts[2]
			h.Size = int64(len(content))
		case "l":
			h.Typeflag, h.Linkname = tar.TypeSymlink, parts[2]
		case "h":
			h.Typeflag, h.Linkname = tar.TypeLink, parts[2]
		case "c":
			h.Typeflag, h.Devmajor, h.Devminor = tar.TypeChar, 1, 3
		case "p":
			h.Typeflag = tar.TypeFifo
		default:
			t.Fatalf("tarOf: %q", line)
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		io.WriteString(w, content)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// listing describes a tree, one line per file, for comparison.
func listTree(t testing.TB, root string) []string {
	t.Helper()
	lines := []string{}
	err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(root, name)
		line := fmt.Sprintf("%s %v", rel, info.Mode())
		switch {
		case info.Mode().IsRegular():
			content, err := os.ReadFile(name)
			if err != nil {
				return err
			}
			line += fmt.Sprintf(" %q", content)
		case info.Mode()&fs.ModeSymlink != 0:
			target, _ := os.Readlink(name)
			line += " -> " + target
		}
		lines = append(lines, line)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return lines
}

// TestApplyHostile: whatever a tar says, nothing outside its layer changes.
func TestApplyHostile(t *testing.T) {
	s := testStore(t, "overlay")
	base := filepath.Dir(s.Root())
	outside := filepath.Join(base, "outside")
	if err := os.MkdirAll(filepath.Join(outside, "dir"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"file", "dir/file"} {
		if err := os.WriteFile(filepath.Join(outside, name), []byte("untouched"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	up := strings.Repeat("../", 12)
	abs := strings.TrimPrefix(outside, "/")
	tests := []struct {
		name    string
		entries []string
	}{
		{"dot dot", []string{"f " + up + abs + "/file changed"}},
		{"dot dot in the middle", []string{"d a", "f a/../../" + up + abs + "/file changed"}},
		{"absolute name", []string{"f " + outside + "/file changed"}},
		{"absolute link", []string{"l link " + outside, "f link/file changed"}},
		{"relative link", []string{"l link " + up + abs, "f link/file changed", "f link/new x"}},
		{"link through links", []string{"l a " + up, "l b a/" + abs, "f b/file changed", "f b/dir/new x"}},
		{"link to slash", []string{"l r /", "f r/" + abs + "/file changed"}},
		{"link replaced by directory", []string{"l d " + outside, "d d/dir", "f d/dir/file changed"}},
		{"hard link out", []string{"h hard " + outside + "/file"}},
		{"hard link out by dots", []string{"h hard " + up + abs + "/file"}},
		{"hard link through a link", []string{"l link " + outside, "h hard link/file"}},
		{"hard link to a link", []string{"l link " + outside + "/file", "h hard link", "f hard2 x"}},
		{"whiteout of a parent", []string{"f .wh... "}},
		{"whiteout of itself", []string{"d d", "f d/.wh.. "}},
		{"whiteout without a name", []string{"d d", "f d/.wh. "}},
		{"whiteout behind a link", []string{"l link " + outside, "f link/.wh.file "}},
		{"opaque behind a link", []string{"l link " + outside, "f link/.wh..wh..opq "}},
		{"whiteout by dots", []string{"f " + up + abs + "/.wh.file "}},
		{"root as a file", []string{"f . x"}},
		{"root as a link", []string{"l . " + outside, "f file changed"}},
		{"root as a link by dots", []string{"d a", "l a/.. " + outside, "f file changed"}},
		{"fifo behind a link", []string{"l link " + outside, "p link/fifo"}},
		{"device behind a link", []string{"l link " + outside, "c link/null"}},
		{"directory through a link", []string{"l link " + outside, "d link/dir"}},
	}
	want := listTree(t, outside)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			l, err := s.Apply(context.Background(), "", bytes.NewReader(tarOf(t, tt.entries...)))
			if diff := cmp.Diff(want, listTree(t, outside)); diff != "" {
				t.Errorf("Apply(%q) changed what is outside (-want +got):\n%s", tt.entries, diff)
			}
			entries, _ := os.ReadDir(base)
			if len(entries) != 3 {
				t.Errorf("Apply(%q) made %v beside the store", tt.entries, entries)
			}
			if err != nil {
				t.Logf("refused: %v", err)
				return
			}
			dirs, err := s.layerDirs(l.ID)
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("contained: %q", listTree(t, dirs[0].path))
		})
	}
	staging, _ := os.ReadDir(filepath.Join(s.Root(), "overlay/staging"))
	if len(staging) > 0 {
		t.Errorf("refused layers left %v", staging)
	}
}

func TestApplyCompressed(t *testing.T) {
	plain := tarOf(t, "d dir", "f dir/file content", "l link dir/file")
	for _, driver := range []string{"overlay", "vfs"} {
		s := testStore(t, driver)
		for _, tool := range []string{"cat", "gzip", "zstd", "xz", "bzip2"} {
			t.Run(driver+"/"+tool, func(t *testing.T) {
				if _, err := exec.LookPath(tool); err != nil {
					t.Skip(err)
				}
				args := []string{"-c"}
				if tool == "cat" {
					args = nil
				}
				cmd := exec.Command(tool, args...)
				cmd.Stdin = bytes.NewReader(plain)
				packed, err := cmd.Output()
				if err != nil {
					t.Fatal(err)
				}
				l, err := s.Apply(context.Background(), "", bytes.NewReader(packed))
				if err != nil {
					t.Fatal(err)
				}
				d := digest.FromBytes(plain)
				want := Layer{ID: d.Encoded(), DiffID: d, Size: int64(len(plain))}
				if diff := cmp.Diff(want, l); diff != "" {
					t.Errorf("Apply (-want +got):\n%s", diff)
				}
				rc, err := s.Diff(context.Background(), l.ID)
				if err != nil {
					t.Fatal(err)
				}
				defer rc.Close()
				if got, err := io.ReadAll(rc); err != nil || !bytes.Equal(got, plain) {
					t.Errorf("Diff gives another tar than Apply got (%d bytes, %v)", len(got), err)
				}
			})
		}
	}
}

// FuzzApply: no tar reaches outside its layer, and what is accepted is given
// back byte for byte. An input takes 10 ms and more, so use -fuzzminimizetime 1x.
func FuzzApply(f *testing.F) {
	up := strings.Repeat("../", 12) + "dev/shm"
	for _, lines := range [][]string{
		{"d dir", "f dir/file content", "l link dir/file", "h hard dir/file"},
		{"l link " + up, "f link/escaped x"},
		{"f " + up + "/escaped x"},
		{"d d", "f d/.wh..wh..opq ", "f d/.wh.gone "},
		{"f .wh... "},
		{"c null", "p fifo"},
	} {
		f.Add(tarOf(f, lines...))
	}
	s := testStore(f, "overlay")
	outside := filepath.Join(filepath.Dir(s.Root()), "outside")
	if err := os.Mkdir(outside, 0o755); err != nil {
		f.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(outside, "file"), []byte("untouched"), 0o644); err != nil {
		f.Fatal(err)
	}
	want := listTree(f, outside)
	f.Fuzz(func(t *testing.T, data []byte) {
		l, err := s.Apply(context.Background(), "", bytes.NewReader(data))
		if diff := cmp.Diff(want, listTree(t, outside)); diff != "" {
			t.Fatalf("Apply changed what is outside (-want +got):\n%s", diff)
		}
		for dir, n := range map[string]int{filepath.Dir(s.Root()): 3, filepath.Join(s.Root(), "overlay/staging"): 0} {
			if entries, _ := os.ReadDir(dir); len(entries) > n {
				t.Fatalf("Apply left %v in %s", entries, dir)
			}
		}
		if _, err := os.Lstat("/dev/shm/escaped"); err == nil {
			t.Fatal("Apply made /dev/shm/escaped")
		}
		if err != nil {
			return
		}
		rc, err := s.Diff(context.Background(), l.ID)
		if err != nil {
			t.Fatal(err)
		}
		defer rc.Close()
		// Files that went through strange links may not be found again,
		// but never is anything else given for them.
		if got, err := digest.FromReader(rc); err == nil && got != l.DiffID {
			t.Fatalf("Diff = %s, want %s", got, l.DiffID)
		}
	})
}

// TestDecompressMixesReadAndCopy: a reader may be looked into before the rest is
// copied.
func TestDecompressMixesReadAndCopy(t *testing.T) {
	var buf bytes.Buffer
	w := gzip.NewWriter(&buf)
	w.Write(bytes.Repeat([]byte("0123456789"), 100))
	w.Close()
	r, err := Decompress(&buf)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if _, err := io.ReadFull(r, make([]byte, 10)); err != nil {
		t.Fatal(err)
	}
	if n, err := io.Copy(io.Discard, r); n != 990 || err != nil {
		t.Errorf("copied %d bytes, %v; want 990", n, err)
	}
}
