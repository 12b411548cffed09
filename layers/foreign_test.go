package layers

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	digest "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"go.podman.io/storage/pkg/chrootarchive"
	"golang.org/x/sys/unix"
)

// overlayTree describes a layer's directory in full, overlayfs' marks included.
// Directories that no entry has named have the time of the test.
func overlayTree(t testing.TB, root string) []string {
	t.Helper()
	var lines []string
	first := map[uint64]string{}
	err := filepath.WalkDir(root, func(name string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(name, &st); err != nil {
			return err
		}
		rel, _ := filepath.Rel(root, name)
		line := fmt.Sprintf("%q %06o %d:%d %x", rel, st.Mode, st.Uid, st.Gid, st.Rdev)
		if time.Since(time.Unix(st.Mtim.Unix())) > time.Hour {
			line += fmt.Sprintf(" @%d.%09d", st.Mtim.Sec, st.Mtim.Nsec)
		}
		switch st.Mode & unix.S_IFMT {
		case unix.S_IFREG:
			content, err := os.ReadFile(name)
			if err != nil {
				return err
			}
			line += fmt.Sprintf(" %d %s", len(content), digest.FromBytes(content).Encoded()[:12])
		case unix.S_IFLNK:
			target, _ := os.Readlink(name)
			line += " -> " + target
		}
		if st.Mode&unix.S_IFMT != unix.S_IFDIR && st.Nlink > 1 {
			if other, ok := first[st.Ino]; ok {
				line += " same as " + other
			} else {
				first[st.Ino] = rel
			}
		}
		attrs := allXattrs(name)
		if st.Mode&unix.S_IFMT != unix.S_IFDIR {
			// The library marks also what is no directory, to no effect.
			attrs = strings.NewReplacer(` trusted.overlay.opaque="y"`, "", ` user.overlay.opaque="y"`, "").Replace(attrs)
		}
		lines = append(lines, line+attrs)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return lines
}

func allXattrs(name string) string {
	buf := make([]byte, 64<<10)
	n, _ := unix.Llistxattr(name, buf)
	names := strings.FieldsFunc(string(buf[:max(n, 0)]), func(r rune) bool { return r == 0 })
	slices.Sort(names)
	line := ""
	for _, x := range names {
		value := make([]byte, 4<<10)
		n, _ := unix.Lgetxattr(name, x, value)
		line += fmt.Sprintf(" %s=%q", x, value[:max(n, 0)])
	}
	return line
}

// libraryTree is what the storage library unpacks the tar to.
func libraryTree(t testing.TB, s *Store, plain []byte) ([]string, error) {
	t.Helper()
	sn := prepare(t, s, nil)
	a := sn.area.(*overlayArea)
	if err := chrootarchive.UntarUncompressed(bytes.NewReader(plain), a.upper(), &a.tar); err != nil {
		return nil, err
	}
	return overlayTree(t, a.upper()), nil
}

// randomTar makes a tar whose names, links and whiteouts are likely to meet.
func randomTar(t testing.TB, r *rand.Rand) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	name := func() string {
		elements := []string{"a", "b", "c", "d", "usr"}
		n := 1 + r.Intn(3)
		var parts []string
		for range n {
			parts = append(parts, elements[r.Intn(len(elements))])
		}
		return strings.Join(parts, "/")
	}
	target := func() string {
		return []string{"", "/", "../", "../../"}[r.Intn(4)] + name()
	}
	kinds := []byte{tar.TypeReg, tar.TypeReg, tar.TypeReg, tar.TypeDir, tar.TypeDir, tar.TypeSymlink, tar.TypeLink, tar.TypeChar, tar.TypeFifo, 'w', 'o', tar.TypeXGlobalHeader}
	seen := map[string]bool{}
	for range 2 + r.Intn(12) {
		h := &tar.Header{
			Typeflag: kinds[r.Intn(len(kinds))], Name: name(), Mode: int64(r.Intn(0o10000)), Uid: r.Intn(3), Gid: r.Intn(3),
			ModTime: time.Unix(1e9+r.Int63n(1e6), r.Int63n(1e9)), Format: tar.FormatPAX,
		}
		var content []byte
		switch h.Typeflag {
		case tar.TypeReg:
			content = make([]byte, []int{0, 1, 511, 512, 513, 70_000, 600_000}[r.Intn(7)])
			r.Read(content)
			if r.Intn(4) == 0 {
				h.PAXRecords = map[string]string{"SCHILY.xattr.user.test": "value", "SCHILY.xattr.security.capability": "\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"}
			}
		case tar.TypeDir:
			if r.Intn(4) == 0 {
				h.PAXRecords = map[string]string{"SCHILY.xattr.user.test": "value"}
			}
			if r.Intn(10) == 0 {
				h.Name = "."
			}
			h.Name += "/"
		case tar.TypeSymlink:
			h.Linkname = target()
		case tar.TypeLink:
			h.Linkname = target()
		case tar.TypeChar:
			h.Devmajor, h.Devminor = 1, 3
		case 'w':
			h.Typeflag, h.Name = tar.TypeReg, filepath.Dir(h.Name)+"/.wh."+filepath.Base(h.Name)
		case 'o':
			h.Typeflag, h.Name = tar.TypeReg, h.Name+"/.wh..wh..opq"
		case tar.TypeXGlobalHeader:
			h = &tar.Header{Typeflag: h.Typeflag, Name: fmt.Sprint("global", len(seen)), PAXRecords: map[string]string{"comment": "x"}, Format: tar.FormatPAX}
		}
		if clean := filepath.Clean(h.Name); seen[clean] {
			continue
		} else {
			seen[clean] = true
		}
		if SingleID() && strings.HasPrefix(filepath.Base(h.Name), ".wh.") {
			h.Uid, h.Gid = 0, 0 // the library refuses others, to no use
		}
		h.Size = int64(len(content))
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		w.Write(content)
	}
	if r.Intn(2) == 0 {
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		buf.Write(make([]byte, r.Intn(3)*1024))
	} else if err := w.Flush(); err != nil { // no end of archive
		t.Fatal(err)
	}
	return buf.Bytes()
}

func listTar(t testing.TB, plain []byte) string {
	t.Helper()
	list := ""
	for r := tar.NewReader(bytes.NewReader(plain)); ; {
		h, err := r.Next()
		if err != nil {
			return list
		}
		list += fmt.Sprintf("%c %q %q %o %d:%d %d\n", h.Typeflag, h.Name, h.Linkname, h.Mode, h.Uid, h.Gid, h.Size)
	}
}

// TestUnpackLikeLibrary: random tars become the same trees as the storage library
// makes of them, or are refused by both; and they are given back as they came.
func TestUnpackLikeLibrary(t *testing.T) {
	rounds := 300
	if testing.Short() {
		rounds = 60
	}
	s := testStore(t, "overlay")
	seed := time.Now().UnixNano()
	refused := 0
	for i := range int64(rounds) {
		plain := randomTar(t, rand.New(rand.NewSource(seed+i)))
		want, wantErr := libraryTree(t, s, plain)
		got, err := applied(t, s, plain)
		if err == nil && wantErr != nil && strings.Contains(wantErr.Error(), "setxattr") {
			continue // it marks also what is below a hidden directory
		}
		if (err == nil) != (wantErr == nil) {
			t.Fatalf("seed %d: Apply: %v; the library: %v\n%s", seed+i, err, wantErr, listTar(t, plain))
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("seed %d: (-library +ours):\n%s\n%s", seed+i, diff, listTar(t, plain))
		}
		if err != nil {
			refused++
		}
	}
	if refused > rounds*9/10 {
		t.Errorf("%d of %d tars were refused", refused, rounds)
	}
}

// applied makes a layer of the tar, checks that the tar can be had back, and
// describes the layer's directory.
func applied(t testing.TB, s *Store, plain []byte) ([]string, error) {
	t.Helper()
	l, err := s.Apply(context.Background(), "", bytes.NewReader(plain))
	if err != nil {
		return nil, err
	}
	if want := digest.FromBytes(plain); l.DiffID != want || l.Size != int64(len(plain)) {
		t.Errorf("Apply = %+v, want digest %s of %d bytes", l, want, len(plain))
	}
	rc, err := s.Diff(context.Background(), l.ID)
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(rc)
	rc.Close()
	// Of a file that another entry has replaced the content is gone; the
	// library cannot give such a tar back either, and says so.
	if err == nil && !bytes.Equal(got, plain) {
		t.Errorf("Diff gives another tar than Apply got:\n%s", listTar(t, plain))
	}
	dirs, err := s.layerDirs(l.ID)
	if err != nil {
		t.Fatal(err)
	}
	tree := overlayTree(t, dirs[0].path)
	if err := s.Delete(l.ID); err != nil {
		t.Fatal(err)
	}
	return tree, nil
}

// TestUnpackBases compares whole base images.
func TestUnpackBases(t *testing.T) {
	s := testStore(t, "overlay")
	found := false
	for _, name := range []string{"debian-base", "busybox-base"} {
		blobs, _ := filepath.Glob("/var/cache/cooper/" + name + "/blobs/sha256/*")
		for _, blob := range blobs {
			if info, err := os.Stat(blob); err != nil || info.Size() < 1<<20 {
				continue
			}
			plain, err := os.ReadFile(blob)
			if err != nil {
				t.Fatal(err)
			}
			found = true
			want, err := libraryTree(t, s, plain)
			if err != nil {
				t.Fatal(err)
			}
			got, err := applied(t, s, plain)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%s (-library +ours):\n%s", name, diff)
			}
		}
	}
	if !found {
		t.Skip("no bases: run scripts/bases")
	}
}

