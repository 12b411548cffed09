package layers

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// testDir is t.TempDir on a tmpfs that holds trusted xattrs and devices.
func testDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "cooper-layers-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func needRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: makes devices and mounts")
	}
}

// overlay is a stack of layer directories made by a real overlayfs.
type overlay struct {
	t       testing.TB
	base    string
	layers  []string // top first
	option  string   // more mount options
	mounted bool
}

func (o *overlay) mount(upper string) string {
	o.t.Helper()
	m, w := filepath.Join(o.base, "merged"), filepath.Join(o.base, "work")
	os.RemoveAll(w)
	must(o.t, os.MkdirAll(m, 0o755))
	must(o.t, os.MkdirAll(w, 0o755))
	lower := strings.Join(o.layers, ":")
	data := "lowerdir=" + lower
	if upper != "" {
		data += ",upperdir=" + upper + ",workdir=" + w
	}
	must(o.t, unix.Mount("overlay", m, "overlay", 0, data+o.option))
	o.mounted = true
	return m
}

func (o *overlay) unmount() {
	o.t.Helper()
	must(o.t, unix.Unmount(filepath.Join(o.base, "merged"), 0))
	o.mounted = false
}

// newOverlay has nothing mounted when the test ends, even one that failed.
func newOverlay(t testing.TB, option string) *overlay {
	o := &overlay{t: t, base: testDir(t), option: option}
	t.Cleanup(func() {
		if o.mounted {
			o.unmount()
		}
	})
	return o
}

// push makes a new top layer by letting change work on a mount.
func (o *overlay) push(change func(root string)) {
	o.t.Helper()
	upper := filepath.Join(o.base, fmt.Sprint("l", len(o.layers)))
	must(o.t, os.Mkdir(upper, 0o755))
	if len(o.layers) == 0 {
		change(upper)
	} else {
		m := o.mount(upper)
		change(m)
		o.unmount()
	}
	o.layers = slices.Insert(o.layers, 0, upper)
}

// seen is what a tree comparison looks at.
type seen struct {
	Path, Link, Content string
	Mode, UID, GID      uint32
	Size, ModTime       int64
	Rdev                uint64
	Xattrs              map[string]string
}

func newSeen(i Info, content string, x map[string]string) seen {
	s := seen{Path: i.Path, Link: i.Linkname, Content: content, Mode: i.Mode, UID: i.UID, GID: i.GID, ModTime: i.ModTime.UnixNano(), Rdev: i.Rdev, Xattrs: x}
	if !i.IsDir() {
		s.Size = i.Size
	}
	return s
}

// treeOf reads a directory with the standard library, as the reference.
func treeOf(t testing.TB, root string) []seen {
	t.Helper()
	var all []seen
	top, err := os.Open(root)
	must(t, err)
	defer top.Close()
	must(t, filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(root, p)
		var st unix.Stat_t
		if err := unix.Lstat(p, &st); err != nil {
			return err
		}
		var i Info
		i.set(rel, 0, &st)
		var content string
		switch {
		case i.IsSymlink():
			i.Linkname, err = os.Readlink(p)
		case i.IsRegular():
			var b []byte
			b, err = os.ReadFile(p)
			content = string(b)
		}
		if err != nil {
			return err
		}
		x, err := xattrsAt(int(top.Fd()), rel)
		all = append(all, newSeen(i, content, x))
		return err
	}))
	return all
}

// treeOfView reads a view through Walk, ReadFile and Xattrs.
func treeOfView(t testing.TB, v *View) []seen {
	t.Helper()
	var all []seen
	must(t, v.Walk(context.Background(), ".", nil, func(i Info) error {
		var content string
		if i.IsRegular() {
			b, err := v.ReadFile(i.Path)
			if err != nil {
				return err
			}
			content = string(b)
		}
		x, err := v.Xattrs(i.Path)
		all = append(all, newSeen(i, content, x))
		return err
	}))
	return all
}

