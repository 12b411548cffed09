package layers

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"

	"golang.org/x/sys/unix"
)

// ChangeKind says what a container did to a file.
type ChangeKind string

// The kinds of changes, as docker diff shows them.
const (
	Added   ChangeKind = "A"
	Changed ChangeKind = "C"
	Deleted ChangeKind = "D"
)

// Change is a difference between a container's files and its image's.
type Change struct {
	Kind ChangeKind
	// Path begins with a slash.
	Path string
}

// Changes lists what the container did to its image's files, in the order of a
// layer's tar: a directory before what is in it. A directory with changes in it is
// changed itself; the root is left out.
func (c *ContainerLayer) Changes(ctx context.Context) ([]Change, error) {
	dirs, err := c.dirs()
	if err != nil {
		return nil, err
	}
	var list []Change
	err = c.eachChange(ctx, dirs, func(change Change, _ *unix.Stat_t) { list = append(list, change) })
	if err != nil {
		return nil, fmt.Errorf("changes of container %s: %w", c.ID, err)
	}
	return list, nil
}

// Size returns how many bytes are in the files that the container wrote.
func (c *ContainerLayer) Size(ctx context.Context) (int64, error) {
	dirs, err := c.dirs()
	if err != nil {
		return 0, err
	}
	var size int64
	seen := make(map[inode]bool)
	err = c.eachChange(ctx, dirs, func(_ Change, st *unix.Stat_t) {
		if st == nil || st.Mode&unix.S_IFMT != unix.S_IFREG || st.Nlink > 1 && seen[inode{st.Dev, st.Ino}] {
			return
		}
		seen[inode{st.Dev, st.Ino}] = true
		size += st.Size
	})
	if err != nil {
		return 0, fmt.Errorf("size of container %s: %w", c.ID, err)
	}
	return size, nil
}

// DiskUsage returns how many bytes the layer takes on disk, as du counts them. With
// vfs that is all files, its image's among them.
func (c *ContainerLayer) DiskUsage(ctx context.Context) (int64, error) {
	return diskUsage(ctx, c.store.layerHome(c.layer))
}

// eachChange calls found for every change, with what the file is now.
func (c *ContainerLayer) eachChange(ctx context.Context, dirs []dir, found func(Change, *unix.Stat_t)) error {
	if !c.store.overlay {
		return c.eachCopied(dirs[0], found)
	}
	upper, err := dirs[0].open()
	if err != nil {
		return err
	}
	defer upper.Close()
	lower, err := c.store.view(dirs[1:])
	if err != nil {
		return err
	}
	defer lower.Close()
	root, err := openDirAt(int(upper.Fd()), ".")
	if err != nil {
		return err
	}
	defer root.release()
	w := changeWalk{ctx: ctx, lower: lower, marks: changes{xattr: c.store.overlayXattr()}, found: found}
	return w.dir(root.fd, "", len(dirs) > 1, false)
}

// eachCopied finds the changes in a copy of the image's files.
func (c *ContainerLayer) eachCopied(own dir, found func(Change, *unix.Stat_t)) error {
	parent, err := c.parent()
	if err != nil {
		return err
	}
	now, err := own.open()
	if err != nil {
		return err
	}
	defer now.Close()
	before, err := os.OpenFile(os.DevNull, unix.O_PATH, 0)
	if len(parent) > 0 {
		before, err = parent[0].open()
	}
	if err != nil {
		return err
	}
	defer before.Close()
	compare := comparison{now: now, before: before, xattr: c.store.overlayXattr(), owners: c.owners}
	var list []change
	if len(parent) > 0 {
		list, err = compare.compareDir(".")
	} else {
		list, err = compare.added(".", true)
	}
	if err != nil {
		return err
	}
	for _, one := range list {
		if one.path == "." {
			continue
		}
		if one.gone {
			found(Change{Deleted, "/" + one.path}, nil)
			continue
		}
		var st unix.Stat_t
		if err := unix.Fstatat(int(now.Fd()), one.path, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return err
		}
		kind := Added
		if fd, err := openBeneath(int(before.Fd()), one.path, unix.O_PATH); err == nil {
			unix.Close(fd)
			kind = Changed
		}
		found(Change{kind, "/" + one.path}, &st)
	}
	return nil
}

// changeWalk goes through an overlay upper directory.
type changeWalk struct {
	ctx   context.Context
	lower *View
	marks changes
	found func(Change, *unix.Stat_t)
}

// dir finds the changes in a directory of the upper one; was says that the image
// has a directory of this name, hidden that it does not show through.
func (w *changeWalk) dir(fd int, name string, was, hidden bool) error {
	if err := context.Cause(w.ctx); err != nil {
		return err
	}
	children, err := readChildren(fd)
	if err != nil {
		return fmt.Errorf("read directory /%s: %w", name, err)
	}
	for _, child := range children {
		err := w.entry(fd, path.Join(name, child.name), was, hidden)
		if err != nil && !errors.Is(err, unix.ENOENT) { // the container may be at work
			return fmt.Errorf("read /%s: %w", path.Join(name, child.name), err)
		}
	}
	return nil
}