// TestUnpackStrangeTars: tars as tools write them and the library cannot keep.
func TestUnpackStrangeTars(t *testing.T) {
	s := testStore(t, "overlay")
	dir := filepath.Join(filepath.Dir(s.Root()), "sparse")
	must(t, os.Mkdir(dir, 0o755))
	f, err := os.Create(filepath.Join(dir, "holes"))
	must(t, err)
	for _, at := range []int64{0, 3 << 20, 5<<20 + 17} {
		_, err = f.WriteAt([]byte("content"), at)
		must(t, err)
	}
	must(t, f.Truncate(8<<20))
	must(t, f.Close())
	long := strings.Repeat("long/", 60) + "name"
	must(t, os.MkdirAll(filepath.Dir(filepath.Join(dir, long)), 0o755))
	must(t, os.WriteFile(filepath.Join(dir, long), []byte("x"), 0o644))
	want, err := os.ReadFile(filepath.Join(dir, "holes"))
	must(t, err)
	for _, format := range []string{"--format=gnu", "--format=posix", "--format=posix --sparse-version=0.0", "--format=posix --sparse-version=0.1"} {
		cmd := exec.Command("/bin/tar", append(strings.Fields(format), "--sparse", "-c", "-C", dir, ".")...)
		plain, err := cmd.Output()
		must(t, err)
		if len(plain) > 1<<20 {
			t.Fatalf("tar %s wrote %d bytes", format, len(plain))
		}
		l, err := s.Apply(context.Background(), "", bytes.NewReader(plain))
		must(t, err)
		dirs, err := s.layerDirs(l.ID)
		must(t, err)
		holes := filepath.Join(dirs[0].path, "holes")
		got, err := os.ReadFile(holes)
		must(t, err)
		if !bytes.Equal(got, want) {
			t.Errorf("%s: the file with holes has another content", format)
		}
		var st unix.Stat_t
		must(t, unix.Stat(holes, &st))
		if st.Blocks*512 >= st.Size {
			t.Errorf("%s: the file with holes takes %d bytes", format, st.Blocks*512)
		}
		if _, err := os.Stat(filepath.Join(dirs[0].path, long)); err != nil {
			t.Errorf("%s: %v", format, err)
		}
		rc, err := s.Diff(context.Background(), l.ID)
		must(t, err)
		if back, err := io.ReadAll(rc); err != nil || !bytes.Equal(back, plain) {
			t.Errorf("%s: Diff gives another tar (%d bytes, %v)", format, len(back), err)
		}
		rc.Close()
	}
}

