package layers

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	digest "github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"
)

var testTime = time.Unix(1700000000, 123456789)

func dirEntry(name string, mode uint32) Entry {
	return Entry{Path: name, Mode: unix.S_IFDIR | mode, ModTime: testTime}
}

func fileEntry(name, content string, mode uint32) Entry {
	return Entry{Path: name, Mode: unix.S_IFREG | mode, ModTime: testTime, Size: int64(len(content)),
		Open: func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(content)), nil }}
}

func linkEntry(name, target string) Entry {
	return Entry{Path: name, Mode: unix.S_IFREG, Hardlink: true, Linkname: target}
}

func symlinkEntry(name, target string) Entry {
	return Entry{Path: name, Mode: unix.S_IFLNK | 0o777, Linkname: target, ModTime: testTime}
}

// base makes a layer with a few awkward things in it.
func baseLayer(t testing.TB, s *Store) Layer {
	t.Helper()
	sn, err := s.Prepare(context.Background(), nil)
	must(t, err)
	mode := dirEntry("usr/share", 0o2750)
	mode.UID, mode.GID, mode.Xattrs = otherID(3), otherID(4), map[string]string{"user.note": "x"}
	mode.ModTime = testTime.Add(-time.Hour)
	must(t, sn.Write(context.Background(), []Entry{
		dirEntry("usr", 0o755), mode, fileEntry("usr/share/doc", "old doc", 0o644),
		dirEntry("etc", 0o755), fileEntry("etc/passwd", "root:x:0:0\n", 0o644),
		symlinkEntry("lib", "usr/lib"), dirEntry("usr/lib", 0o755), dirEntry("gone", 0o755), fileEntry("gone/file", "hidden", 0o600),
	}, WriteOptions{}))
	l, err := sn.Commit(context.Background()).Wait(context.Background())
	must(t, err)
	return l
}

func awkwardEntries() []Entry {
	big := strings.Repeat("0123456789abcdef", 200<<10/4)
	setuid := fileEntry("bin/su", "su", 0o4755)
	setuid.UID, setuid.GID = 7, 8
	capable := fileEntry("bin/ping", "ping", 0o755)
	capable.Xattrs = map[string]string{
		"security.capability": "\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00",
		"user.mark":           "yes",
	}
	fifo := Entry{Path: "run/fifo", Mode: unix.S_IFIFO | 0o620, ModTime: testTime, UID: 1}
	null := Entry{Path: "dev/null", Mode: unix.S_IFCHR | 0o666, ModTime: testTime, Rdev: unix.Mkdev(1, 3)}
	sock := Entry{Path: "run/sock", Mode: unix.S_IFSOCK | 0o600}
	long := strings.Repeat("n", 120)
	return allowed([]Entry{
		fileEntry("usr/share/new/deep/file", "deep", 0o640), fileEntry("usr/share/doc", "new doc", 0o600),
		setuid, capable, fifo, null, sock, dirEntry("bin", 0o755), dirEntry("var/empty", 0o1777),
		symlinkEntry("a/link", "../b"), fileEntry("a.b", "sorts after a/", 0o644), fileEntry("a-b", "and this one before", 0o644),
		linkEntry("a/0link", "z/target"), fileEntry("z/target", "linked", 0o644), linkEntry("zz", "z/target"), linkEntry("zzz", "zz"),
		fileEntry("big", big, 0o644), fileEntry("big2", big+"!", 0o644), fileEntry("empty", "", 0o644),
		fileEntry(long+"/"+long+"/"+long, "long", 0o644), fileEntry("ünïcode/\xff\xfe", "bytes", 0o644), fileEntry("new\nline", "q\"", 0o644),
		fileEntry("dup", "first", 0o600), fileEntry("dup", "second", 0o640), dirEntry("etc", 0o711),
	})
}

// allowed leaves out what an ordinary user may not make: devices, and with a
// single id other owners.
func allowed(entries []Entry) []Entry {
	var kept []Entry
	for _, e := range entries {
		if SingleID() {
			e.UID, e.GID = 0, 0
		}
		if !Rootless() || e.Type() != unix.S_IFCHR {
			kept = append(kept, e)
		}
	}
	return kept
}

// otherID is id, or the only one there is.
func otherID(id uint32) uint32 {
	if SingleID() {
		return 0
	}
	return id
}

// drivers runs fn with a store of each kind that works here.
func drivers(t *testing.T, fn func(t *testing.T, s *Store)) {
	for _, driver := range []string{"overlay", "vfs"} {
		t.Run(driver, func(t *testing.T) { fn(t, testStore(t, driver)) })
	}
}

