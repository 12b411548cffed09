package unpack

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// options are those of whoever runs the tests: an ordinary user gives no files away.
func options() Options {
	return Options{Opaque: "user.overlay.opaque", IgnoreChown: os.Geteuid() != 0}
}

func openFiles(t *testing.T) int {
	t.Helper()
	files, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(files)
}

// TestManyDirectories: more directories than are kept open are come back to, and
// have the times that the tar says in the end.
func TestManyDirectories(t *testing.T) {
	dir := t.TempDir()
	root, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	before := openFiles(t)
	tree := New(root, options())
	add := func(h tar.Header, content string) {
		t.Helper()
		h.Uid, h.Gid, h.Size = os.Geteuid(), os.Getegid(), int64(len(content))
		if err := tree.Add(&h, strings.NewReader(content)); err != nil {
			t.Fatal(err)
		}
	}
	const n = 3 * maxOpen
	name := func(i int) string { return fmt.Sprintf("top%d/sub%d", i%7, i) }
	for i := range n {
		add(tar.Header{Typeflag: tar.TypeDir, Name: name(i) + "/", Mode: 0o750, ModTime: time.Unix(1e9+int64(i), 5)}, "")
	}
	for i := range n {
		add(tar.Header{Typeflag: tar.TypeReg, Name: name(i*7%n) + "/file", Mode: 0o640, ModTime: time.Unix(1e9, 0)}, fmt.Sprint(i*7%n))
		add(tar.Header{Typeflag: tar.TypeLink, Name: name(i*11%n) + "/link", Linkname: name(i*7%n) + "/file", Mode: 0o640, ModTime: time.Unix(1e9, 0)}, "")
		if open := openFiles(t) - before; open > maxOpen+8 {
			t.Fatalf("%d directories are open", open)
		}
	}
	if err := tree.Finish(); err != nil {
		t.Fatal(err)
	}
	for i := range n {
		info, err := os.Stat(filepath.Join(dir, name(i)))
		if err != nil || !info.ModTime().Equal(time.Unix(1e9+int64(i), 5)) || info.Mode().Perm() != 0o750 {
			t.Fatalf("%s: %v, %v", name(i), info, err)
		}
		if b, err := os.ReadFile(filepath.Join(dir, name(i), "file")); err != nil || string(b) != fmt.Sprint(i) {
			t.Fatalf("%s/file has %q, %v", name(i), b, err)
		}
	}
	tree.Close()
	if after := openFiles(t); after != before {
		t.Errorf("%d files are open, %d before", after, before)
	}
}

// TestReplaced: what an entry takes the place of is gone with all that was known of
// it.
func TestReplaced(t *testing.T) {
	dir := t.TempDir()
	root, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	tree := New(root, options())
	defer tree.Close()
	for _, h := range []tar.Header{
		{Typeflag: tar.TypeReg, Name: "real/keep"},
		{Typeflag: tar.TypeReg, Name: "d/sub/old"},
		{Typeflag: tar.TypeSymlink, Name: "d", Linkname: "/real"},
		{Typeflag: tar.TypeReg, Name: "d/sub/new"}, // in real
		{Typeflag: tar.TypeDir, Name: "d/"},        // no link any more
		{Typeflag: tar.TypeReg, Name: "d/last"},
		{Typeflag: tar.TypeSymlink, Name: "up", Linkname: "../../.."},
		{Typeflag: tar.TypeReg, Name: "up/../up/inside"},
		{Typeflag: tar.TypeSymlink, Name: "dangling", Linkname: "made/by/link"},
		{Typeflag: tar.TypeReg, Name: "dangling/file"},
	} {
		h.Uid, h.Gid, h.Mode = os.Geteuid(), os.Getegid(), 0o755
		if err := tree.Add(&h, bytes.NewReader(nil)); err != nil {
			t.Fatal(err)
		}
	}
	if err := tree.Finish(); err != nil {
		t.Fatal(err)
	}
	var got []string
	filepath.Walk(dir, func(name string, info os.FileInfo, err error) error {
		if err == nil && info.Mode().IsRegular() {
			got = append(got, strings.TrimPrefix(name, dir+"/"))
		}
		return err
	})
	want := "d/last inside made/by/link/file real/keep real/sub/new"
	if strings.Join(got, " ") != want {
		t.Errorf("files are %q, want %q", got, want)
	}
}

// TestSparseTooLong: a few bytes of tar claim a file of any length.
func TestSparseTooLong(t *testing.T) {
	root, err := os.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	tree := New(root, Options{})
	defer tree.Close()
	h := &tar.Header{Typeflag: tar.TypeGNUSparse, Name: "huge", Size: maxSparse + 1}
	if err := tree.Add(h, io.LimitReader(zeroReader{}, h.Size)); err == nil {
		t.Error("a sparse file of more than a tebibyte was accepted")
	}
}

type zeroReader struct{}

func (zeroReader) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}
