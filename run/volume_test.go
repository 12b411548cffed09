package run

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/opencontainers/runtime-spec/specs-go"

	"cooper/layers"
)

// volumeStore is a store whose base image has the directory /data, with a file in
// it, mode 0750.
func volumeStore(t *testing.T) (*Containers, layers.Image) {
	t.Helper()
	cs, base := keptStore(t)
	layer, err := cs.store.Layer(base.Layer)
	if err != nil {
		t.Fatal(err)
	}
	sn, err := cs.store.Prepare(t.Context(), layer)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(sn.Upper()+"/data/sub", 0o750); err != nil {
		t.Fatal(err)
	}
	write(t, sn.Upper()+"/data/sub/file", "from the image", 0o640)
	if layer, err = sn.Commit(t.Context()).Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	img, err := cs.store.CreateImage(t.Context(), layers.ImageOptions{Layer: layer.ID, Names: []string{"data"}})
	if err != nil {
		t.Fatal(err)
	}
	return cs, img
}

// volumeNames lists the volumes there are.
func volumeNames(t *testing.T, cs *Containers) []string {
	t.Helper()
	list, err := cs.Volumes()
	if err != nil {
		t.Fatal(err)
	}
	names := []string{}
	for _, v := range list {
		names = append(names, v.Name)
	}
	return names
}

func TestVolumes(t *testing.T) {
	cs, _ := keptStore(t)
	v, err := cs.CreateVolume("data", VolumeOptions{Labels: map[string]string{"a": "b"}})
	if err != nil {
		t.Fatal(err)
	}
	write(t, v.Mountpoint+"/kept", "x", 0o600)
	again, err := cs.CreateVolume("data", VolumeOptions{})
	if diff := cmp.Diff(v, again, cmpopts.EquateApproxTime(0)); err != nil || diff != "" {
		t.Errorf("CreateVolume again: %v (-want +got):\n%s", err, diff)
	}
	anonymous, err := cs.CreateVolume("", VolumeOptions{})
	if _, labelled := anonymous.Labels[anonymousLabel]; err != nil || !anonymous.Anonymous || len(anonymous.Name) != 64 || !labelled {
		t.Errorf("CreateVolume of an anonymous volume = %+v, %v", anonymous, err)
	}
	if got := volumeNames(t, cs); len(got) != 2 || !slices.Contains(got, "data") {
		t.Errorf("Volumes = %q", got)
	}
	// What a killed process left is no volume and goes.
	if err := os.Mkdir(filepath.Join(cs.store.Root(), "cooper", "volumes", unfinished+"x"), 0o700); err != nil {
		t.Fatal(err)
	}
	removed, _, err := cs.PruneVolumes(t.Context(), PruneOptions{Keep: func(v Volume) bool { return !v.Anonymous }})
	if err != nil || len(removed) != 1 || removed[0].Name != anonymous.Name {
		t.Errorf("PruneVolumes = %v, %v, want the anonymous one", removed, err)
	}
	if err := cs.RemoveVolume("data"); err != nil {
		t.Error(err)
	}
	if err := cs.RemoveVolume("data"); !errors.Is(err, ErrNoVolume) {
		t.Errorf("RemoveVolume again = %v", err)
	}
	if left := dirNames(t, filepath.Join(cs.store.Root(), "cooper", "volumes")); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}

func TestVolumeErrors(t *testing.T) {
	cs, _ := keptStore(t)
	if _, err := cs.CreateVolume("other", VolumeOptions{Options: map[string]string{"type": "tmpfs"}}); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name    string
		options map[string]string
	}{
		{"-x", nil},
		{"../x", nil},
		{".tmp-x", nil},
		{"ok", map[string]string{"size": "1"}},
		{"ok", map[string]string{"device": "/x"}},
		{"ok", map[string]string{"type": "none", "o": "bind"}},
		{"other", map[string]string{"type": "none", "o": "bind", "device": "/"}},
	} {
		if _, err := cs.CreateVolume(c.name, VolumeOptions{Options: c.options}); err == nil {
			t.Errorf("CreateVolume(%q, %v) succeeds", c.name, c.options)
		}
	}
	if _, err := cs.Volume("../volumes/other"); !errors.Is(err, ErrNoVolume) {
		t.Errorf("Volume of a path = %v", err)
	}
}

