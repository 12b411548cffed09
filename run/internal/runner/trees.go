package runner

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"

	"cooper/run/internal/wire"
)

// addTrees mounts further root file systems and adds their bind mounts.
func (b *bundle) addTrees(trees []wire.Tree, files []*os.File) error {
	for i := range trees {
		t := &trees[i]
		dir := filepath.Join(b.dir, "tree"+strconv.Itoa(i))
		m := &rootfs{dir: dir, path: filepath.Join(dir, "rootfs"), req: &t.Rootfs, files: files, stubs: t.Stubs}
		if err := os.MkdirAll(m.path, 0o711); err != nil {
			return err
		}
		b.undo = append(b.undo, m.unmount)
		if err := m.mount(); err != nil {
			return fmt.Errorf("mount for %s: %w", t.Target, err)
		}
		bind := bindFile(filepath.Join(m.path, t.Path), t.Target)
		if t.ReadOnly {
			bind.Options = append(bind.Options, "ro")
		}
		b.spec.Mounts = append(b.spec.Mounts, bind)
	}
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
