package runner

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"cooper/run/internal/wire"
)

// addTrees mounts further root file systems and adds their bind mounts.
func (b *bundle) addTrees(trees []wire.Tree, files []*os.File) error {
	for i := range trees {
		t := &trees[i]
		dir := filepath.Join(b.dir, "tree"+strconv.Itoa(i))
		m := &rootfs{dir: dir, path: filepath.Join(dir, "rootfs"), req: &t.Rootfs, files: files, stubs: t.Stubs, owner: b.owner}
		if err := os.MkdirAll(m.path, 0o711); err != nil {
			return err
		}
		b.undo = append(b.undo, m.unmount)
		source, err := m.mountTree(t)
		if err != nil {
			return fmt.Errorf("mount for %s: %w", t.Target, err)
		}
		bind := bindFile(source, t.Target)
		if t.ReadOnly {
			bind.Options = append(bind.Options, "ro")
		}
		b.spec.Mounts = append(b.spec.Mounts, bind)
	}
	return nil
}

// mountTree mounts r and says where what t asks for is.
func (r *rootfs) mountTree(t *wire.Tree) (string, error) {
	if t.Live {
		return filepath.Join(r.dir, "part"), r.bindPart(t.Path)
	}
	err := r.mount()
	return filepath.Join(r.path, t.Path), err
}

// bindPart binds what is at name in the plain directory of the request. Links
// are followed inside of it, whatever others do to it at this moment: what is
// opened is what is bound.
func (r *rootfs) bindPart(name string) error {
	root, err := openDir(r.req.Dir)
	if err != nil {
		return err
	}
	defer root.Close()
	fd, err := unix.Openat2(int(root.Fd()), name, &unix.OpenHow{
		Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS,
	})
	if err != nil {
		return &os.PathError{Op: "open", Path: name, Err: err}
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return os.NewSyscallError("fstat", err)
	}
	r.path = filepath.Join(r.dir, "part")
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		err = os.Mkdir(r.path, 0o711)
	} else {
		err = os.WriteFile(r.path, nil, 0o600)
	}
	if err != nil {
		return err
	}
	if err := unix.Mount("/proc/self/fd/"+strconv.Itoa(fd), r.path, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("bind %s: %w", name, err)
	}
	r.mounted = true
	return nil
}

// sortMounts puts every mount after those that it lies below.
func sortMounts(ms []specs.Mount) {
	slices.SortStableFunc(ms, func(a, b specs.Mount) int {
		return depth(a.Destination) - depth(b.Destination)
	})
}

func depth(path string) int {
	return strings.Count(filepath.Clean(path), "/")
}