// TestUnpackRefuses: tars that are cut off, have a name twice or make no sense.
func TestUnpackRefuses(t *testing.T) {
	s := testStore(t, "overlay")
	whole := tarOf(t, "d dir", "f dir/file some content", "f last more content")
	var unknown bytes.Buffer
	must(t, tar.NewWriter(&unknown).WriteHeader(&tar.Header{Typeflag: 'V', Name: "volume"}))
	tests := []struct {
		name string
		tar  []byte
		want error
	}{
		{"cut in a header", whole[:700], io.ErrUnexpectedEOF},
		{"cut in the content", whole[:512*3+4], io.ErrUnexpectedEOF},
		{"cut in the padding", whole[:512*3+100], io.ErrUnexpectedEOF},
		{"same name twice", tarOf(t, "f a x", "f ./a y"), nil},
		{"unknown type", unknown.Bytes(), nil},
		{"link to the root", tarOf(t, "h l /"), unix.EPERM},
		{"link to a directory", tarOf(t, "d d", "h l d"), unix.EPERM},
		{"link to nothing", tarOf(t, "h l none"), unix.ENOENT},
		{"file in a file", tarOf(t, "f a x", "f a/b y"), unix.ENOTDIR},
		{"links in a circle", tarOf(t, "l a b", "l b a", "f a/x y"), unix.ELOOP},
		{"long name", tarOf(t, "f "+strings.Repeat("d/", 3000)+"x y"), unix.ENAMETOOLONG},
		{"long element", tarOf(t, "f "+strings.Repeat("d", 300)+" y"), unix.ENAMETOOLONG},
		{"long by links", tarOf(t, "l l "+strings.Repeat(strings.Repeat("d", 200)+"/", 15), "l l/l "+strings.Repeat(strings.Repeat("d", 200)+"/", 15), "f l/l/x y"), unix.ENAMETOOLONG},
		{"no tar", []byte(strings.Repeat("not a tar ", 200)), tar.ErrHeader},
	}
	for _, tt := range tests {
		l, err := s.Apply(context.Background(), "", bytes.NewReader(tt.tar))
		if err == nil {
			t.Errorf("%s: Apply = %+v, want an error", tt.name, l)
		} else if tt.want != nil && !errors.Is(err, tt.want) {
			t.Errorf("%s: Apply: %v, want %v", tt.name, err, tt.want)
		}
	}
	for _, dir := range []string{"overlay/staging", "overlay-layers"} {
		entries, _ := os.ReadDir(filepath.Join(s.Root(), dir))
		for _, e := range entries {
			if e.IsDir() || strings.HasSuffix(e.Name(), ".gz") {
				t.Errorf("refused tars left %s/%s", dir, e.Name())
			}
		}
	}
}