// scramble makes n random changes below root: few names, so that they collide.
// It never goes through a symbolic link, which might lead anywhere.
func scramble(t testing.TB, r *rand.Rand, root string, n int) {
	name := func() string {
		p := root
		for range r.Intn(4) {
			next := filepath.Join(p, string("abcd"[r.Intn(4)]))
			os.Mkdir(next, 0o700|os.FileMode(r.Intn(0o100)))
			if fi, err := os.Lstat(next); err != nil || !fi.IsDir() {
				break
			}
			p = next
		}
		return filepath.Join(p, string("abcd"[r.Intn(4)]))
	}
	for range n {
		p := name()
		switch r.Intn(12) {
		case 0, 1:
			os.Mkdir(p, 0o700|os.FileMode(r.Intn(0o100)))
		case 2, 3, 4:
			if fi, err := os.Lstat(p); err != nil || fi.Mode().IsRegular() {
				os.WriteFile(p, []byte(fmt.Sprint("content ", r.Int())), 0o600)
			}
		case 5:
			os.RemoveAll(p)
		case 6:
			os.RemoveAll(p)
			os.Mkdir(p, 0o755)
		case 7:
			os.Symlink([]string{"/a/b", "../c", "b", "/nowhere", "../../../a", "a/b/", "."}[r.Intn(7)], p)
		case 8:
			os.Rename(p, name())
		case 9:
			unix.Lsetxattr(p, "user.mark", []byte(fmt.Sprint(r.Intn(9))), 0)
			os.Lchown(p, r.Intn(99), r.Intn(99))
		case 10:
			os.Link(p, name())
		case 11:
			unix.Mknod(p, unix.S_IFIFO|0o644, 0)
		}
	}
}

// TestViewOfGeneratedTrees compares View with the kernel's own merge of stacks
// that a real overlayfs made.
func TestViewOfGeneratedTrees(t *testing.T) { compareGeneratedTrees(t, 20) }

// TestViewOnOldKernel does the same without openat2 and listxattrat.
func TestViewOnOldKernel(t *testing.T) {
	refused := openat2Refused.Swap(true)
	refusedList := listxattratRefused.Swap(true)
	defer func() {
		openat2Refused.Store(refused)
		listxattratRefused.Store(refusedList)
	}()
	compareGeneratedTrees(t, 8)
}

func compareGeneratedTrees(t *testing.T, seeds int64) {
	needRoot(t)
	if Rootless() {
		seeds /= 4
	}
	for seed := range seeds {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			r := rand.New(rand.NewSource(seed))
			o := newOverlay(t, ",index=off,metacopy=off,redirect_dir=off")
			if seed%2 == 1 || Rootless() {
				o.option = ",userxattr"
			}
			for range 2 + r.Intn(4) {
				o.push(func(root string) { scramble(t, r, root, 60) })
			}
			m := o.mount("")
			want := treeOf(t, m)
			v, err := OpenView(o.layers...)
			must(t, err)
			defer v.Close()
			if diff := cmp.Diff(want, treeOfView(t, v)); diff != "" {
				t.Errorf("view differs from mount (-mount +view):\n%s", diff)
			}
			compareByName(t, r, v, m)
			o.unmount()
			compareOne(t, r, o.layers[len(o.layers)-1])
		})
	}
}

// compareOne does the same for a View of a single directory.
func compareOne(t *testing.T, r *rand.Rand, dir string) {
	t.Helper()
	v, err := OpenView(dir)
	must(t, err)
	defer v.Close()
	if diff := cmp.Diff(treeOf(t, dir), treeOfView(t, v)); diff != "" {
		t.Errorf("view differs from directory (-directory +view):\n%s", diff)
	}
	compareByName(t, r, v, dir)
}

// compareByName asks View and the mount about random names, with links and ..
// in them, in a chroot's sense.
func compareByName(t *testing.T, r *rand.Rand, v *View, m string) {
	t.Helper()
	root, err := unix.Open(m, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	must(t, err)
	defer unix.Close(root)
	for range 300 {
		parts := make([]string, 1+r.Intn(5))
		for i := range parts {
			parts[i] = []string{"a", "b", "c", "d", ".."}[r.Intn(5)]
		}
		name := strings.Join(parts, "/")
		for _, follow := range []bool{false, true} {
			how := unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT}
			get := v.Stat
			if !follow {
				how.Flags |= unix.O_NOFOLLOW
				get = v.Lstat
			}
			info, gotErr := get(name)
			fd, wantErr := unix.Openat2(root, name, &how)
			for wantErr == unix.EAGAIN { // a rename elsewhere on the machine
				fd, wantErr = unix.Openat2(root, name, &how)
			}
			if (wantErr == nil) != (gotErr == nil) || (wantErr != nil && !errors.Is(gotErr, wantErr)) {
				t.Errorf("%s follow=%v: error %v, want %v", name, follow, gotErr, wantErr)
			}
			if wantErr != nil {
				continue
			}
			var st unix.Stat_t
			must(t, unix.Fstat(fd, &st))
			real, _ := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd))
			unix.Close(fd)
			rel, _ := filepath.Rel(m, real)
			if info.Path != rel || info.Mode != st.Mode || info.ModTime.UnixNano() != st.Mtim.Nano() {
				t.Errorf("%s follow=%v: got %s %o, want %s %o", name, follow, info.Path, info.Mode, rel, st.Mode)
			}
			if got, err := v.Resolve(name); follow && (err != nil || got != rel) {
				t.Errorf("Resolve(%s) = %s, %v, want %s", name, got, err, rel)
			}
		}
	}
}
