package layers

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	digest "github.com/opencontainers/go-digest"
	"go.podman.io/storage"
	graphdriver "go.podman.io/storage/drivers"
	"go.podman.io/storage/pkg/archive"
	"golang.org/x/sys/unix"
)

// files makes and changes files below a root, and fails the test if it cannot.
type files struct {
	t    *testing.T
	root string
}

func (f files) path(name string) string { return f.root + "/" + name }

func (f files) check(err error) {
	f.t.Helper()
	if err != nil {
		f.t.Fatal(err)
	}
}

func (f files) write(name, content string) {
	f.t.Helper()
	f.check(os.MkdirAll(filepath.Dir(f.path(name)), 0o755))
	f.check(os.WriteFile(f.path(name), []byte(content), 0o644))
}

func (f files) mkdir(name string)       { f.t.Helper(); f.check(os.MkdirAll(f.path(name), 0o755)) }
func (f files) remove(name string)      { f.t.Helper(); f.check(os.RemoveAll(f.path(name))) }
func (f files) link(old, name string)   { f.t.Helper(); f.check(os.Link(f.path(old), f.path(name))) }
func (f files) symlink(to, name string) { f.t.Helper(); f.check(os.Symlink(to, f.path(name))) }
func (f files) rename(old, name string) { f.t.Helper(); f.check(os.Rename(f.path(old), f.path(name))) }
func (f files) chmod(name string, mode uint32) {
	f.t.Helper()
	f.check(unix.Chmod(f.path(name), mode))
}
func (f files) chown(name string, uid, gid int) {
	f.t.Helper()
	if SingleID() {
		return
	}
	f.check(os.Lchown(f.path(name), uid, gid))
}
func (f files) setxattr(name, attr, value string) {
	f.t.Helper()
	f.check(unix.Lsetxattr(f.path(name), attr, []byte(value), 0))
}
func (f files) times(name string, at time.Time) {
	f.t.Helper()
	f.check(os.Chtimes(f.path(name), at, at))
}

// base is the layer that all cases change.
func base(f files) {
	f.write("etc/passwd", "root:x:0:0")
	f.write("etc/group", "root:x:0")
	f.write("lib/a", "a")
	f.write("lib/b", "b")
	f.write("lib/deep/c", "c")
	f.write("lib/deep/er/d", "d")
	f.write("bin/tool", strings.Repeat("tool", 100_000))
	f.link("bin/tool", "bin/tool2")
	f.symlink("lib", "lib64")
	f.write("var/log/one", "1")
	f.write("var/log/two", "2")
	f.mkdir("empty")
	f.chown("etc/group", 7, 8)
	f.setxattr("lib/a", "user.color", "red")
}

// fileCapability is CAP_NET_RAW, permitted and effective, in the format of
// struct vfs_cap_data version 2.
const fileCapability = "\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"