// TestWriteStreamIsTheDiff proves that the digest made on the way is that of
// the tar which a walk of the written tree gives, and that the store puts the
// same tar together again.
func TestWriteStreamIsTheDiff(t *testing.T) {
	needRoot(t)
	s := testStore(t, "overlay")
	ctx := context.Background()
	base := baseLayer(t, s)
	sn, err := s.Prepare(ctx, base)
	must(t, err)
	digests := map[int]digest.Digest{}
	entries := awkwardEntries()
	must(t, sn.Write(ctx, entries, WriteOptions{DirUID: otherID(5), DirGID: otherID(6), DirTime: testTime, Digests: func(i int, d digest.Digest) { digests[i] = d }}))
	if sn.stream == nil {
		t.Fatal("the first Write made no stream")
	}
	walked, err := sn.area.stream(ctx, sn)
	must(t, err)
	defer walked.close()
	if sn.stream.digest != walked.digest || sn.stream.size != walked.size {
		t.Errorf("Write's stream = %s, %d bytes; a walk's %s, %d bytes", sn.stream.digest, sn.stream.size, walked.digest, walked.size)
	}
	if diff := cmp.Diff(readSplit(t, walked.split), readSplit(t, sn.stream.split)); diff != "" {
		t.Errorf("tar-split (-walk +write):\n%s", diff)
	}
	for i, e := range entries {
		if !e.IsRegular() || e.Hardlink || i == len(entries)-3 { // the first "dup"
			continue
		}
		r, _ := e.Open()
		b, _ := io.ReadAll(r)
		if want := digest.FromBytes(b); digests[i] != want {
			t.Errorf("digest of %s = %s, want %s", e.Path, digests[i], want)
		}
	}
	l, err := sn.Commit(ctx).Wait(ctx)
	must(t, err)
	r, err := s.Diff(ctx, l.ID)
	must(t, err)
	defer r.Close()
	got, err := digest.FromReader(r)
	must(t, err)
	if got != l.DiffID || l.DiffID != walked.digest {
		t.Errorf("Diff digest = %s, DiffID %s, want %s", got, l.DiffID, walked.digest)
	}
}

func readSplit(t *testing.T, f *os.File) []string {
	t.Helper()
	_, err := f.Seek(0, io.SeekStart)
	must(t, err)
	b, err := io.ReadAll(f)
	must(t, err)
	_, err = f.Seek(0, io.SeekStart)
	must(t, err)
	return strings.Split(string(b), "\n")
}

// TestWriteTree compares what Write leaves with what the entries say.
func TestWriteTree(t *testing.T) {
	needRoot(t)
	drivers(t, func(t *testing.T, s *Store) {
		ctx := context.Background()
		sn, err := s.Prepare(ctx, baseLayer(t, s))
		must(t, err)
		entries := awkwardEntries()
		must(t, sn.Write(ctx, entries, WriteOptions{DirMode: 0o700, DirUID: otherID(5), DirGID: otherID(6), DirTime: testTime}))
		v, err := sn.View()
		must(t, err)
		defer v.Close()
		for _, e := range entries {
			checkEntry(t, v, e)
		}
		// The parent that existed keeps its metadata (vfs copies whole
		// seconds), a made one has the options'.
		share, err := v.Lstat("usr/share")
		must(t, err)
		x, err := v.Xattrs("usr/share")
		must(t, err)
		deep, err := v.Lstat("usr/share/new/deep")
		must(t, err)
		got := []string{strings.TrimRight(describe(share), "0123456789"), fmt.Sprint(x), describe(deep)}
		want := []string{
			fmt.Sprintf("42750 %d:%d 1699996400.", otherID(3), otherID(4)), "map[user.note:x]",
			fmt.Sprintf("40700 %d:%d 1700000000.123456789", otherID(5), otherID(6)),
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("parents (-want +got):\n%s", diff)
		}
		must(t, sn.Remove())
	})
}

func describe(i Info) string {
	return fmt.Sprintf("%o %d:%d %d.%d", i.Mode, i.UID, i.GID, i.ModTime.Unix(), i.ModTime.Nanosecond())
}