// A volume is filled once, when it is empty, with all that the image has at its
// place; nocopy leaves it empty.
func TestVolumeIsFilled(t *testing.T) {
	cs, img := volumeStore(t)
	make := func(m ContainerMount) (*Container, string) {
		t.Helper()
		m.Type, m.Destination = "volume", "/data"
		c := create(t, cs, img, ContainerOptions{Mounts: []ContainerMount{m}})
		return c, c.Options().Mounts[0].Source
	}
	if _, err := cs.CreateVolume("empty", VolumeOptions{}); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"", "fresh", "empty"} {
		_, source := make(ContainerMount{Name: name})
		if b, err := os.ReadFile(source + "/sub/file"); err != nil || string(b) != "from the image" {
			t.Errorf("volume %q: %q, %v", name, b, err)
		}
		if st, err := os.Stat(source); err != nil || st.Mode().Perm() != 0o750 {
			t.Errorf("volume %q: mode %v, %v, want the image's", name, st.Mode(), err)
		}
	}
	if _, source := make(ContainerMount{Name: "nocopy", NoCopy: true}); len(dirNames(t, source)) > 0 {
		t.Error("a nocopy volume is filled")
	}
	v, err := cs.CreateVolume("full", VolumeOptions{})
	if err != nil {
		t.Fatal(err)
	}
	write(t, v.Mountpoint+"/mine", "", 0o600)
	if _, source := make(ContainerMount{Name: "full"}); len(dirNames(t, source)) != 1 {
		t.Errorf("a volume with content is filled: %q", dirNames(t, source))
	}
}