// entry looks at one name in a directory.
func (w *changeWalk) entry(parent int, name string, inDir, hidden bool) error {
	var st unix.Stat_t
	if err := unix.Fstatat(parent, path.Base(name), &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	old, was, err := w.before(name, inDir)
	if err != nil {
		return err
	}
	switch {
	case w.whiteout(parent, path.Base(name), &st):
		if was {
			w.found(Change{Deleted, "/" + name}, nil)
		}
		return nil
	case was:
		w.found(Change{Changed, "/" + name}, &st)
	default:
		w.found(Change{Added, "/" + name}, &st)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return nil
	}
	sub, err := openDirAt(parent, path.Base(name))
	if err != nil {
		return err
	}
	defer sub.release()
	_, marks, err := w.marks.xattrs(sub.fd)
	if err != nil {
		return err
	}
	was, hidden = was && old.IsDir(), hidden || marks["opaque"] == "y"
	if was && hidden {
		if err := w.gone(sub.fd, name); err != nil {
			return err
		}
	}
	return w.dir(sub.fd, name, was, hidden)
}

// before describes what the image has at name. The directories above it are
// directories there too.
func (w *changeWalk) before(name string, inDir bool) (Info, bool, error) {
	if !inDir {
		return Info{}, false, nil
	}
	info, err := w.lower.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return Info{}, false, nil
	}
	return info, err == nil, err
}

// whiteout reports whether an entry of the upper directory marks a deletion.
func (w *changeWalk) whiteout(parent int, name string, st *unix.Stat_t) bool {
	if isWhiteout(st) {
		return true
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG || st.Size > 0 {
		return false
	}
	fd, err := openat(parent, name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	_, marks, err := w.marks.xattrs(fd)
	_, marked := marks["whiteout"]
	return err == nil && marked
}

// gone finds what an opaque directory hides and does not have itself.
func (w *changeWalk) gone(fd int, name string) error {
	old, err := w.lower.ReadDir(name)
	if err != nil {
		return err
	}
	for _, info := range old {
		var st unix.Stat_t
		if unix.Fstatat(fd, path.Base(info.Path), &st, unix.AT_SYMLINK_NOFOLLOW) == unix.ENOENT {
			w.found(Change{Deleted, "/" + info.Path}, nil)
		}
	}
	return nil
}

// parent returns the directories of the container's image, top first.
func (c *ContainerLayer) parent() ([]dir, error) {
	if c.Image == "" {
		return nil, nil
	}
	img, err := c.store.store.Image(c.Image)
	if err != nil {
		return nil, notFound(c.Image, err)
	}
	return c.store.layerDirs(img.TopLayer)
}

// Commit makes a layer of the changes, on top of the container's image's layers.
// The container goes on; if it runs, it should be paused meanwhile, else files may be
// in the layer as they never were, cut off or filled up with zeros.
func (c *ContainerLayer) Commit(ctx context.Context) (Layer, error) {
	layer, err := c.commit(ctx)
	if err != nil {
		return Layer{}, fmt.Errorf("commit container %s: %w", c.ID, err)
	}
	return layer, nil
}

func (c *ContainerLayer) commit(ctx context.Context) (Layer, error) {
	parent := ""
	if c.Image != "" {
		img, err := c.store.store.Image(c.Image)
		if err != nil {
			return Layer{}, notFound(c.Image, err)
		}
		parent = img.TopLayer
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	read, write := io.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		write.CloseWithError(c.writeTar(ctx, write))
	}()
	layer, err := c.store.Apply(ctx, parent, read)
	read.Close()
	<-done
	return layer, err
}

// writeTar writes the changes as a layer's tar.
func (c *ContainerLayer) writeTar(ctx context.Context, out io.Writer) error {
	own, err := c.dirs()
	if err != nil {
		return err
	}
	lower := own[1:]
	if !c.store.overlay {
		if lower, err = c.parent(); err != nil {
			return err
		}
	}
	files, err := openDirs(append(own[:1:1], lower...))
	if err != nil {
		return err
	}
	defer closeFiles(files)
	w, err := newStreamWriter(out)
	if err != nil {
		return err
	}
	defer w.close()
	x := changes{w: w, xattr: c.store.overlayXattr(), links: make(map[inode]string), root: Entry{Path: "."}, live: true, owners: c.owners}
	if len(lower) > 0 {
		if x.root, err = c.store.describeRoot(lower[0]); err != nil {
			return err
		}
	}
	switch {
	case c.store.overlay:
		x.lowers, x.walk = files[1:], walkUpper(files[0], true)
	case len(lower) == 0:
		x.walk = walkUpper(files[0], true)
	default:
		x.walk = (&plainArea{s: c.store, owners: c.owners}).walkChanged(files[0], files[1])
	}
	if err := x.write(ctx); err != nil {
		return err
	}
	st, err := w.finish()
	if err != nil {
		return err
	}
	return st.close()
}
