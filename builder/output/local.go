package output

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/containerd/platforms"

	"cooper/layers"
)

// platformTree is where the files for a platform go: the directory dir of the output, ""
// for its top.
type platformTree struct {
	view     *layers.View
	dir      string
	platform string
}

// trees opens the files of the product. The caller calls close.
func (e *Exporter) trees(ctx context.Context, p Product, o Output) (all []platformTree, close func(), err error) {
	close = func() {
		for _, t := range all {
			_ = t.view.Close()
		}
	}
	split := p.Index
	if o.PlatformSplit != nil {
		split = *o.PlatformSplit
	}
	for _, img := range p.Images {
		view, err := e.Store.View(img.Layer)
		if err != nil {
			return all, close, err
		}
		t := platformTree{view: view, platform: platforms.FormatAll(platforms.Normalize(img.Config.Platform))}
		if split {
			t.dir = strings.ReplaceAll(t.platform, "/", "_")
		}
		all = append(all, t)
	}
	if split || len(all) < 2 {
		return all, close, nil
	}
	return all, close, checkDistinct(ctx, all)
}

// checkDistinct finds a file that is in two of the trees, which are to share a
// directory.
func checkDistinct(ctx context.Context, all []platformTree) error {
	from := map[string]string{}
	for _, t := range all {
		err := t.view.Walk(ctx, ".", nil, func(info layers.Info) error {
			if other, ok := from[info.Path]; ok && !info.IsDir() {
				return fmt.Errorf("cannot overwrite %s from %s with %s when split option is disabled", info.Path, other, t.platform)
			}
			if !info.IsDir() {
				from[info.Path] = t.platform
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// local writes the files of the product into a directory. An ordinary user's files
// are all the user's own, as with BuildKit; root's keep their owners.
func (e *Exporter) local(ctx context.Context, p Product, o Output) error {
	trees, closeTrees, err := e.trees(ctx, p, o)
	defer closeTrees()
	if err != nil {
		return err
	}
	progress := e.counter()
	for _, t := range trees {
		err := writeDir(filepath.Join(o.Dest, t.dir), func(dir string) error {
			left, err := t.view.Extract(ctx, dir, layers.ExtractOptions{Own: layers.Rootless(), OnProgress: progress})
			if s := left.String(); s != "" && err == nil {
				e.logf("left out: %s, which this user may not make there", s)
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// tar writes the files of the product as a tar.
func (e *Exporter) tar(ctx context.Context, p Product, o Output) error {
	trees, closeTrees, err := e.trees(ctx, p, o)
	defer closeTrees()
	if err != nil {
		return err
	}
	parts := make([]layers.Tree, len(trees))
	for i, t := range trees {
		parts[i] = layers.Tree{View: t.view, Dir: t.dir}
	}
	return WriteFile(o.Dest, e.Stdout, func(w io.Writer) error {
		return layers.WriteTars(ctx, w, layers.WriteOptions{OnProgress: e.counter()}, parts...)
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
