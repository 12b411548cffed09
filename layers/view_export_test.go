package layers

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// exportTree makes a directory with everything that an export must keep, and
// what it must look like.
func exportTree(t *testing.T) (dir string, want map[string]string) {
	t.Helper()
	dir = t.TempDir()
	for _, d := range []string{"etc", "sticky"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, content := range map[string]string{"etc/a": "hello\n", "big": string(bytes.Repeat([]byte("0123456789"), 200_000)), "empty": ""} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, err := range []error{
		os.Chmod(filepath.Join(dir, "etc/a"), 0o750|os.ModeSetuid),
		os.Chmod(filepath.Join(dir, "sticky"), 0o777|os.ModeSticky),
		os.Link(filepath.Join(dir, "etc/a"), filepath.Join(dir, "etc/link")),
		os.Symlink("../../../outside", filepath.Join(dir, "away")),
		unix.Mkfifo(filepath.Join(dir, "pipe"), 0o600),
		unix.Setxattr(filepath.Join(dir, "etc/a"), "user.note", []byte("kept"), 0),
		os.Chtimes(filepath.Join(dir, "etc/a"), time.Time{}, time.Unix(1_000_000, 0)),
		os.Chmod(dir, 0o755),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	return dir, exported(t, dir)
}

// exported describes a tree by name: type, mode, owner, link count, content and
// attributes.
func exported(t *testing.T, dir string) map[string]string {
	t.Helper()
	v, err := OpenView(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	found := map[string]string{}
	err = v.Walk(t.Context(), ".", nil, func(info Info) error {
		e, err := v.Entry(info)
		if err != nil {
			return err
		}
		var content []byte
		if info.IsRegular() {
			if content, err = v.ReadFile(info.Path); err != nil {
				return err
			}
		}
		nlink, when := info.Nlink, info.ModTime.Unix()
		if info.IsDir() {
			nlink = 0
		}
		found[info.Path] = fmt.Sprintln(e.Mode, e.UID, e.GID, nlink, when, e.Linkname, len(content), e.Xattrs)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func TestExtract(t *testing.T) {
	from, want := exportTree(t)
	v, err := OpenView(from)
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	to := t.TempDir()
	left, err := v.Extract(t.Context(), to, ExtractOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(Extracted{}, left); diff != "" {
		t.Errorf("left out (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(want, exported(t, to)); diff != "" {
		t.Errorf("tree (-want +got):\n%s", diff)
	}
}

// What belongs to others is the process's own afterwards, when that is asked for.
func TestExtractOwn(t *testing.T) {
	if os.Geteuid() != 0 || SingleID() {
		t.Skip("needs other owners")
	}
	from := t.TempDir()
	if err := os.WriteFile(filepath.Join(from, "f"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Lchown(filepath.Join(from, "f"), 33, 34); err != nil {
		t.Fatal(err)
	}
	v, err := OpenView(from)
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	for own, want := range map[bool][2]uint32{false: {33, 34}, true: {0, 0}} {
		to := t.TempDir()
		if _, err := v.Extract(t.Context(), to, ExtractOptions{Own: own}); err != nil {
			t.Fatal(err)
		}
		var st unix.Stat_t
		if err := unix.Lstat(filepath.Join(to, "f"), &st); err != nil {
			t.Fatal(err)
		}
		if got := [2]uint32{st.Uid, st.Gid}; got != want {
			t.Errorf("Own %t: owner %v, want %v", own, got, want)
		}
	}
}

// The tar of a tree, unpacked, is the tree.
func TestWriteTar(t *testing.T) {
	from, _ := exportTree(t)
	v, err := OpenView(from)
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	var first, second bytes.Buffer
	var reported int64
	if err := v.WriteTar(t.Context(), &first, WriteOptions{OnProgress: func(n int64) { reported += n }}); err != nil {
		t.Fatal(err)
	}
	if err := v.WriteTar(t.Context(), &second, WriteOptions{}); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(first.Bytes(), second.Bytes()) {
		t.Error("two tars of one tree differ")
	}
	if reported != 2_000_006 {
		t.Errorf("reported %d bytes, want 2000006", reported)
	}
	var got []string
	for r := tar.NewReader(&first); ; {
		h, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		n, err := io.Copy(io.Discard, r)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, fmt.Sprintln(h.Name, string(h.Typeflag), h.Mode, h.Linkname, n, h.PAXRecords[xattrPrefix+"user.note"]))
	}
	want := []string{
		fmt.Sprintln("away", "2", int64(0o777), "../../../outside", 0, ""),
		fmt.Sprintln("big", "0", int64(0o644), "", 2_000_000, ""),
		fmt.Sprintln("empty", "0", int64(0o644), "", 0, ""),
		fmt.Sprintln("etc/", "5", int64(0o755), "", 0, ""),
		fmt.Sprintln("etc/a", "0", int64(0o4750), "", 6, "kept"),
		fmt.Sprintln("etc/link", "1", int64(0o4750), "etc/a", 0, ""),
		fmt.Sprintln("pipe", "6", int64(0o600), "", 0, ""),
		fmt.Sprintln("sticky/", "5", int64(0o1777), "", 0, ""),
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("tar (-want +got):\n%s", diff)
	}
}

// TestViewTarLive writes a tree that is changed all the time as a tar: the archive is
// whole, and every file in it has the size that its header says.
func TestViewTarLive(t *testing.T) {
	dir := t.TempDir()
	f := files{t, dir}
	f.write("stays", "stays")
	stop := make(chan struct{})
	var busy sync.WaitGroup
	busy.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			os.MkdirAll(dir+"/d/e", 0o755)
			os.WriteFile(dir+"/d/e/comes", []byte(strings.Repeat("x", i%50_000)), 0o644)
			os.WriteFile(dir+"/grows", []byte(strings.Repeat("y", i%100_000)), 0o644)
			os.RemoveAll(dir + "/d")
		}
	})
	defer busy.Wait()
	defer close(stop)
	for range 200 {
		v, err := OpenView(dir)
		if err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		if err := v.Live().WriteTar(t.Context(), &out, WriteOptions{}); err != nil {
			t.Fatal(err)
		}
		v.Close()
		names := map[string]bool{}
		for r := tar.NewReader(&out); ; {
			h, err := r.Next()
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			names[h.Name] = true
		}
		if !names["stays"] {
			t.Fatalf("the tar has %v, without a file that stays", names)
		}
	}
}
