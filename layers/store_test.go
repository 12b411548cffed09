package layers

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestOpenWithoutOverlay: on a file system that cannot carry an overlay (here
// another overlay) the store is vfs, unless overlay was asked for.
func TestOpenWithoutOverlay(t *testing.T) {
	if _, ok := os.LookupEnv("STORAGE_DRIVER"); ok {
		t.Skip("STORAGE_DRIVER is set")
	}
	ctx := context.Background()
	sn := prepare(t, testStore(t, "overlay"), nil)
	root, err := sn.Mount()
	if err != nil {
		t.Fatal(err)
	}
	o := Options{Root: filepath.Join(root, "root"), RunRoot: filepath.Join(root, "run")}
	s, err := Open(ctx, o)
	if err != nil {
		t.Fatal(err)
	}
	if got := s.DriverName(); got != "vfs" {
		t.Errorf("DriverName = %s, want vfs", got)
	}
	inner := prepare(t, s, nil)
	if err := os.WriteFile(filepath.Join(inner.Upper(), "f"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := inner.Commit(ctx).Wait(ctx); err != nil {
		t.Errorf("Commit: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
	o.Driver = "overlay"
	if s, err := Open(ctx, o); err == nil {
		t.Errorf("Open with the overlay driver = %s, want an error", s.DriverName())
	} else {
		t.Log(err)
	}
}

func TestOpenErrors(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, o := range []Options{
		{Root: file, RunRoot: dir},
		{Root: filepath.Join(dir, "root"), RunRoot: dir, Driver: "nonesuch"},
		{Root: filepath.Join(dir, "root"), RunRoot: dir, DriverOptions: []string{"overlay.nonesuch=1"}},
	} {
		_, err := Open(context.Background(), o)
		if err == nil || !strings.HasPrefix(err.Error(), "open store "+o.Root+": ") {
			t.Errorf("Open(%+v) = %v, want an error that names the store", o, err)
		}
	}
}

// TestCommitErrors: a failed commit fails those above it and leaves nothing.
func TestCommitErrors(t *testing.T) {
	s := testStore(t, "overlay")
	ctx, cancel := context.WithCancelCause(context.Background())
	why := errors.New("enough")
	cancel(why)
	sn := prepare(t, s, nil)
	c := sn.Commit(ctx)
	above := prepare(t, s, nil)
	above.parent = c
	if _, err := above.Commit(context.Background()).Wait(context.Background()); !errors.Is(err, why) {
		t.Errorf("Wait above a cancelled commit = %v, want %v", err, why)
	}
	if _, err := s.Prepare(context.Background(), c); !errors.Is(err, why) {
		t.Errorf("Prepare on a cancelled commit = %v, want %v", err, why)
	}
	wh := prepare(t, s, nil)
	if err := os.WriteFile(filepath.Join(wh.Upper(), ".wh.x"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := wh.Commit(context.Background()).Wait(context.Background()); !errors.Is(err, errPath) {
		t.Errorf("Commit of .wh.x = %v, want %v", err, errPath)
	}
	if _, err := s.Layer(strings.Repeat("0", 64)); !errors.Is(err, ErrNotFound) {
		t.Errorf("Layer = %v, want ErrNotFound", err)
	}
	if left, _ := os.ReadDir(filepath.Join(s.Root(), "overlay/staging")); len(left) > 0 {
		t.Errorf("left in staging: %v", left)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Prepare(context.Background(), nil); !errors.Is(err, ErrClosed) {
		t.Errorf("Prepare on a closed store = %v, want ErrClosed", err)
	}
}

// TestSameLayerTwice: the second commit of the same content is the first one's
// layer, also while a snapshot stands on the second one's directory.
func TestSameLayerTwice(t *testing.T) {
	s := testStore(t, "overlay")
	ctx := context.Background()
	tar := tarOf(t, "f file content")
	first, err := s.Apply(ctx, "", strings.NewReader(string(tar)))
	if err != nil {
		t.Fatal(err)
	}
	sn := prepare(t, s, nil)
	st, _, err := sn.area.extract(strings.NewReader(string(tar)))
	if err != nil {
		t.Fatal(err)
	}
	sn.stream = st
	c := sn.Commit(ctx)
	above := prepare(t, s, c)
	second, err := c.Wait(ctx)
	if err != nil || second != first {
		t.Errorf("Commit = %v, %v, want %v", second, err, first)
	}
	root, err := above.Mount()
	if err != nil {
		t.Fatal(err)
	}
	if content, err := os.ReadFile(filepath.Join(root, "file")); string(content) != "content" {
		t.Errorf("file above = %q, %v", content, err)
	}
}
