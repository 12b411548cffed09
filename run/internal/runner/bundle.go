package runner

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/opencontainers/runtime-spec/specs-go"
	"github.com/sirupsen/logrus"

	"cooper/run/internal/wire"
)

// bundle is what an engine makes a container of: a directory below the runner's and
// a spec whose mounts are complete. Its root file system is mounted later.
type bundle struct {
	dir  string
	id   string
	spec *specs.Spec // Root.Path is an empty directory as yet
	// These are the request's.
	rootlessCgroups, noCgroup, noKeyring, noPivot bool

	owner *owner // the container's
	undo  []func() error
}

// newBundle makes a request's bundle, with its trees mounted. The request is not
// changed.
func (r *runner) newBundle(req *wire.Run, files []*os.File, own *owner) (_ *bundle, err error) {
	b := &bundle{
		dir: filepath.Join(r.dir, strconv.FormatUint(r.bundles.Add(1), 36)),
		id:  req.ID, spec: ownSpec(req.Spec), rootlessCgroups: req.RootlessCgroups, noCgroup: req.NoCgroup, owner: own,
		noKeyring: req.NoKeyring, noPivot: req.NoPivot,
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, b.remove())
			b.cleanUp()
		}
	}()
	b.spec.Root.Path = filepath.Join(b.dir, "rootfs")
	if err := os.MkdirAll(b.spec.Root.Path, 0o711); err != nil {
		return nil, err
	}
	if err := b.addTrees(req.Trees, files); err != nil {
		return nil, err
	}
	if err := b.addSharedMemory(); err != nil {
		return nil, err
	}
	if err := b.addFiles(req.Files); err != nil {
		return nil, err
	}
	sortMounts(b.spec.Mounts)
	return b, nil
}

// ownSpec is a copy of s as deep as a bundle changes it.
func ownSpec(s *specs.Spec) *specs.Spec {
	c, root, linux := *s, *s.Root, *s.Linux
	c.Root, c.Linux = &root, &linux
	c.Mounts = slices.Clone(s.Mounts)
	return &c
}

// addFiles writes the small files and adds their bind mounts.
func (b *bundle) addFiles(files []wire.File) error {
	if len(files) == 0 {
		return nil
	}
	dir := filepath.Join(b.dir, "files")
	if err := os.Mkdir(dir, 0o711); err != nil {
		return err
	}
	for i, f := range files {
		path := filepath.Join(dir, strconv.Itoa(i))
		if err := os.WriteFile(path, f.Data, 0o600); err != nil {
			return err
		}
		if uid, gid := b.owner.outside(f.UID, f.GID); uid != 0 || gid != 0 {
			if err := os.Chown(path, uid, gid); err != nil {
				return fmt.Errorf("file %s: %w", f.Path, err)
			}
		}
		if err := os.Chmod(path, os.FileMode(f.Mode)); err != nil {
			return err
		}
		b.spec.Mounts = append(b.spec.Mounts, bindFile(path, f.Path))
	}
	return nil
}

// hasProcesses reports whether the container has a process id namespace.
func (b *bundle) hasProcesses() bool {
	return slices.ContainsFunc(b.spec.Linux.Namespaces, func(n specs.LinuxNamespace) bool {
		return n.Type == specs.PIDNamespace && n.Path == ""
	})
}

// remove takes the mounts away, after the last process has ended.
func (b *bundle) remove() error {
	var errs []error
	for _, undo := range slices.Backward(b.undo) {
		errs = append(errs, undo())
	}
	return errors.Join(errs...)
}

// cleanUp removes the directory, which nobody else sees. It need not be waited for.
func (b *bundle) cleanUp() {
	if err := os.RemoveAll(b.dir); err != nil {
		logrus.Warn(err)
	}
}