func checkEntry(t *testing.T, v *View, e Entry) {
	t.Helper()
	info, err := v.Lstat(e.Path)
	if e.Type() == unix.S_IFSOCK {
		if err == nil {
			t.Errorf("%s: a socket was written", e.Path)
		}
		return
	}
	if err != nil {
		t.Error(err)
		return
	}
	if e.Hardlink {
		target, err := v.Lstat(e.Linkname)
		if err != nil || target.Ino != info.Ino {
			t.Errorf("%s is no hard link of %s: %v", e.Path, e.Linkname, err)
		}
		return
	}
	if e.Path == "dup" && e.Mode&0o777 == 0o600 {
		return
	}
	got, err := v.Entry(info)
	must(t, err)
	if describe(info) != fmt.Sprintf("%o %d:%d %d.%d", e.Mode, e.UID, e.GID, e.ModTime.Unix(), e.ModTime.Nanosecond()) ||
		got.Linkname != e.Linkname || got.Rdev != e.Rdev || !cmp.Equal(got.Xattrs, e.Xattrs) {
		t.Errorf("%s = %s %+v, want %+v", e.Path, describe(info), got, e)
	}
	if e.IsRegular() {
		r, _ := e.Open()
		want, _ := io.ReadAll(r)
		b, err := v.ReadFile(e.Path)
		if err != nil || string(b) != string(want) {
			t.Errorf("%s: content differs: %v", e.Path, err)
		}
	}
}

// TestWriteConflicts checks the combinations of what exists and what is
// written, in a lower layer and in the upper directory.
func TestWriteConflicts(t *testing.T) {
	needRoot(t)
	ctx := context.Background()
	s := testStore(t, "overlay")
	base := baseLayer(t, s)
	for _, c := range []struct {
		name string
		e    Entry
		want error
	}{
		{"file over directory", fileEntry("usr", "", 0o644), &ConflictError{Path: "usr", Dir: true}},
		{"directory over file", dirEntry("etc/passwd", 0o755), &ConflictError{Path: "etc/passwd"}},
		{"below a file", fileEntry("etc/passwd/x", "", 0o644), &ConflictError{Path: "etc/passwd"}},
		{"through a link", fileEntry("lib/x", "", 0o644), &ConflictError{Path: "lib"}},
		{"directory over link", dirEntry("lib", 0o755), &ConflictError{Path: "lib"}},
		{"file over link", fileEntry("lib", "file", 0o644), nil},
		{"link over file", symlinkEntry("etc/passwd", "/x"), nil},
		{"directory over directory", dirEntry("usr", 0o700), nil},
	} {
		for _, twice := range []bool{false, true} {
			t.Run(fmt.Sprint(c.name, " twice=", twice), func(t *testing.T) {
				sn, err := s.Prepare(ctx, base)
				must(t, err)
				defer sn.Remove()
				if twice {
					must(t, sn.Write(ctx, []Entry{fileEntry("usr/x", "", 0o644), fileEntry("etc/passwd", "new", 0o644), symlinkEntry("lib", "elsewhere")}, WriteOptions{}))
				}
				err = sn.Write(ctx, []Entry{c.e}, WriteOptions{})
				var conflict *ConflictError
				if c.want == nil && err != nil || c.want != nil && (!errors.As(err, &conflict) || !cmp.Equal(error(conflict), c.want)) {
					t.Fatalf("Write = %v, want %v", err, c.want)
				}
				if (sn.stream != nil) != (!twice && c.want == nil) {
					t.Errorf("stream = %v after Write twice=%v", sn.stream, twice)
				}
				if c.want == nil {
					v, err := sn.View()
					must(t, err)
					defer v.Close()
					checkEntry(t, v, c.e)
				}
			})
		}
	}
}

// TestWriteReplaces writes what conflicts with a lower layer, and then what
// conflicts with that: what was replaced does not show through again.
func TestWriteReplaces(t *testing.T) {
	needRoot(t)
	ctx := context.Background()
	drivers(t, func(t *testing.T, s *Store) {
		sn, err := s.Prepare(ctx, baseLayer(t, s))
		must(t, err)
		defer sn.Remove()
		steps := [][]Entry{
			{fileEntry("usr", "file", 0o644), dirEntry("etc/passwd", 0o755), fileEntry("etc/passwd/x", "", 0o644)},
			{dirEntry("usr", 0o755), fileEntry("usr/new", "", 0o644), fileEntry("etc/passwd", "file again", 0o644)},
		}
		for _, entries := range steps {
			must(t, sn.Write(ctx, entries, WriteOptions{Replace: true}))
			v, err := sn.View()
			must(t, err)
			defer v.Close()
			for _, e := range entries {
				checkEntry(t, v, e)
			}
		}
		v, err := sn.View()
		must(t, err)
		defer v.Close()
		infos, err := v.ReadDir("usr")
		must(t, err)
		if len(infos) != 1 || infos[0].Path != "usr/new" {
			t.Errorf("usr holds %v, want usr/new only", infos)
		}
	})
}

