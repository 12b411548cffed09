package runner

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// trees are the further root file systems of a container.
type trees []*rootfs

// addTrees mounts the requested trees and adds their bind mounts. What it
// returns must be unmounted, also after an error.
func (c *container) addTrees() (trees, error) {
	var ts trees
	for i := range c.req.Trees {
		t := &c.req.Trees[i]
		dir := filepath.Join(c.dir, "tree"+strconv.Itoa(i))
		if err := os.Mkdir(dir, 0o711); err != nil {
			return ts, err
		}
		m := &rootfs{dir: dir, req: &t.Rootfs, files: c.files, stubs: t.Stubs}
		ts = append(ts, m)
		if err := m.mount(); err != nil {
			return ts, fmt.Errorf("mount for %s: %w", t.Target, err)
		}
		bind := bindFile(filepath.Join(m.path, t.Path), t.Target)
		if t.ReadOnly {
			bind.Options = append(bind.Options, "ro")
		}
		c.req.Spec.Mounts = append(c.req.Spec.Mounts, bind)
	}
	return ts, nil
}

func (ts trees) unmount() error {
	var errs []error
	for _, m := range ts {
		errs = append(errs, m.unmount())
	}
	return errors.Join(errs...)
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