func dirNames(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// Anonymous volumes go with their container if that is wanted, unless another has
// them; named ones never do.
func TestVolumesOfContainers(t *testing.T) {
	cs, img := volumeStore(t)
	c := create(t, cs, img, ContainerOptions{Mounts: []ContainerMount{
		{Type: "volume", Destination: "/a"}, {Type: "volume", Name: "named", Destination: "/b"}, {Type: "volume", Destination: "/c"},
	}})
	mine := c.Options().Mounts
	if err := cs.RemoveVolume("named"); !errors.Is(err, ErrVolumeInUse) {
		t.Errorf("RemoveVolume of one in use = %v", err)
	}
	if removed, _, err := cs.PruneVolumes(t.Context(), PruneOptions{}); err != nil || len(removed) > 0 {
		t.Errorf("PruneVolumes removes %v, %v", removed, err)
	}
	other := create(t, cs, img, ContainerOptions{Mounts: []ContainerMount{{Type: "volume", Name: mine[2].Name, Destination: "/d"}}})
	if other.Options().Mounts[0].Anonymous {
		t.Error("a volume that was named is anonymous")
	}
	if err := c.Remove(t.Context(), RemoveOptions{Volumes: true}); err != nil {
		t.Fatal(err)
	}
	want := []string{mine[2].Name, "named"}
	slices.Sort(want)
	if diff := cmp.Diff(want, volumeNames(t, cs)); diff != "" {
		t.Errorf("volumes after rm -v (-want +got):\n%s", diff)
	}
	c = create(t, cs, img, ContainerOptions{Mounts: []ContainerMount{{Type: "volume", Destination: "/a"}}})
	if err := c.Remove(t.Context(), RemoveOptions{}); err != nil {
		t.Fatal(err)
	}
	c2 := create(t, cs, img, ContainerOptions{AutoRemove: true, Mounts: []ContainerMount{{Type: "volume", Destination: "/a"}}})
	if err := c2.Remove(t.Context(), RemoveOptions{}); err != nil {
		t.Fatal(err)
	}
	want = append(want, c.Options().Mounts[0].Name)
	slices.Sort(want)
	if diff := cmp.Diff(want, volumeNames(t, cs)); diff != "" {
		t.Errorf("volumes after rm (-want +got):\n%s", diff)
	}
}

// A create that fails takes its volumes back.
func TestFailedCreateLeavesNoVolume(t *testing.T) {
	cs, img := volumeStore(t)
	_, err := cs.Create(t.Context(), ContainerOptions{Image: "data", ImageID: img.ID, Mounts: []ContainerMount{
		{Type: "volume", Destination: "/a"}, {Type: "bind", Source: "/no/such", Destination: "/b"},
	}})
	if err == nil {
		t.Fatal("Create with a missing source succeeds")
	}
	if got := volumeNames(t, cs); len(got) > 0 {
		t.Errorf("volumes left: %q", got)
	}
}

func TestMounts(t *testing.T) {
	cs, img := volumeStore(t)
	dir := t.TempDir()
	for name, options := range map[string]map[string]string{
		"bound":  {"type": "none", "device": dir, "o": "bind,ro"},
		"memory": {"type": "tmpfs", "o": "size=1m"},
	} {
		if _, err := cs.CreateVolume(name, VolumeOptions{Options: options}); err != nil {
			t.Fatal(err)
		}
	}
	c := create(t, cs, img, ContainerOptions{Mounts: []ContainerMount{
		{Type: "bind", Source: dir, Destination: "/bind", Options: []string{"bind", "ro"}},
		{Type: "bind", Source: dir, Destination: "/below", Options: []string{"ro", "norro"}},
		{Type: "bind", Source: dir + "/made", Destination: "/made", MakeSource: true},
		{Type: "tmpfs", Destination: "/tmp", Options: []string{"size=1"}},
		{Type: "volume", Name: "bound", Destination: "/bound"},
		{Type: "volume", Name: "memory", Destination: "/memory", Options: []string{"ro"}},
		{Type: "volume", Name: "part", Destination: "/data", Subpath: "sub"},
	}})
	part := c.Options().Mounts[6].Source
	if err := os.MkdirAll(part+"/real", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/real", part+"/sub"); err != nil { // stays in the volume
		t.Fatal(err)
	}
	mounts, trees, err := c.mounts()
	if err != nil || len(trees) > 0 {
		t.Fatalf("mounts = %v, %v", trees, err)
	}
	bound := bindOptions([]string{"bind", "ro"})
	want := []specs.Mount{
		{Type: "bind", Source: dir, Destination: "/bind", Options: []string{"bind", "ro"}},
		{Type: "bind", Source: dir, Destination: "/below", Options: []string{"ro"}},
		{Type: "bind", Source: dir + "/made", Destination: "/made"},
		{Type: "tmpfs", Destination: "/tmp", Options: []string{"size=1"}},
		{Type: "bind", Source: dir, Destination: "/bound", Options: bound},
		{Type: "tmpfs", Source: "tmpfs", Destination: "/memory", Options: []string{"size=1m", "ro"}},
		{Type: "bind", Source: part + "/real", Destination: "/data"},
	}
	if diff := cmp.Diff(want, mounts, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("mounts (-want +got):\n%s", diff)
	}
}

func TestMountTrees(t *testing.T) {
	cs, img := volumeStore(t)
	if cs.store.DriverName() != "overlay" {
		t.Skip("the driver is not overlay")
	}
	dir := t.TempDir()
	c := create(t, cs, img, ContainerOptions{Mounts: []ContainerMount{
		{Type: "image", Source: "data", Destination: "/image", Subpath: "data/sub/file"},
		{Type: "bind", Source: dir, Destination: "/over", Overlay: true, Options: []string{"ro"}},
	}})
	mounts, trees, err := c.mounts()
	if err != nil || len(mounts) > 0 || len(trees) != 2 {
		t.Fatalf("mounts = %v, %v, %v", mounts, trees, err)
	}
	want := []Tree{
		{Target: "/image", Path: "data/sub/file", ReadOnly: true},
		{Target: "/over", Path: ".", Dir: true, ReadOnly: true},
	}
	if diff := cmp.Diff(want, trees, cmpopts.IgnoreFields(Tree{}, "Rootfs")); diff != "" {
		t.Errorf("trees (-want +got):\n%s", diff)
	}
	if got := c.Options().Mounts[0].ImageID; got != img.ID {
		t.Errorf("id of the mounted image = %q, want %q", got, img.ID)
	}
	if got := trees[1].Rootfs.Lower; !slices.Equal(got, []string{dir}) {
		t.Errorf("lower directories = %q", got)
	}
	_, err = cs.Create(t.Context(), ContainerOptions{ImageID: img.ID, Mounts: []ContainerMount{{Type: "image", Source: "none", Destination: "/x"}}})
	if !errors.Is(err, layers.ErrNotFound) {
		t.Errorf("Create with an image that is not there = %v", err)
	}
}
