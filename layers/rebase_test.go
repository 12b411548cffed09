package layers

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestRebase: a detached layer does not depend on its parent, and on another
// parent it has the same tar.
func TestRebase(t *testing.T) {
	ctx := context.Background()
	s := testStore(t, "overlay")
	base := baseLayer(t, s)
	write := func(parent Parent) Layer {
		sn := prepare(t, s, parent)
		if !sn.Detach() {
			t.Fatal("Detach = false with overlay")
		}
		// In base usr/share has its own owner and lib is a symbolic link.
		must(t, sn.Write(ctx, []Entry{fileEntry("usr/share/new", "x", 0o644), fileEntry("lib/so", "y", 0o644)}, WriteOptions{}))
		l, err := sn.Commit(ctx).Wait(ctx)
		must(t, err)
		return l
	}
	on := write(base)
	if alone := write(nil); alone.DiffID != on.DiffID {
		t.Errorf("DiffID on a parent %s, want that without one, %s", on.DiffID, alone.DiffID)
	}
	sn := prepare(t, s, nil)
	must(t, sn.Write(ctx, []Entry{fileEntry("other", "base", 0o644)}, WriteOptions{}))
	other, err := sn.Commit(ctx).Wait(ctx)
	must(t, err)
	got, err := s.Rebase(ctx, on.ID, other.ID)
	must(t, err)
	want := Layer{ID: s.LayerID(other.ID, on.DiffID), Parent: other.ID, DiffID: on.DiffID, Size: on.Size}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("Rebase: %s", diff)
	}
	checkTarTimes(t, s, got, testTime)
	for _, parent := range []string{other.ID, base.ID} { // both are there
		if l, err := s.Rebase(ctx, on.ID, parent); err != nil || l.Parent != parent {
			t.Errorf("Rebase again = %+v, %v, want one on %s", l, err, parent)
		}
	}
	if _, err := s.Rebase(ctx, strings.Repeat("0", 64), ""); !errors.Is(err, ErrNotFound) {
		t.Errorf("Rebase of an unknown layer = %v, want ErrNotFound", err)
	}
}

// BenchmarkRebase puts a layer of 2000 files of 16 KiB on new parents.
func BenchmarkRebase(b *testing.B) {
	ctx := context.Background()
	s := testStore(b, "overlay")
	content := strings.Repeat("0123456789abcdef", 1024)
	commit := func(entries []Entry) Layer {
		sn, err := s.Prepare(ctx, nil)
		must(b, err)
		must(b, sn.Write(ctx, entries, WriteOptions{}))
		l, err := sn.Commit(ctx).Wait(ctx)
		must(b, err)
		return l
	}
	var entries []Entry
	for i := range 2000 {
		entries = append(entries, fileEntry(fmt.Sprintf("d%d/f%d", i/100, i), content, 0o644))
	}
	from := commit(entries)
	b.SetBytes(from.Size)
	for i := 0; b.Loop(); i++ {
		b.StopTimer()
		parent := commit([]Entry{fileEntry(fmt.Sprintf("p%d", i), "p", 0o644)})
		b.StartTimer()
		_, err := s.Rebase(ctx, from.ID, parent.ID)
		must(b, err)
	}
}
