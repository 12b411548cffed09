package layers

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// TestViewWhileLinksAreSwapped reads below a directory that somebody exchanges
// with a link to a secret outside, over and over.
func TestViewWhileLinksAreSwapped(t *testing.T) {
	base := testDir(t)
	outside, root := filepath.Join(base, "outside"), filepath.Join(base, "root")
	for _, d := range []string{outside, filepath.Join(root, "d/sub"), filepath.Join(outside, "sub")} {
		must(t, os.MkdirAll(d, 0o755))
	}
	must(t, os.WriteFile(filepath.Join(outside, "sub/f"), []byte("secret"), 0o644))
	must(t, os.WriteFile(filepath.Join(root, "d/sub/f"), []byte("public"), 0o644))
	must(t, os.Symlink(outside, filepath.Join(root, "l")))
	for _, refuse := range []bool{false, true} {
		defer openat2Refused.Store(openat2Refused.Swap(refuse))
		v, err := OpenView(root)
		must(t, err)
		defer v.Close()
		stop := make(chan struct{})
		var swapping sync.WaitGroup
		swapping.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					unix.Renameat2(unix.AT_FDCWD, filepath.Join(root, "d"), unix.AT_FDCWD, filepath.Join(root, "l"), unix.RENAME_EXCHANGE)
				}
			}
		})
		for range 1000 {
			readAllWays(t, v)
		}
		close(stop)
		swapping.Wait()
	}
}

func readAllWays(t *testing.T, v *View) {
	t.Helper()
	if b, err := v.ReadFile("d/sub/f"); err == nil && string(b) != "public" {
		t.Fatalf("ReadFile = %q", b)
	}
	if info, err := v.Lstat("d/sub/f"); err == nil && info.Size != int64(len("public")) {
		t.Fatalf("Lstat = %+v", info)
	}
	err := v.Walk(context.Background(), ".", nil, func(i Info) error {
		if strings.HasSuffix(i.Path, "/f") {
			e, err := v.Entry(i)
			if err != nil {
				return err
			}
			r, err := e.Open()
			if err != nil {
				return err
			}
			defer r.Close()
			var b [6]byte
			if n, _ := r.Read(b[:]); string(b[:n]) != "public" {
				t.Errorf("Walk and Open = %q", b[:n])
			}
		}
		return nil
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.ENOTDIR) && !errors.Is(err, unix.ELOOP) && !errors.Is(err, unix.EXDEV) {
		t.Fatalf("Walk: %v", err)
	}
}

// TestViewErrors checks that what cannot be read is a clear error.
func TestViewErrors(t *testing.T) {
	root := testDir(t)
	must(t, os.Symlink("b", filepath.Join(root, "a")))
	must(t, os.Symlink("a", filepath.Join(root, "b")))
	must(t, os.Mkdir(filepath.Join(root, "d"), 0o755))
	must(t, os.WriteFile(filepath.Join(root, "f"), nil, 0o644))
	must(t, unix.Mkfifo(filepath.Join(root, "fifo"), 0o644))
	v, err := OpenView(root)
	must(t, err)
	defer v.Close()
	for _, c := range []struct {
		call func() error
		want error
		text string
	}{
		{func() error { _, err := v.Stat("a/x"); return err }, unix.ELOOP, "stat a/x: too many levels of symbolic links"},
		{func() error { _, err := v.Resolve("/a"); return err }, unix.ELOOP, "resolve /a: too many levels of symbolic links"},
		{func() error { _, err := v.Lstat("none"); return err }, fs.ErrNotExist, "lstat none: no such file or directory"},
		{func() error { _, err := v.Open("none/x"); return err }, fs.ErrNotExist, "open none/x: no such file or directory"},
		{func() error { _, err := v.Open("f/x"); return err }, unix.ENOTDIR, "open f/x: not a directory"},
		{func() error { _, err := v.Open("d"); return err }, nil, "open d: not a regular file"},
		{func() error { _, err := v.ReadFile("fifo"); return err }, nil, "open fifo: not a regular file"},
		{func() error { _, err := v.ReadDir("f"); return err }, unix.ENOTDIR, "readdir f: not a directory"},
		{func() error { _, err := v.Readlink("f"); return err }, unix.EINVAL, "readlink f: invalid argument"},
	} {
		err := c.call()
		if err == nil || c.want != nil && !errors.Is(err, c.want) || err.Error() != c.text {
			t.Errorf("error = %v, want %s", err, c.text)
		}
	}
	if got, err := v.Resolve("d/../../../new/./x"); err != nil || got != "new/x" {
		t.Errorf("Resolve = %q, %v, want new/x", got, err)
	}
	if infos, err := func() ([]Info, error) { v, _ := OpenView(); return v.ReadDir("/") }(); err != nil || len(infos) != 0 {
		t.Errorf("empty view: %v, %v", infos, err)
	}
}

// TestViewWalkStops checks skip, SkipDir, SkipAll, errors and cancelling.
func TestViewWalkStops(t *testing.T) {
	root := benchTree(t, 2000, 1)
	v, err := OpenView(root)
	must(t, err)
	defer v.Close()
	boom := errors.New("boom")
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	count := func(ctx context.Context, skip func(string, bool) bool, at string, err error) (int, error) {
		n := 0
		return n, v.Walk(ctx, ".", skip, func(i Info) error {
			n++
			if i.Path == at {
				if err == context.Canceled {
					cancel(boom)
					return nil
				}
				return err
			}
			return nil
		})
	}
	for _, c := range []struct {
		name string
		skip func(string, bool) bool
		at   string
		give error
		want error
	}{
		{name: "all"},
		{name: "skip", skip: func(p string, dir bool) bool { return dir && strings.HasPrefix(p, "d00") }},
		{name: "skipdir", at: "d001", give: fs.SkipDir},
		{name: "skipall", at: "d001", give: fs.SkipAll},
		{name: "error", at: "d002/e1", give: boom, want: boom},
		{name: "cancel", at: "d002", give: context.Canceled, want: boom},
	} {
		if _, err := count(ctx, c.skip, c.at, c.give); !errors.Is(err, c.want) {
			t.Errorf("%s: Walk = %v, want %v", c.name, err, c.want)
		}
	}
}

// TestViewLeaksNothing counts open files.
func TestViewLeaksNothing(t *testing.T) {
	open := func() int {
		files, err := os.ReadDir("/proc/self/fd")
		must(t, err)
		return len(files)
	}
	root := benchTree(t, 500, 1)
	must(t, os.Symlink("../none/../d000", filepath.Join(root, "l")))
	must(t, os.Symlink("l2", filepath.Join(root, "l2")))
	before := open()
	for _, dirs := range [][]string{{root}, {testDir(t), root}} {
		v, err := OpenView(dirs...)
		must(t, err)
		for _, name := range []string{"l/e0", "l2", "l2/x", "d000/none", "d000/../d001/e0", "."} {
			v.Lstat(name)
			v.Stat(name)
			v.Resolve(name)
			v.ReadDir(name)
			v.ReadFile(name)
			v.Xattrs(name)
		}
		_, err = v.Entries(context.Background(), walkAll(t, v))
		must(t, err)
		must(t, v.Close())
	}
	if after := open(); after != before {
		t.Errorf("%d files open, %d before", after, before)
	}
}

// FuzzResolve makes a tree of directories, files and links from lines like
// "d a/b", "f a/c" and "l a/d ../x", and asks for the last line. View must agree
// with the kernel's RESOLVE_IN_ROOT, and so never leave the root.
func FuzzResolve(f *testing.F) {
	for _, seed := range []string{
		"l a ../../..\na/etc/passwd", "d a\nl a/b /a\nf a/c\na/b/b/b/c", "l a b\nl b a\na/x",
		"d a/b\nl l a/b\nf a/f\nl/../f", "l a /\nl b a/a/a\nf f\nb/f", "d x\nl x/y ..\nl z x/y/x/y/..\nz/x",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, script string) {
		if len(script) > 2000 || strings.ContainsRune(script, 0) {
			return
		}
		root := filepath.Join(testDir(t), "root")
		must(t, os.Mkdir(root, 0o755))
		lines := strings.Split(script, "\n")
		buildTree(root, lines[:len(lines)-1])
		v, err := OpenView(root)
		must(t, err)
		defer v.Close()
		merged, err := OpenView(testDir(t), root)
		must(t, err)
		defer merged.Close()
		name := lines[len(lines)-1]
		want, wantErr := kernelResolve(t, root, name)
		for _, v := range []*View{v, merged} {
			info, err := v.Stat(name)
			if (err == nil) != (wantErr == nil) || err == nil && info.Path != want {
				t.Errorf("Stat(%q) = %q, %v; the kernel: %q, %v", name, info.Path, err, want, wantErr)
			}
			got, err := v.Resolve(name)
			if err == nil && got != "." && strings.Join(elements(got), "/") != got || slices.Contains(elements(got), "..") {
				t.Errorf("Resolve(%q) = %q, not a clean path inside", name, got)
			}
			if wantErr == nil && got != want {
				t.Errorf("Resolve(%q) = %q, %v; the kernel: %q", name, got, err, want)
			}
		}
	})
}

