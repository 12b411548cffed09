package output

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"syscall"

	"cooper/layers"
)

// local writes the files of a layer and those below it into the directory dest.
// An ordinary user's files are all the user's own, as with BuildKit; root's keep
// their owners.
func (e *Exporter) local(ctx context.Context, layer, dest string) error {
	view, err := e.Store.View(layer)
	if err != nil {
		return err
	}
	defer view.Close()
	return writeDir(dest, func(dir string) error {
		left, err := view.Extract(ctx, dir, layers.ExtractOptions{Own: layers.Rootless(), OnProgress: e.counter()})
		if s := left.String(); s != "" && err == nil {
			e.logf("left out: %s, which this user may not make there", s)
		}
		return err
	})
}

// writeDir lets fill make the content of a directory, which then becomes dest or
// is merged into it.
func writeDir(dest string, fill func(dir string) error) (err error) {
	if to, err := filepath.EvalSymlinks(dest); err == nil {
		dest = to
	}
	exists := isDir(dest)
	in := dest
	if !exists {
		in = filepath.Dir(filepath.Clean(dest))
		if err := os.MkdirAll(in, 0o777); err != nil {
			return err
		}
	}
	part, err := os.MkdirTemp(in, ".cooper-*")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, removeTree(part)) }()
	if err := fill(part); err != nil {
		return err
	}
	if !exists {
		return os.Rename(part, dest)
	}
	root, err := os.OpenRoot(dest)
	if err != nil {
		return err
	}
	defer root.Close()
	return merge(root, filepath.Base(part), ".")
}

// removeTree removes a tree whose directories need not be writable.
func removeTree(dir string) error {
	if err := os.RemoveAll(dir); err == nil {
		return nil
	}
	_ = filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if d != nil && d.IsDir() {
			_ = os.Chmod(p, 0o700)
		}
		return nil
	})
	return os.RemoveAll(dir)
}

// replaceLayout lets fill write an image layout: a new one appears when it is
// complete, one that is there is added to.
func replaceLayout(dest string, fill func(dir string) error) error {
	if isDir(dest) {
		return fill(dest)
	}
	return writeDir(dest, func(dir string) error {
		if err := os.Chmod(dir, 0o755); err != nil {
			return err
		}
		return fill(dir)
	})
}

// merge moves the content of the directory from to the directory to, both in
// root. A directory merges with one that is there; anything else replaces what
// is there. Neither follows a link out of root.
func merge(root *os.Root, from, to string) error {
	f, err := root.Open(from)
	if err != nil {
		return err
	}
	names, err := f.ReadDir(-1)
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	for _, entry := range names {
		if err := mergeOne(root, path.Join(from, entry.Name()), path.Join(to, entry.Name())); err != nil {
			return err
		}
	}
	return nil
}

func mergeOne(root *os.Root, src, dst string) error {
	there, err := root.Lstat(dst)
	if errors.Is(err, fs.ErrNotExist) {
		return move(root, src, dst)
	}
	if err != nil {
		return err
	}
	ours, err := root.Lstat(src)
	if err != nil {
		return err
	}
	switch {
	case ours.IsDir() && there.IsDir():
		return mergeDir(root, src, dst, ours)
	case ours.IsDir() != there.IsDir():
		if err := root.RemoveAll(dst); err != nil {
			return err
		}
	}
	return move(root, src, dst)
}

// move renames. The directories of a tree need not be writable for their owner,
// which a directory that changes its parent must be.
func move(root *os.Root, src, dst string) error {
	err := root.Rename(src, dst)
	if !errors.Is(err, fs.ErrPermission) {
		return err
	}
	info, statErr := root.Lstat(src)
	if statErr != nil || !info.IsDir() {
		return err
	}
	if err := root.Chmod(src, 0o700); err != nil {
		return err
	}
	if err := root.Rename(src, dst); err != nil {
		return err
	}
	return root.Chmod(dst, info.Mode())
}

// mergeDir merges src into dst, which gets the metadata of src.
func mergeDir(root *os.Root, src, dst string, info fs.FileInfo) error {
	if err := root.Chmod(src, 0o700); err != nil { // so that files can leave it
		return err
	}
	if err := merge(root, src, dst); err != nil {
		return err
	}
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		if err := root.Lchown(dst, int(st.Uid), int(st.Gid)); err != nil && !errors.Is(err, fs.ErrPermission) {
			return fmt.Errorf("chown: %w", err)
		}
	}
	if err := root.Chmod(dst, info.Mode()); err != nil {
		return err
	}
	return root.Chtimes(dst, info.ModTime(), info.ModTime())
}
