package run

import (
	"errors"
	"io"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// readIn reads a file in a root.
func readIn(t *testing.T, root *os.File, name string) string {
	t.Helper()
	f, err := openIn(root, name, unix.O_RDONLY)
	if err != nil {
		t.Fatalf("open %s: %v", name, err)
	}
	defer f.Close()
	b, err := io.ReadAll(f)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func openIn(root *os.File, name string, flags int) (*os.File, error) {
	fd, err := unix.Openat2(int(root.Fd()), name, &unix.OpenHow{Flags: uint64(flags), Mode: map[bool]uint64{true: 0o644}[flags&unix.O_CREAT != 0], Resolve: unix.RESOLVE_IN_ROOT})
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), name), nil
}

// A container that does not run is opened with its volumes and the host's
// directories, and nothing of that stays.
func TestOpenRoot(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs the right to mount")
	}
	cs, img := volumeStore(t)
	dir := t.TempDir()
	write(t, dir+"/host", "of the host", 0o644)
	c := create(t, cs, img, ContainerOptions{Mounts: []ContainerMount{
		{Type: "volume", Name: "data", Destination: "/data"},
		{Type: "bind", Source: dir, Destination: "/deep/below/bind", Options: []string{"ro"}},
		{Type: "bind", Source: dir + "/host", Destination: "/one"},
		{Type: "tmpfs", Destination: "/tmp"},
	}})
	mounted := mountCount(t)
	for i := range 2 {
		root, err := c.OpenRoot(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for name, want := range map[string]string{
			"old": "old\n", "data/sub/file": "from the image", "deep/below/bind/host": "of the host", "one": "of the host",
		} {
			if got := readIn(t, root.File, name); got != want {
				t.Errorf("%s = %q, want %q", name, got, want)
			}
		}
		if _, err := openIn(root.File, "deep/below/bind/new", unix.O_CREAT|unix.O_WRONLY); !errors.Is(err, unix.EROFS) {
			t.Errorf("create in a read-only mount: %v", err)
		}
		for _, name := range []string{"data/new", "new"} {
			f, err := openIn(root.File, name, unix.O_CREAT|unix.O_WRONLY)
			if err != nil {
				t.Fatal(err)
			}
			f.Close()
		}
		if got := mountCount(t); got != mounted {
			t.Errorf("%d mounts are seen, want %d as before", got, mounted)
		}
		if err := root.Close(); err != nil {
			t.Errorf("Close %d: %v", i, err)
		}
	}
	if _, err := os.Stat(c.Options().Mounts[0].Source + "/new"); err != nil {
		t.Error(err)
	}
	upper, err := c.Layer()
	if err != nil {
		t.Fatal(err)
	}
	written, err := upper.Upper()
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(dirNames(t, written), " "); got != "new" {
		t.Errorf("the layer holds %q, want what was written only", got)
	}
	r, err := c.Rootfs()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(r.Work + "/work"); r.Work != "" && !os.IsNotExist(err) {
		t.Errorf("the work directory is left as a volatile overlay refuses it: %v", err)
	}
	lock, err := c.lock()
	if err != nil {
		t.Fatalf("the container is still locked: %v", err)
	}
	lock.Close()
	if _, err := os.Stat(c.RunDir()); !os.IsNotExist(err) {
		t.Errorf("the run directory is left: %v", err)
	}
}

func mountCount(t *testing.T) int {
	t.Helper()
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	return strings.Count(string(b), "\n")
}