// buildTree makes what lines say, without ever following a link.
func buildTree(root string, lines []string) {
	for _, line := range lines {
		fields := strings.SplitN(line, " ", 3)
		if len(fields) < 2 {
			continue
		}
		names := elements(fields[1])
		dir := root
		ok := len(names) > 0
		for i, n := range names {
			if n == ".." || len(n) > 200 {
				ok = false
				break
			}
			if i == len(names)-1 {
				break
			}
			dir = filepath.Join(dir, n)
			os.Mkdir(dir, 0o755)
			if fi, err := os.Lstat(dir); err != nil || !fi.IsDir() {
				ok = false
				break
			}
		}
		if !ok {
			continue
		}
		p := filepath.Join(dir, names[len(names)-1])
		switch {
		case fields[0] == "d":
			os.Mkdir(p, 0o755)
		case fields[0] == "f":
			if f, err := os.OpenFile(p, os.O_CREATE|os.O_EXCL, 0o644); err == nil {
				f.Close()
			}
		case fields[0] == "l" && len(fields) == 3:
			os.Symlink(fields[2], p)
		}
	}
}

// kernelResolve returns where the kernel thinks name leads.
func kernelResolve(t *testing.T, root, name string) (string, error) {
	t.Helper()
	dir, err := unix.Open(root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	must(t, err)
	defer unix.Close(dir)
	clean := strings.Join(elements(name), "/") // View has no opinion about "." and "/" at the end
	if clean == "" {
		clean = "."
	}
	for {
		fd, err := unix.Openat2(dir, clean, &unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT})
		if err == unix.EAGAIN {
			continue
		}
		if err != nil {
			return "", err
		}
		defer unix.Close(fd)
		real, err := os.Readlink(fmt.Sprint("/proc/self/fd/", fd))
		must(t, err)
		rel, err := filepath.Rel(root, real)
		return rel, err
	}
}