// TestUnpackCommit: layers are unpacked at once and committed in order; a root
// directory that the tar says nothing of is the parent's.
func TestUnpackCommit(t *testing.T) {
	for _, driver := range []string{"overlay", "vfs"} {
		s := testStore(t, driver)
		ctx := context.Background()
		bottom := tarOf(t, "d .", "f a content")
		top := tarOf(t, "f b more")
		over, err := s.Unpack(ctx, bytes.NewReader(top))
		must(t, err)
		under, err := s.Unpack(ctx, bytes.NewReader(bottom))
		must(t, err)
		dropped, err := s.Unpack(ctx, bytes.NewReader(bottom))
		must(t, err)
		must(t, dropped.Remove())
		blob := ocispec.Descriptor{Digest: digest.FromString("the blob"), Size: 8}
		first, err := under.Commit(ctx, "", blob)
		must(t, err)
		if got := under.DiffID; got != first.DiffID || got != digest.FromBytes(bottom) {
			t.Errorf("%s: DiffID = %s, want %s", driver, got, first.DiffID)
		}
		second, err := over.Commit(ctx, first.ID, ocispec.Descriptor{})
		must(t, err)
		known, err := s.Containers().LayersByCompressedDigest(blob.Digest)
		if err != nil || len(known) != 1 || known[0].ID != first.ID {
			t.Errorf("%s: the layer is not known by its blob: %v, %v", driver, known, err)
		}
		dirs, err := s.layerDirs(second.ID)
		must(t, err)
		info, err := os.Stat(dirs[0].path)
		if err != nil || info.Mode().Perm() != 0o755 {
			t.Errorf("%s: the root directory is %v (%v), want the parent's 0755", driver, info.Mode(), err)
		}
		if _, err := over.Commit(ctx, "nonesuch", ocispec.Descriptor{}); err == nil {
			t.Errorf("%s: committed twice", driver)
		}
		u, err := s.Unpack(ctx, bytes.NewReader(top))
		must(t, err)
		if _, err := u.Commit(ctx, "nonesuch", ocispec.Descriptor{}); !errors.Is(err, ErrNotFound) {
			t.Errorf("%s: Commit on a layer that is not there: %v", driver, err)
		}
		for _, sub := range []string{"overlay/staging", "cooper/areas"} {
			if left, _ := os.ReadDir(filepath.Join(s.Root(), sub)); len(left) > 0 {
				t.Errorf("%s: left in %s: %v", driver, sub, left)
			}
		}
	}
}
