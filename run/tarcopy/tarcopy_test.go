package tarcopy

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// root makes a root with files: "a/b: content", "dir/", "link -> target".
func root(t testing.TB, files ...string) *os.File {
	t.Helper()
	dir := t.TempDir()
	for _, f := range files {
		name, content, isFile := strings.Cut(f, ": ")
		link, target, isLink := strings.Cut(f, " -> ")
		path := filepath.Join(dir, name)
		var err error
		switch {
		case isLink:
			path = filepath.Join(dir, link)
			err = errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.Symlink(target, path))
		case isFile:
			err = errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(content), 0o644))
		default:
			err = os.MkdirAll(path, 0o755)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	f, err := os.OpenFile(dir, unix.O_PATH, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// list describes a root as root's arguments do.
func list(t testing.TB, root *os.File) string {
	t.Helper()
	var lines []string
	err := filepath.WalkDir(root.Name(), func(path string, e fs.DirEntry, err error) error {
		name, _ := filepath.Rel(root.Name(), path)
		switch {
		case err != nil || name == ".":
			return err
		case e.IsDir():
			lines = append(lines, name+"/")
		case e.Type() == fs.ModeSymlink:
			target, _ := os.Readlink(path)
			lines = append(lines, name+" -> "+target)
		case e.Type().IsRegular():
			b, err := os.ReadFile(path)
			lines = append(lines, fmt.Sprintf("%s: %s", name, b))
			return err
		default:
			lines = append(lines, name+" "+e.Type().String())
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(lines, "\n")
}

// TestCopy: docker's rules of what goes where.
func TestCopy(t *testing.T) {
	for _, c := range []struct {
		name     string
		from     string // files, separated by commas
		path     string
		to       string
		dest     string
		want     string // in place of to; "" means unchanged
		fail     error
		followed bool
	}{
		{name: "file to new file", from: "f: 1", path: "f", dest: "g", want: "g: 1"},
		{name: "file onto file", from: "f: 1", path: "/f", to: "g: old", dest: "g", want: "g: 1"},
		{name: "file into directory", from: "d/f: 1", path: "d/f", to: "e/", dest: "e", want: "e/,e/f: 1"},
		{name: "file into directory with slash", from: "f: 1", path: "f", to: "e/", dest: "/e/", want: "e/,e/f: 1"},
		{name: "file into root", from: "f: 1", path: "f", dest: "/", want: "f: 1"},
		{name: "file into missing directory", from: "f: 1", path: "f", dest: "e/", fail: ErrNoDirectory},
		{name: "file below missing directory", from: "f: 1", path: "f", dest: "e/g", fail: fs.ErrNotExist},
		{name: "file to file with slash", from: "f: 1", path: "f", to: "g: old", dest: "g/", fail: ErrNotDirectory},
		{name: "file with slash", from: "f: 1", path: "f/", dest: "g", fail: syscall.ENOTDIR},
		{name: "missing source", path: "f", dest: "g", fail: fs.ErrNotExist},
		{name: "directory to new name", from: "d/f: 1,d/e/", path: "d", dest: "n", want: "n/,n/e/,n/f: 1"},
		{name: "directory to new name with slash", from: "d/f: 1", path: "d/", dest: "n/", want: "n/,n/f: 1"},
		{name: "directory into directory", from: "d/f: 1", path: "d", to: "n/", dest: "n", want: "n/,n/d/,n/d/f: 1"},
		{name: "content into directory", from: "d/f: 1", path: "d/.", to: "n/old: 2", dest: "n", want: "n/,n/f: 1,n/old: 2"},
		{name: "content to new name", from: "d/f: 1", path: "d/.", dest: "n", want: "n/,n/f: 1"},
		{name: "root", from: "d/f: 1", path: "/", to: "n/", dest: "n", want: "n/,n/d/,n/d/f: 1"},
		{name: "directory onto file", from: "d/f: 1", path: "d", to: "n: old", dest: "n", fail: ErrCannotCopyDir},
		{name: "directories merge", from: "d/e/f: 1", path: "d/.", to: "e/g: 2", dest: "/", want: "e/,e/f: 1,e/g: 2"},
		{name: "file in the place of a directory", from: "d/e: 1", path: "d/.", to: "e/g: 2", dest: "/", fail: errAny},
		{name: "directory in the place of a file", from: "d/e/f: 1", path: "d/.", to: "e: 2", dest: "/", fail: errAny},
		{name: "link", from: "f: 1,l -> f", path: "l", dest: "m", want: "m -> f"},
		{name: "link followed", from: "f: 1,l -> /f", path: "l", dest: "m", followed: true, want: "m: 1"},
		{name: "link to directory", from: "d/f: 1,l -> d", path: "l", to: "n/", dest: "n", want: "n/,n/l -> d"},
		{name: "link to directory with slash", from: "d/f: 1,l -> d", path: "l/", to: "n/", dest: "n", want: "n/,n/l/,n/l/f: 1"},
		{name: "links inside stay links", from: "d/l -> /etc/passwd,d/m -> gone", path: "d", dest: "n", want: "n/,n/l -> /etc/passwd,n/m -> gone"},
		{name: "onto a link to a file", from: "f: 1", path: "f", to: "d/g: old,l -> /d/g", dest: "l", want: "d/,d/g: 1,l -> /d/g"},
		{name: "onto a link to nothing", from: "f: 1", path: "f", to: "d/,l -> d/new", dest: "l", want: "d/,d/new: 1,l -> d/new"},
		{name: "into a link to a directory", from: "f: 1", path: "f", to: "d/,l -> /d", dest: "l", want: "d/,d/f: 1,l -> /d"},
		{name: "onto a link in a circle", from: "f: 1", path: "f", to: "l -> m,m -> l", dest: "l", fail: syscall.ELOOP},
		{name: "source outside", from: "l -> ../../../../etc", path: "l/passwd", dest: "x", fail: fs.ErrNotExist},
		{name: "destination outside", from: "f: 1", path: "f", to: "tmp/,l -> ../../../../tmp", dest: "l/g", want: "l -> ../../../../tmp,tmp/,tmp/g: 1"},
		{name: "link in the way", from: "d/l/f: 1", path: "d/.", to: "e/,l -> e", dest: "/", fail: errAny},
	} {
		t.Run(c.name, func(t *testing.T) {
			split := func(s string) []string { return strings.FieldsFunc(s, func(r rune) bool { return r == ',' }) }
			from, to := root(t, split(c.from)...), root(t, split(c.to)...)
			err := Copy(t.Context(), Place{Root: from, Path: c.path}, Place{Root: to, Path: c.dest}, Options{FollowLink: c.followed})
			if c.fail == errAny && err != nil {
				err = errAny
			}
			if !errors.Is(err, c.fail) || (err != nil) != (c.fail != nil) {
				t.Fatalf("Copy(%q, %q) = %v, want %v", c.path, c.dest, err, c.fail)
			}
			if c.fail != nil {
				return
			}
			if diff := cmp.Diff(strings.ReplaceAll(c.want, ",", "\n"), list(t, to)); diff != "" {
				t.Errorf("Copy(%q, %q) (-want +got):\n%s", c.path, c.dest, diff)
			}
		})
	}
}

var errAny = errors.New("any error")

// TestCopyKeeps: modes, times, hard links, FIFOs; owners with Archive only.
func TestCopyKeeps(t *testing.T) {
	from := root(t, "d/f: 1", "d/e/")
	path := func(name string) string { return filepath.Join(from.Name(), name) }
	then := time.Date(2001, 2, 3, 4, 5, 6, 700, time.UTC)
	for _, err := range []error{
		unix.Chmod(path("d/f"), 0o4751), os.Link(path("d/f"), path("d/g")), unix.Mkfifo(path("d/p"), 0o600),
		unix.Chmod(path("d/e"), 0o1777), os.Chtimes(path("d/f"), then, then), os.Chtimes(path("d/e"), then, then),
		os.Chtimes(path("d"), then, then),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	owned := os.Chown(path("d/e"), 12, 34) == nil
	for _, archive := range []bool{false, true} {
		to := root(t)
		if err := Copy(t.Context(), Place{Root: from, Path: "d"}, Place{Root: to, Path: "n"}, Options{Archive: archive}); err != nil {
			t.Fatal(err)
		}
		for name, mode := range map[string]uint32{"n/f": 0o104751, "n/g": 0o104751, "n/e": 0o041777, "n/p": 0o010600, "n": 0o040755} {
			var st unix.Stat_t
			if err := unix.Lstat(filepath.Join(to.Name(), name), &st); err != nil || st.Mode != mode {
				t.Errorf("%s: mode %o, %v, want %o", name, st.Mode, err, mode)
			}
			if got := time.Unix(st.Mtim.Unix()); name != "n/p" && !got.Equal(then) {
				t.Errorf("%s: time %v, want %v", name, got, then)
			}
			if name[1:] == "/f" && st.Nlink != 2 {
				t.Errorf("%s has %d names, want 2", name, st.Nlink)
			}
			want := [2]uint32{uint32(os.Geteuid()), uint32(os.Getegid())}
			if archive && owned && name == "n/e" {
				want = [2]uint32{12, 34}
			}
			if got := [2]uint32{st.Uid, st.Gid}; got != want {
				t.Errorf("%s with archive %v: owner %v, want %v", name, archive, got, want)
			}
		}
	}
}

// entries makes a tar.
func entries(t testing.TB, headers ...tar.Header) *bytes.Buffer {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range headers {
		if h.Typeflag == tar.TypeReg {
			h.Size = 1
		}
		if h.Mode = 0o644; h.Typeflag == tar.TypeDir {
			h.Mode = 0o755
		}
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if h.Size > 0 {
			if _, err := w.Write([]byte("x")); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return &b
}

// TestReadTar: hostile tars stay below the directory.
func TestReadTar(t *testing.T) {
	for _, c := range []struct {
		name    string
		headers []tar.Header
		want    string // below "in"
		fails   bool
	}{
		{name: "usual", headers: []tar.Header{{Name: "./", Typeflag: tar.TypeDir}, {Name: "./a/", Typeflag: tar.TypeDir}, {Name: "./a/b", Typeflag: tar.TypeReg}}, want: "in/a/,in/a/b: x"},
		{name: "without directories", headers: []tar.Header{{Name: "a/b/c", Typeflag: tar.TypeReg}}, want: "in/a/,in/a/b/,in/a/b/c: x"},
		{name: "up", headers: []tar.Header{{Name: "../../a", Typeflag: tar.TypeReg}}, want: "in/a: x"},
		{name: "absolute", headers: []tar.Header{{Name: "/a", Typeflag: tar.TypeReg}}, want: "in/a: x"},
		{name: "through a link", headers: []tar.Header{{Name: "l", Linkname: "..", Typeflag: tar.TypeSymlink}, {Name: "l/a", Typeflag: tar.TypeReg}}, fails: true},
		{name: "file onto its link", headers: []tar.Header{{Name: "l", Linkname: "../f", Typeflag: tar.TypeSymlink}, {Name: "l", Typeflag: tar.TypeReg}}, want: "in/l: x"},
		{name: "hard link up", headers: []tar.Header{{Name: "h", Linkname: "../../f", Typeflag: tar.TypeLink}}, fails: true},
		{name: "hard link through a link", headers: []tar.Header{{Name: "l", Linkname: "..", Typeflag: tar.TypeSymlink}, {Name: "h", Linkname: "l/f", Typeflag: tar.TypeLink}}, fails: true},
		{name: "strange type", headers: []tar.Header{{Name: "a", Typeflag: 'Z'}}, fails: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			to := root(t, "f: outside", "in/")
			err := ReadTar(t.Context(), entries(t, c.headers...), Place{Root: to, Path: "in"}, Options{})
			if (err != nil) != c.fails {
				t.Fatalf("ReadTar = %v", err)
			}
			want := strings.ReplaceAll("f: outside,in/,"+c.want, ",", "\n")
			if got := list(t, to); !c.fails && got != want {
				t.Errorf("ReadTar (-want +got):\n%s", cmp.Diff(want, got))
			} else if !strings.HasPrefix(got, "f: outside\nin/") {
				t.Errorf("the file outside has changed: %s", got)
			}
		})
	}
	to := root(t, "f: file")
	if err := ReadTar(t.Context(), entries(t), Place{Root: to, Path: "f"}, Options{}); !errors.Is(err, ErrNotDirectory) {
		t.Errorf("ReadTar into a file = %v", err)
	}
}

// TestWriteTar: names begin with the source's.
func TestWriteTar(t *testing.T) {
	from := root(t, "d/e/f: 1")
	for path, want := range map[string]string{"d/e": "e/ e/f", "d/e/f": "f", "d/.": "./ e/ e/f", "/": "./ d/ d/e/ d/e/f"} {
		var b bytes.Buffer
		progress := int64(0)
		if err := WriteTar(t.Context(), Place{Root: from, Path: path}, &b, Options{OnProgress: func(n int64) { progress += n }}); err != nil {
			t.Fatal(err)
		}
		var names []string
		for r := tar.NewReader(&b); ; {
			h, err := r.Next()
			if err != nil {
				break
			}
			names = append(names, h.Name)
		}
		if got := strings.Join(names, " "); got != want || progress != 1 {
			t.Errorf("WriteTar(%q) = %q, %d bytes, want %q", path, got, progress, want)
		}
	}
}

// Holes stay holes, and a file may end with one.
func TestCopySparse(t *testing.T) {
	from, to := root(t, "f: begin"), root(t)
	f, err := os.OpenFile(from.Name()+"/f", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt([]byte("middle"), 5<<20); err != nil {
		t.Fatal(err)
	}
	if err := f.Truncate(9 << 20); err != nil {
		t.Fatal(err)
	}
	if err := Copy(t.Context(), Place{Root: from, Path: "f"}, Place{Root: to, Path: "f"}, Options{}); err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile(from.Name() + "/f")
	if err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(to.Name() + "/f"); err != nil || !bytes.Equal(got, want) {
		t.Errorf("the copy has %d other bytes, %v", len(got), err)
	}
	var st unix.Stat_t
	if err := unix.Stat(to.Name()+"/f", &st); err != nil || st.Blocks*512 > 2<<20 {
		t.Errorf("the copy takes %d bytes, %v", st.Blocks*512, err)
	}
}

// A file on which something is mounted can't be replaced; it is written into.
func TestCopyOntoMount(t *testing.T) {
	from, to := root(t, "f: new"), root(t, "f: old", "mounted: old")
	err := unix.Mount(to.Name()+"/mounted", to.Name()+"/f", "", unix.MS_BIND, "")
	if errors.Is(err, unix.EPERM) {
		t.Skip("needs the right to mount")
	}
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(to.Name()+"/f", unix.MNT_DETACH)
	if err := Copy(t.Context(), Place{Root: from, Path: "f"}, Place{Root: to, Path: "f"}, Options{}); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(to.Name() + "/mounted"); string(b) != "new" {
		t.Errorf("the mounted file is %q, %v", b, err)
	}
	if err := unix.Mount("", to.Name()+"/f", "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	if err := Copy(t.Context(), Place{Root: from, Path: "f"}, Place{Root: to, Path: "f"}, Options{}); !errors.Is(err, unix.EROFS) {
		t.Errorf("Copy onto a file mounted read-only = %v", err)
	}
}

// FuzzReadTar: whatever a tar holds, nothing outside of the directory changes.
func FuzzReadTar(f *testing.F) {
	for _, h := range [][]tar.Header{
		{{Name: "a/b", Typeflag: tar.TypeReg}, {Name: "h", Linkname: "a/b", Typeflag: tar.TypeLink}},
		{{Name: "l", Linkname: "..", Typeflag: tar.TypeSymlink}, {Name: "l/f", Typeflag: tar.TypeReg}},
		{{Name: "p", Typeflag: tar.TypeFifo}, {Name: "../f", Typeflag: tar.TypeReg}},
	} {
		f.Add(entries(f, h...).Bytes())
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		to := root(t, "f: outside", "in/")
		// Few bytes can stand for a file without end.
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		_ = ReadTar(ctx, bytes.NewReader(b), Place{Root: to, Path: "in"}, Options{})
		names, err := os.ReadDir(to.Name())
		content, readErr := os.ReadFile(to.Name() + "/f")
		if err != nil || readErr != nil || len(names) != 2 || string(content) != "outside" {
			t.Errorf("outside: %v, %q, %v", names, content, errors.Join(err, readErr))
		}
	})
}

// TestCopyOwners: owners are as the tar has them in between, new files root's there.
func TestCopyOwners(t *testing.T) {
	from := root(t, "d/", "d/f: 1")
	to := root(t, "d/")
	path := filepath.Join(to.Name(), "d")
	if os.Chown(path, 12, 34) != nil {
		t.Skip("only root can change owners")
	}
	var b bytes.Buffer
	inside := func(uid, gid int) (int, int) { return uid + 5, gid + 6 }
	outside := func(uid, gid int) (int, int) { return uid + 100, gid + 200 }
	if err := WriteTar(t.Context(), Place{Root: from, Path: "d", Inside: inside}, &b, Options{}); err != nil {
		t.Fatal(err)
	}
	in := tar.NewReader(bytes.NewReader(b.Bytes()))
	if h, err := in.Next(); err != nil || h.Uid != 5 || h.Gid != 6 {
		t.Errorf("the tar begins with %+v, %v, want the owner 5:6", h, err)
	}
	for archive, want := range map[bool][2]uint32{false: {100, 200}, true: {105, 206}} {
		if err := ReadTar(t.Context(), bytes.NewReader(b.Bytes()), Place{Root: to, Path: "/", Outside: outside}, Options{Archive: archive}); err != nil {
			t.Fatal(err)
		}
		dir := [2]uint32{12, 34} // it was there before
		if archive {
			dir = want
		}
		for name, want := range map[string][2]uint32{"d": dir, "d/f": want} {
			var st unix.Stat_t
			if err := unix.Lstat(filepath.Join(to.Name(), name), &st); err != nil {
				t.Fatal(err)
			}
			if got := [2]uint32{st.Uid, st.Gid}; got != want {
				t.Errorf("%s with archive %v: owner %v, want %v", name, archive, got, want)
			}
		}
		if err := os.Chown(path, 12, 34); err != nil {
			t.Fatal(err)
		}
	}
}