var snapshotCases = []struct {
	name   string
	change func(f files)
}{
	{"nothing", func(files) {}},
	{"write", func(f files) { f.write("new/file", "new"); f.write("etc/passwd", "changed") }},
	{"empty file", func(f files) { f.write("void", "") }},
	{"large file", func(f files) { f.write("large", strings.Repeat("0123456789", 200_000)) }},
	{"empty directory", func(f files) { f.mkdir("d/e/f") }},
	{"delete file", func(f files) { f.remove("lib/a") }},
	{"delete directory", func(f files) { f.remove("lib/deep"); f.remove("empty") }},
	{"delete all", func(f files) {
		for _, name := range []string{"etc", "lib", "bin", "lib64", "var", "empty"} {
			f.remove(name)
		}
	}},
	{"file replaced by directory", func(f files) { f.remove("lib/a"); f.write("lib/a/b/c", "x") }},
	{"directory replaced by file", func(f files) { f.remove("lib"); f.write("lib", "x") }},
	{"directory replaced by link", func(f files) { f.remove("lib"); f.symlink("etc", "lib") }},
	{"link replaced by directory", func(f files) { f.remove("lib64"); f.write("lib64/x", "x") }},
	{"opaque", func(f files) { f.remove("var/log"); f.write("var/log/three", "3") }},
	{"opaque and empty", func(f files) { f.remove("var"); f.mkdir("var") }},
	{"opaque with an old name", func(f files) { f.remove("lib"); f.write("lib/deep/c", "new") }},
	{"rename file", func(f files) { f.rename("lib/a", "lib/z") }},
	{"rename over", func(f files) { f.rename("lib/a", "lib/b") }},
	{"rename new directory", func(f files) { f.write("n/x", "x"); f.rename("n", "m") }},
	{"hard links", func(f files) { f.write("h/a", "x"); f.link("h/a", "h/b"); f.link("h/a", "c") }},
	{"hard link to a lower file", func(f files) { f.link("lib/b", "lib/b2") }},
	{"hard link to one of two lower names", func(f files) { f.write("bin/tool2", "now another file") }},
	{"hard linked link", func(f files) {
		f.symlink("x", "s1")
		f.check(unix.Linkat(unix.AT_FDCWD, f.path("s1"), unix.AT_FDCWD, f.path("s2"), 0))
	}},
	{"dangling link", func(f files) { f.symlink("../../../nowhere", "s") }},
	{"mode", func(f files) { f.chmod("lib/b", 0o4755); f.chmod("lib/deep", 0o1777) }},
	{"owner", func(f files) { f.chown("lib/b", 33, 44); f.chown("var/log", 5, 6) }},
	{"time", func(f files) { f.times("lib/b", time.Unix(86400, 5e8)); f.times("empty", time.Unix(3e9, 0)) }},
	{"change hidden by its time", func(f files) {
		info, err := os.Stat(f.path("lib/b"))
		f.check(err)
		f.write("lib/b", "B")
		f.times("lib/b", info.ModTime())
	}},
	{"xattr", func(f files) {
		f.setxattr("lib/b", "user.shape", "round\x00\n=")
		f.setxattr("lib/deep", "user.dir", "yes")
		f.write("f", "")
		f.setxattr("f", "user.empty", "")
	}},
	{"file capability", func(f files) { f.write("ping", "x"); f.setxattr("ping", "security.capability", fileCapability) }},
	{"sparse", func(f files) {
		f.write("sparse", "start")
		f.check(os.Truncate(f.path("sparse"), 3<<20))
	}},
	{"fifo", func(f files) { f.check(unix.Mkfifo(f.path("fifo"), 0o600)) }},
	{"device", func(f files) {
		if Rootless() {
			f.t.Skip("devices need root")
		}
		f.check(unix.Mknod(f.path("null"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))))
		f.check(unix.Mknod(f.path("disk"), unix.S_IFBLK|0o660, int(unix.Mkdev(259, 70_000))))
	}},
	{"socket", func(f files) {
		here, err := os.Getwd()
		f.check(err)
		f.check(os.Chdir(f.path("var")))
		defer os.Chdir(here)
		l, err := net.ListenUnix("unix", &net.UnixAddr{Name: "sock", Net: "unix"})
		f.check(err)
		l.SetUnlinkOnClose(false)
		l.Close()
		f.write("var/beside", "x")
	}},
	{"names", func(f files) {
		f.write("new\nline", "1")
		f.write("invalid\xff\xfeutf8/x\x80", "2")
		f.write("blank and ünïcode", "3")
		f.write(strings.Repeat("n", 255), "4")
		f.write(strings.Repeat("d/", 200)+"deep", "5")
		f.write(strings.Repeat("l", 101)+"/"+strings.Repeat("m", 156)+"/x", "6")
		f.symlink(strings.Repeat("t", 300), "long")
		f.write("-rf", "7")
		f.write("a=b", "8")
	}},
	{"root directory", func(f files) { f.chmod(".", 0o711); f.chown(".", 1, 1); f.write("x", "x") }},
	{"a thousand files", func(f files) {
		for i := range 1000 {
			f.write(fmt.Sprintf("many/%d/%d", i%7, i), strings.Repeat("x", i*3))
		}
	}},
}

