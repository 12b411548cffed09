package layers

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// View reads a stack of directories as overlayfs would merge them, without a
// mount: a file hides all below it, a whiteout hides and is hidden, a
// directory merges with those below unless it is marked opaque. A View of one
// directory serves build contexts.
//
// The trees are not trusted. Symbolic links are resolved inside the root, ".."
// stays in it, and no rename or link made while a View reads can lead it out.
// Nothing is kept between calls, so a View of a directory that changes shows
// the change; a file that vanishes while it is read is an error that answers
// errors.Is(err, fs.ErrNotExist).
//
// Names are slash separated and relative to the root; a leading slash is
// allowed. A View may be used concurrently.
type View struct {
	layers []*os.File // O_PATH, top first
	// opaque and whiteout are the names of the xattrs that mark a directory
	// as opaque and a regular file as deleted.
	opaque   []string
	whiteout []string
	live     bool // see Live
	// owners are those that files of the top layer have in their container.
	owners Owners
}

// overlayXattrPrefixes are the two places where overlayfs keeps its marks: the
// second when mounted with userxattr.
var overlayXattrPrefixes = []string{"trusted.overlay.", "user.overlay."}

// OpenView opens a View of dirs, the top layer first. Without dirs it is an
// empty directory. The directories may be renamed while the View is open.
// Close must be called.
func OpenView(dirs ...string) (*View, error) {
	files := make([]*os.File, 0, len(dirs))
	for _, dir := range dirs {
		f, err := os.OpenFile(dir, unix.O_PATH|unix.O_DIRECTORY, 0)
		if err != nil {
			for _, f := range files {
				f.Close()
			}
			return nil, fmt.Errorf("open layer directory: %w", err)
		}
		files = append(files, f)
	}
	return newView(files), nil
}

// newView returns a View of dirs, top first, and owns them. prefixes say which
// overlay xattrs count; none means both trusted and user.
func newView(dirs []*os.File, prefixes ...string) *View {
	if len(prefixes) == 0 {
		prefixes = overlayXattrPrefixes
	}
	v := &View{layers: dirs}
	for _, p := range prefixes {
		v.opaque = append(v.opaque, p+"opaque")
		v.whiteout = append(v.whiteout, p+"whiteout")
	}
	return v
}

// Live makes walks and tars bear with others changing the tree: what vanishes
// meanwhile is left out, and a file whose size changes has the one it had when it was
// found, cut off or filled up with zeros. It returns v, and must be called before
// anything else.
func (v *View) Live() *View {
	v.live = true
	return v
}

// OwnedBy gives the entries of the top layer the owners that files have in the user
// namespace of the container that wrote it. It returns v, and must be called before
// anything else.
func (v *View) OwnedBy(o Owners) *View {
	v.owners = o
	return v
}

// gone reports whether err says that a file has vanished and v bears with that.
func (v *View) gone(err error) bool { return v.live && errors.Is(err, fs.ErrNotExist) }

// Close releases the directories. The View must not be in use.
func (v *View) Close() error {
	var errs []error
	for _, f := range v.layers {
		errs = append(errs, f.Close())
	}
	v.layers = nil
	return errors.Join(errs...)
}

// Lstat describes name without following it if it is a symbolic link; links
// before the last element are followed.
func (v *View) Lstat(name string) (Info, error) {
	return v.stat("lstat", name, false)
}

// Stat describes the file name leads to.
func (v *View) Stat(name string) (Info, error) {
	return v.stat("stat", name, true)
}

func (v *View) stat(op, name string, follow bool) (Info, error) {
	loc, err := v.locate(name, follow)
	if err == nil {
		err = loc.why
	}
	if err != nil {
		return Info{}, &fs.PathError{Op: op, Path: name, Err: err}
	}
	return loc.info, nil
}

