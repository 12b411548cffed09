package layers

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	digest "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"
)

// endlessCommits is the process that TestKill kills: it prepares, mounts,
// writes and commits, several at a time, and unpacks foreign layers meanwhile.
func endlessCommits(dir, driver string) {
	ctx := context.Background()
	s, err := Open(ctx, Options{Root: filepath.Join(dir, "root"), RunRoot: filepath.Join(dir, "run"), Driver: driver})
	if err != nil {
		panic(err)
	}
	fmt.Println("ready")
	for i := 0; ; i++ {
		var parent Parent
		for range 4 {
			sn, err := s.Prepare(ctx, parent)
			if err != nil {
				panic(err)
			}
			root, err := sn.Mount()
			if err != nil {
				panic(err)
			}
			content := bytes.Repeat([]byte(fmt.Sprint(os.Getpid(), i, " ")), 20_000)
			if err := os.WriteFile(filepath.Join(root, fmt.Sprint("f", rand.Int())), content, 0o644); err != nil {
				panic(err)
			}
			parent = sn.Commit(ctx)
		}
		l, err := parent.Wait(ctx)
		if err != nil {
			panic(err)
		}
		if l, err = unpackSome(ctx, s, l); err != nil {
			panic(err)
		}
		if _, err := s.CreateImage(ctx, ImageOptions{Names: []string{"app"}, Layer: l.ID}); err != nil {
			panic(err)
		}
	}
}

// unpackSome puts layers on l that are unpacked at the same time.
func unpackSome(ctx context.Context, s *Store, l Layer) (Layer, error) {
	var unpacked [3]*Unpacked
	g, gctx := errgroup.WithContext(ctx)
	for i := range unpacked {
		g.Go(func() (err error) {
			var buf bytes.Buffer
			w := tar.NewWriter(&buf)
			for n := range 50 {
				content := fmt.Sprint(rand.Int())
				w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: fmt.Sprintf("dir%d/file%d", n%7, n), Mode: 0o644, Size: int64(len(content))})
				io.WriteString(w, content)
			}
			w.Close()
			unpacked[i], err = s.Unpack(gctx, &buf)
			return err
		})
	}
	err := g.Wait()
	for _, u := range unpacked {
		if err == nil {
			l, err = u.Commit(ctx, l.ID, ocispec.Descriptor{})
		}
	}
	return l, err
}

// TestKill: after kill -9 at any moment the store opens, all that is in it is
// whole, podman reads it, and nothing is left over or mounted.
func TestKill(t *testing.T) {
	rounds := 12
	if testing.Short() {
		rounds = 3
	}
	for _, driver := range []string{"overlay", "vfs"} {
		t.Run(driver, func(t *testing.T) {
			s := testStore(t, driver)
			dir := filepath.Dir(s.Root())
			for range rounds {
				killOne(t, dir, driver)
			}
			o := Options{Root: s.Root(), RunRoot: s.RunRoot(), Driver: driver}
			again, err := Open(context.Background(), o)
			if err != nil {
				t.Fatal(err)
			}
			checkAllLayers(t, again)
			if os.Getuid() == 0 && !Rootless() {
				peer(t, "podman", "--root", s.Root(), "--runroot", s.RunRoot(), "--storage-driver", driver, "images", "-a")
			}
			if err := again.Close(); err != nil {
				t.Errorf("Close: %v", err)
			}
			age(t, filepath.Join(s.Root(), "overlay/staging"))
			age(t, filepath.Join(s.Root(), "cooper/areas"))
			if again, err = Open(context.Background(), o); err != nil {
				t.Fatal(err)
			}
			if err := again.Close(); err != nil {
				t.Errorf("Close: %v", err)
			}
			for _, sub := range []string{"overlay/staging", "cooper/areas"} {
				if left, _ := os.ReadDir(filepath.Join(s.Root(), sub)); len(left) > 0 {
					t.Errorf("left in %s: %v", sub, left)
				}
			}
			mounts, err := os.ReadFile("/proc/self/mountinfo")
			if err != nil || strings.Contains(string(mounts), dir+"/root/overlay/staging") {
				t.Errorf("mounts are left: %v\n%s", err, mounts)
			}
		})
	}
}

// age makes the directories in dir older than what is swept only when it is old: a
// process may have been killed between making one and locking it.
func age(t *testing.T, dir string) {
	t.Helper()
	entries, _ := os.ReadDir(dir)
	old := time.Now().Add(-2 * sweepAge)
	for _, e := range entries {
		if err := os.Chtimes(filepath.Join(dir, e.Name()), old, old); err != nil {
			t.Error(err)
		}
	}
}

func killOne(t *testing.T, dir, driver string) {
	t.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), "COOPER_TEST_KILL="+dir, "COOPER_TEST_DRIVER="+driver)
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	io.ReadFull(out, make([]byte, len("ready\n")))
	time.Sleep(time.Duration(rand.Intn(100)) * time.Millisecond)
	cmd.Process.Kill()
	cmd.Wait()
	if stderr.Len() > 0 {
		t.Errorf("before it was killed: %s", stderr.Bytes())
	}
}

func checkAllLayers(t *testing.T, s *Store) {
	t.Helper()
	all, err := s.store.Layers()
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d layers", len(all))
	for _, l := range all {
		if l.UncompressedDigest == "" {
			continue // a pin
		}
		rc, err := s.Diff(context.Background(), l.ID)
		if err != nil {
			t.Error(err)
			continue
		}
		got, err := digest.FromReader(rc)
		rc.Close()
		if got != l.UncompressedDigest || err != nil {
			t.Errorf("Diff(%s) = %s, %v, want %s", l.ID, got, err, l.UncompressedDigest)
		}
	}
	if _, err := s.Images(); err != nil {
		t.Errorf("Images: %v", err)
	}
}