// TestWriteOverWhiteout writes where a container has deleted files.
func TestWriteOverWhiteout(t *testing.T) {
	needRoot(t)
	ctx := context.Background()
	s := testStore(t, "overlay")
	sn, err := s.Prepare(ctx, baseLayer(t, s))
	must(t, err)
	defer sn.Remove()
	m, err := sn.Mount()
	must(t, err)
	must(t, os.RemoveAll(filepath.Join(m, "gone")))
	must(t, os.RemoveAll(filepath.Join(m, "etc/passwd")))
	must(t, sn.Unmount())
	must(t, sn.Write(ctx, []Entry{fileEntry("gone/new", "new", 0o644), fileEntry("etc/passwd", "x", 0o644)}, WriteOptions{}))
	m, err = sn.Mount()
	must(t, err)
	names, err := filepath.Glob(filepath.Join(m, "gone", "*"))
	must(t, err)
	b, err := os.ReadFile(filepath.Join(m, "etc/passwd"))
	if len(names) != 1 || err != nil || string(b) != "x" {
		t.Errorf("gone = %v, want only new; passwd = %q, %v", names, b, err)
	}
}

// TestWriteUnstableSource checks sources that change, vanish or fail.
func TestWriteUnstableSource(t *testing.T) {
	needRoot(t)
	s := testStore(t, "overlay")
	for _, size := range []int64{4, 6, 2 << 20} {
		for name, content := range map[string]string{"shorter": "abc", "longer": strings.Repeat("x", 3<<20)} {
			sn, err := s.Prepare(context.Background(), nil)
			must(t, err)
			e := fileEntry("f", content, 0o644)
			e.Size = size
			err = sn.Write(context.Background(), []Entry{e, fileEntry("g", "g", 0o644)}, WriteOptions{})
			if !errors.Is(err, errUnstable) || !strings.Contains(err.Error(), "/f") {
				t.Errorf("source %s than %d: %v", name, size, err)
			}
			must(t, sn.Remove())
		}
	}
}

// TestWriteCancel checks that a cancelled Write ends with the cause.
func TestWriteCancel(t *testing.T) {
	needRoot(t)
	s := testStore(t, "overlay")
	sn, err := s.Prepare(context.Background(), nil)
	must(t, err)
	defer sn.Remove()
	cause := errors.New("enough")
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	var entries []Entry
	for i := range 2000 {
		e := fileEntry(fmt.Sprint("f", i), "x", 0o644)
		if i == 300 {
			open := e.Open
			e.Open = func() (io.ReadCloser, error) { cancel(cause); return open() }
		}
		entries = append(entries, e)
	}
	if err := sn.Write(ctx, entries, WriteOptions{}); !errors.Is(err, cause) {
		t.Errorf("Write = %v, want %v", err, cause)
	}
}

// TestWriteLikeCopy compares Write of generated trees, one over the other, with
// cp -a onto a mounted overlay.
func TestWriteLikeCopy(t *testing.T) {
	needRoot(t)
	ctx := context.Background()
	seeds := int64(15)
	if Rootless() {
		seeds = 3
	}
	for seed := range seeds {
		s := testStore(t, "overlay")
		r := rand.New(rand.NewSource(seed))
		src := testDir(t)
		scramble(t, r, src, 150)
		v, err := OpenView(src)
		must(t, err)
		defer v.Close()
		base, err := s.Prepare(ctx, baseLayer(t, s))
		must(t, err)
		var infos []Info
		must(t, v.Walk(ctx, ".", nil, func(i Info) error { infos = append(infos, i); return nil }))
		entries, err := v.Entries(ctx, infos)
		must(t, err)
		r.Shuffle(len(entries), func(i, j int) { entries[i], entries[j] = entries[j], entries[i] })
		must(t, base.Write(ctx, entries, WriteOptions{}))
		got, err := base.View()
		must(t, err)
		defer got.Close()
		have := map[string]seen{}
		for _, f := range treeOfView(t, got) {
			have[f.Path] = f
		}
		want := treeOf(t, src)
		for _, f := range want {
			if diff := cmp.Diff(f, have[f.Path]); diff != "" {
				t.Errorf("seed %d: %s (-source +written):\n%s", seed, f.Path, diff)
			}
		}
		walked, err := base.area.stream(ctx, base)
		must(t, err)
		if base.stream == nil || base.stream.digest != walked.digest {
			t.Errorf("seed %d: stream differs from a walk's", seed)
		}
		must(t, walked.close())
		must(t, base.Remove())
	}
}

// sortedPaths checks the order that everything here relies on.
func TestComparePathsIsWalkOrder(t *testing.T) {
	paths := []string{"a-b", "a", "a/b", "a/b/c", "a/c", "a.b", "b"}
	sorted := slices.Clone(paths)
	slices.SortFunc(sorted, comparePaths)
	want := []string{"a", "a/b", "a/b/c", "a/c", "a-b", "a.b", "b"}
	if diff := cmp.Diff(want, sorted); diff != "" {
		t.Errorf("order (-want +got):\n%s", diff)
	}
}