// Resolve returns the path that name leads to: relative to the root, clean,
// and free of symbolic links, those in its last element included. What does
// not exist is kept as it is, so that the result can be created; ".." after it
// takes it away again. The root is ".". Too many links are an error that answers errors.Is(err, unix.ELOOP).
func (v *View) Resolve(name string) (string, error) {
	loc, err := v.locate(name, true)
	if err != nil {
		return "", &fs.PathError{Op: "resolve", Path: name, Err: err}
	}
	return loc.path, nil
}

// Readlink returns the target of the symbolic link name.
func (v *View) Readlink(name string) (string, error) {
	info, err := v.stat("readlink", name, false)
	if err != nil {
		return "", err
	}
	if !info.IsSymlink() {
		return "", &fs.PathError{Op: "readlink", Path: name, Err: unix.EINVAL}
	}
	return info.Linkname, nil
}

// Open opens the regular file that name leads to. Any other type is an error.
func (v *View) Open(name string) (*os.File, error) {
	info, err := v.stat("open", name, true)
	if err != nil {
		return nil, err
	}
	fd, err := v.openRegular(&info)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	return os.NewFile(uintptr(fd), name), nil
}

// ReadFile returns the content of the regular file that name leads to. More than
// 16 MiB are an error: images are foreign, and a file without content may have any
// size.
func (v *View) ReadFile(name string) (content []byte, err error) {
	f, err := v.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	content, err = io.ReadAll(io.LimitReader(f, maxReadFile+1))
	if err == nil && len(content) > maxReadFile {
		return nil, &fs.PathError{Op: "read", Path: name, Err: unix.EFBIG}
	}
	return content, err
}

// maxReadFile is how much ReadFile reads, in bytes.
const maxReadFile = 16 << 20

// ReadDir returns the files in the directory that name leads to, sorted by
// name.
func (v *View) ReadDir(name string) ([]Info, error) {
	loc, err := v.locate(name, true)
	if err == nil {
		err = loc.why
	}
	if err == nil && !loc.info.IsDir() {
		err = unix.ENOTDIR
	}
	if err != nil {
		return nil, &fs.PathError{Op: "readdir", Path: name, Err: err}
	}
	l, err := v.list(loc.path, nil)
	if err != nil {
		return nil, &fs.PathError{Op: "readdir", Path: name, Err: err}
	}
	return l.infos, nil
}

// Xattrs returns the extended attributes of name that a layer keeps (see
// keepXattr), by full name. Name is not followed if it is a symbolic link. It
// is nil when there are none.
func (v *View) Xattrs(name string) (map[string]string, error) {
	info, err := v.stat("xattrs", name, false)
	if err != nil {
		return nil, err
	}
	x, err := v.xattrs(&info)
	if err != nil {
		return nil, &fs.PathError{Op: "xattrs", Path: name, Err: err}
	}
	return x, nil
}

// Walk calls fn for root and everything below it: a directory before its
// content, names in byte order. Links in root's parents are followed, root
// itself is not. Before it looks into a directory's content it asks skip, if
// not nil, about every name in it: what skip returns true for is left out
// together with everything below. fn may return fs.SkipDir for a directory, to
// leave out its content, or fs.SkipAll to end the walk. Both are called from
// Walk's own goroutine; directories are read ahead by others.
func (v *View) Walk(ctx context.Context, root string, skip func(path string, isDir bool) bool, fn func(Info) error) error {
	info, err := v.stat("walk", root, false)
	if err != nil {
		return err
	}
	w := newWalk(v, skip, fn)
	defer w.stop()
	err = w.run(ctx, info)
	if err == fs.SkipAll || err == fs.SkipDir {
		return nil
	}
	return err
}

// elements splits name into its path elements, without empty ones and ".".
func elements(name string) []string {
	parts := strings.Split(name, "/")
	kept := parts[:0]
	for _, p := range parts {
		if p != "" && p != "." {
			kept = append(kept, p)
		}
	}
	return kept
}
