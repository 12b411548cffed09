package run

import (
	"errors"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"cooper/layers"
)

// keptStore is a store for tests of containers, and a base image in it.
func keptStore(t testing.TB) (*Containers, layers.Image) {
	t.Helper()
	dir := t.TempDir()
	store, err := layers.Open(t.Context(), layers.Options{Root: dir + "/root", RunRoot: dir + "/run"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	sn, err := store.Prepare(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(sn.Upper()+"/old", []byte("old\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	layer, err := sn.Commit(t.Context()).Wait(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	img, err := store.CreateImage(t.Context(), layers.ImageOptions{Layer: layer.ID, Names: []string{"base"}})
	if err != nil {
		t.Fatal(err)
	}
	cs, err := OpenContainers(store)
	if err != nil {
		t.Fatal(err)
	}
	return cs, img
}

func create(t testing.TB, cs *Containers, img layers.Image, o ContainerOptions) *Container {
	t.Helper()
	o.Image, o.ImageID = "base", img.ID
	c, err := cs.Create(t.Context(), o)
	if err != nil {
		t.Fatalf("Create(%q): %v", o.Name, err)
	}
	return c
}

func TestFind(t *testing.T) {
	cs, img := keptStore(t)
	a := create(t, cs, img, ContainerOptions{Name: "web", ID: "ab1" + strings.Repeat("0", 61)})
	b := create(t, cs, img, ContainerOptions{Name: "ab", ID: "ab2" + strings.Repeat("0", 61)})
	for word, want := range map[string]*Container{
		"web": a, "/web": a, "ab": b, a.ID(): a, "ab1": a, "ab20": b, b.ID(): b,
	} {
		got, err := cs.Find(word)
		if err != nil || got.ID() != want.ID() {
			t.Errorf("Find(%q) = %v, %v, want %s", word, got, err, want.Name())
		}
	}
	for _, word := range []string{"", "we", "c", "xyz", "../names", strings.Repeat("0", 64)} {
		if got, err := cs.Find(word); !errors.Is(err, ErrNoContainer) {
			t.Errorf("Find(%q) = %v, %v, want ErrNoContainer", word, got, err)
		}
	}
	if _, err := cs.Find("a"); err == nil || !strings.Contains(err.Error(), "several") {
		t.Errorf("Find(a) = %v, want an ambiguous prefix", err)
	}
	list, err := cs.List()
	if err != nil || len(list) != 2 || list[0].ID() != b.ID() {
		t.Errorf("List() = %v, %v, want ab, web", list, err)
	}
}

func TestNames(t *testing.T) {
	cs, img := keptStore(t)
	c := create(t, cs, img, ContainerOptions{Name: "web"})
	if _, err := cs.Create(t.Context(), ContainerOptions{Name: "web", ImageID: img.ID}); !errors.Is(err, ErrNameInUse) {
		t.Errorf("second Create(web) = %v, want ErrNameInUse", err)
	}
	for _, bad := range []string{"a", "-a", "a/b", "a b", "..", "ä1"} {
		if _, err := cs.Create(t.Context(), ContainerOptions{Name: bad, ImageID: img.ID}); err == nil {
			t.Errorf("Create(%q) succeeded", bad)
		}
	}
	if ids, _ := cs.ids(); len(ids) != 1 {
		t.Errorf("failed creations left %d directories", len(ids)-1)
	}
	other := create(t, cs, img, ContainerOptions{})
	if err := other.Rename(t.Context(), "web"); !errors.Is(err, ErrNameInUse) {
		t.Errorf("Rename(web) = %v, want ErrNameInUse", err)
	}
	if err := c.Rename(t.Context(), "www"); err != nil {
		t.Fatal(err)
	}
	if _, err := cs.Find("web"); !errors.Is(err, ErrNoContainer) {
		t.Errorf("Find(old name) = %v, want ErrNoContainer", err)
	}
	if err := other.Rename(t.Context(), "web"); err != nil {
		t.Errorf("Rename to a name that is free again: %v", err)
	}
	// A link that a killed process left stands in nobody's way.
	if err := os.Symlink(strings.Repeat("1", 64), cs.nameLink("ghost")); err != nil {
		t.Fatal(err)
	}
	create(t, cs, img, ContainerOptions{Name: "ghost"})
}

func TestRemove(t *testing.T) {
	cs, img := keptStore(t)
	c := create(t, cs, img, ContainerOptions{Name: "web"})
	if _, _, err := cs.store.RemoveImage("base", false); !errors.Is(err, layers.ErrInUse) {
		t.Errorf("RemoveImage below a container = %v, want ErrInUse", err)
	}
	if err := c.Remove(t.Context(), RemoveOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := c.Remove(t.Context(), RemoveOptions{}); !errors.Is(err, ErrNoContainer) {
		t.Errorf("second Remove = %v, want ErrNoContainer", err)
	}
	if _, err := os.Lstat(c.Dir()); err == nil {
		t.Error("its directory is still there")
	}
	if _, err := c.Layer(); !errors.Is(err, layers.ErrNotFound) {
		t.Errorf("Layer() after Remove = %v, want ErrNotFound", err)
	}
	if _, _, err := cs.store.RemoveImage("base", false); err != nil {
		t.Errorf("RemoveImage = %v", err)
	}
}

// TestSweep has List remove what a creation that was killed has left.
func TestSweep(t *testing.T) {
	cs, img := keptStore(t)
	c := create(t, cs, img, ContainerOptions{Name: "web"})
	if err := os.Remove(c.Dir() + "/options.json"); err != nil {
		t.Fatal(err)
	}
	list, err := cs.List()
	if err != nil || len(list) != 0 {
		t.Errorf("List() = %v, %v, want none", list, err)
	}
	if _, err := os.Lstat(c.Dir()); err == nil {
		t.Error("the directory is still there")
	}
	if _, err := c.Layer(); !errors.Is(err, layers.ErrNotFound) {
		t.Errorf("Layer() = %v, want ErrNotFound", err)
	}
	create(t, cs, img, ContainerOptions{Name: "web"})
}

// TestDamaged has a container whose files were lost in a crash in the list, and
// removes it.
// A container that was to be removed and was not, since whoever ought to have died
// too, goes when somebody looks; one that ended just now is still its starter's.
func TestAbandoned(t *testing.T) {
	cs, img := keptStore(t)
	for name, c := range map[string]struct {
		remove bool
		ended  time.Duration
		stays  bool
	}{
		"forgotten": {remove: true, ended: time.Minute},
		"fresh":     {remove: true, stays: true},
		"kept":      {ended: time.Minute, stays: true},
	} {
		ctr := create(t, cs, img, ContainerOptions{Name: name, AutoRemove: c.remove})
		if err := ctr.writeState(State{Status: StatusExited, Finished: time.Now().Add(-c.ended)}); err != nil {
			t.Fatal(err)
		}
		_, err := ctr.State()
		if stays := err == nil; stays != c.stays {
			t.Errorf("%s: State() = %v, stays %v", name, err, stays)
		}
		if !c.stays && !errors.Is(err, ErrNoContainer) {
			t.Errorf("%s: State() = %v, want ErrNoContainer", name, err)
		}
	}
}

func TestDamaged(t *testing.T) {
	cs, img := keptStore(t)
	create(t, cs, img, ContainerOptions{Name: "good"})
	bad := create(t, cs, img, ContainerOptions{Name: "bad"})
	for _, name := range []string{"options.json", "state.json"} {
		if err := os.Truncate(bad.Dir()+"/"+name, 0); err != nil {
			t.Fatal(err)
		}
	}
	list, states, err := cs.ListStates()
	if err != nil || len(list) != 2 {
		t.Fatalf("ListStates() = %v, %v, want both", list, err)
	}
	for i, c := range list {
		if c.ID() == bad.ID() && (states[i].Status != StatusExited || states[i].Error == "") {
			t.Errorf("state of the damaged container: %+v", states[i])
		}
	}
	c, err := cs.Find(bad.ID()[:12])
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Remove(t.Context(), RemoveOptions{}); err != nil {
		t.Errorf("Remove = %v", err)
	}
	if _, err := bad.Layer(); !errors.Is(err, layers.ErrNotFound) {
		t.Errorf("Layer() after Remove = %v, want ErrNotFound", err)
	}
	create(t, cs, img, ContainerOptions{Name: "bad"})
}

// TestCreateWhileListed lists containers all the time while others are made and
// removed.
func TestCreateWhileListed(t *testing.T) {
	cs, img := keptStore(t)
	var makers sync.WaitGroup
	done := make(chan struct{})
	for range 4 {
		makers.Go(func() {
			for range 25 {
				c, err := cs.Create(t.Context(), ContainerOptions{ImageID: img.ID, Rootfs: "/nowhere"})
				if err == nil {
					err = c.Remove(t.Context(), RemoveOptions{})
				}
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	var listers sync.WaitGroup
	for range 2 {
		listers.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				if _, err := cs.List(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	makers.Wait()
	close(done)
	listers.Wait()
	if ids, err := cs.ids(); err != nil || len(ids) != 0 {
		t.Errorf("left: %v, %v", ids, err)
	}
}