// changeTree mounts a snapshot, changes it, and returns the tree as it is seen
// when mounted again (inode numbers are not settled before).
func changeTree(t *testing.T, sn *Snapshot, f func(files)) []string {
	t.Helper()
	root, err := sn.Mount()
	if err != nil {
		t.Fatal(err)
	}
	f(files{t, root})
	if err := sn.Unmount(); err != nil {
		t.Fatal(err)
	}
	if root, err = sn.Mount(); err != nil {
		t.Fatal(err)
	}
	want := tree(t, root)
	if err := sn.Unmount(); err != nil {
		t.Fatal(err)
	}
	return want
}

func TestSnapshotContract(t *testing.T) {
	for _, driver := range []string{"overlay", "vfs"} {
		t.Run(driver, func(t *testing.T) {
			s, other := testStore(t, driver), testStore(t, "vfs")
			ctx := context.Background()
			sn := prepare(t, s, nil)
			changeTree(t, sn, base)
			bottom := sn.Commit(ctx)
			for _, tt := range snapshotCases {
				t.Run(tt.name, func(t *testing.T) {
					sn := prepare(t, s, bottom)
					want := changeTree(t, sn, tt.change)
					c := sn.Commit(ctx)
					// The next snapshot stands on it at once.
					above := prepare(t, s, c)
					if diff := cmp.Diff(want, changeTree(t, above, func(files) {})); diff != "" {
						t.Errorf("the snapshot above sees another tree (-want +got):\n%s", diff)
					}
					l, err := c.Wait(ctx)
					if err != nil {
						t.Fatal(err)
					}
					checkDiff(t, s, l)
					if !testing.Short() {
						checkElsewhere(t, s, other, l, want)
					}
				})
			}
		})
	}
}

func prepare(t testing.TB, s *Store, p Parent) *Snapshot {
	t.Helper()
	sn, err := s.Prepare(context.Background(), p)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := sn.Remove(); err != nil {
			t.Errorf("Remove: %v", err)
		}
	})
	return sn
}

// checkDiff reads the layer's tar back in our way and the library's.
func checkDiff(t *testing.T, s *Store, l Layer) {
	t.Helper()
	ours, err := s.Diff(context.Background(), l.ID)
	if err != nil {
		t.Fatal(err)
	}
	defer ours.Close()
	theirs, err := s.libraryDiff(l.ID)
	if err != nil {
		t.Fatal(err)
	}
	defer theirs.Close()
	for name, rc := range map[string]io.Reader{"Diff": ours, "the library's Diff": theirs} {
		var buf bytes.Buffer
		n, err := io.Copy(&buf, rc)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if got := (Layer{DiffID: digest.FromBytes(buf.Bytes()), Size: n}); got.DiffID != l.DiffID || got.Size != l.Size {
			t.Errorf("%s = %v, want the DiffID and size of %v", name, got, l)
		}
	}
}

// checkElsewhere applies the layer's chain to another store by the library's own
// means and compares the tree.
func checkElsewhere(t *testing.T, s, other *Store, l Layer, want []string) {
	t.Helper()
	chain, err := s.Chain(l.ID)
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range chain {
		if other.store.Exists(l.ID) {
			continue
		}
		plain := archive.Uncompressed
		rc, err := s.store.Diff("", l.ID, &storage.DiffOptions{Compression: &plain})
		if err != nil {
			t.Fatal(err)
		}
		_, _, err = other.store.PutLayer(l.ID, l.Parent, nil, "", false, nil, rc)
		rc.Close()
		if err != nil {
			t.Fatal(err)
		}
	}
	root, err := other.driver.Get(l.ID, graphdriver.MountOpts{})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, tree(t, root)); diff != "" {
		t.Errorf("the layer gives another tree elsewhere (-snapshot +applied):\n%s", diff)
	}
}
