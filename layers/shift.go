package layers

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// GiveTo gives what a container is to write in, which is new, to the container's
// ids: the upper directory, or with vfs the whole tree.
func (r *Rootfs) GiveTo(o Owners) error {
	if r.Dir == "" {
		return o.give(r.Upper)
	}
	return o.GiveTree(r.Dir)
}

// GiveTree gives dir and all below it, which is as in an image, to the ids that the
// owners have outside.
func (o Owners) GiveTree(dir string) error {
	seen := make(map[inode]bool)
	return filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			return &fs.PathError{Op: "lstat", Path: path, Err: err}
		}
		if st.Nlink > 1 && st.Mode&unix.S_IFMT != unix.S_IFDIR {
			if seen[inode{st.Dev, st.Ino}] {
				return nil
			}
			seen[inode{st.Dev, st.Ino}] = true
		}
		return o.give(path)
	})
}

// give changes the owner of one file, and keeps what a change of owners takes away.
func (o Owners) give(path string) error {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return &fs.PathError{Op: "lstat", Path: path, Err: err}
	}
	dir, name := filepath.Split(path)
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return &fs.PathError{Op: "open", Path: dir, Err: err}
	}
	defer unix.Close(fd)
	kept, err := xattrsAt(fd, name)
	if err != nil {
		return err
	}
	e := Entry{Mode: st.Mode}
	e.UID, e.GID = o.Outside(st.Uid, st.Gid)
	if capability, ok := kept["security.capability"]; ok {
		e.Xattrs = map[string]string{"security.capability": capability}
	}
	return e.own(path)
}

// own gives path e's owner, mode and extended attributes.
func (e *Entry) own(path string) error {
	if err := os.Lchown(path, int(e.UID), int(e.GID)); err != nil {
		return err
	}
	if e.Type() != unix.S_IFLNK {
		if err := unix.Chmod(path, e.Mode&0o7777); err != nil {
			return &fs.PathError{Op: "chmod", Path: path, Err: err}
		}
	}
	for name, value := range e.Xattrs {
		if err := unix.Lsetxattr(path, name, []byte(value), 0); err != nil && err != unix.EOPNOTSUPP {
			return &fs.PathError{Op: "setxattr", Path: path, Err: err}
		}
	}
	return nil
}

// shiftedDir is the directory, in Dir, of the trees that ShiftLayer makes.
const shiftedDir = "shifted"

// ShiftLayer changes r, whose lower directories are those of the layer with this ID,
// so that files have the owners that o gives them: below comes one directory with
// every file of the layers. Where the kernel can do that, the content stays where it
// is. The directory is made by the first who needs it; copying is called if that
// means to copy all the files. It stays as long as an image ends with the layer, or
// until RemoveShifted.
func (s *Store) ShiftLayer(ctx context.Context, layer string, o Owners, r Rootfs, copying func()) (Rootfs, error) {
	if r.Dir != "" || layer == "" || o.same() {
		return r, nil
	}
	all, unlock, err := s.lockShifted()
	if err != nil {
		return Rootfs{}, err
	}
	defer unlock()
	refers := overlayRefers()
	tree := filepath.Join(all, shiftedName(layer, o, refers))
	if _, err := os.Stat(tree); errors.Is(err, fs.ErrNotExist) {
		if !refers && copying != nil {
			copying()
		}
		err = errors.Join(s.sweepShifted(all), s.shift(ctx, layer, o, tree, refers))
		if err != nil {
			return Rootfs{}, fmt.Errorf("change the owners of layer %s: %w", layer, err)
		}
	} else if err != nil {
		return Rootfs{}, err
	}
	if refers {
		r.Data = r.Lower
	}
	r.Lower, r.LowerFiles = []string{tree}, make([]*os.File, 1)
	return r, nil
}

// shiftedName names a tree by what it depends on.
func shiftedName(layer string, o Owners, refers bool) string {
	sum := sha256.Sum256(fmt.Append(nil, o, refers))
	return layer + "-" + hex.EncodeToString(sum[:8])
}

// RemoveShifted removes what ShiftLayer has made for these owners.
func (s *Store) RemoveShifted(layer string, o Owners) error {
	all, unlock, err := s.lockShifted()
	if err != nil {
		return err
	}
	defer unlock()
	var errs []error
	for _, refers := range []bool{true, false} {
		errs = append(errs, os.RemoveAll(filepath.Join(all, shiftedName(layer, o, refers))))
	}
	return errors.Join(errs...)
}

// SweepShifted removes the trees of images that are gone.
func (s *Store) SweepShifted() error {
	if _, err := os.Stat(filepath.Join(s.Root(), "cooper", shiftedDir)); err != nil {
		return nil
	}
	all, unlock, err := s.lockShifted()
	if err != nil {
		return err
	}
	defer unlock()
	return s.sweepShifted(all)
}

func (s *Store) sweepShifted(all string) error {
	entries, err := os.ReadDir(all)
	if err != nil {
		return err
	}
	images, err := s.store.Images()
	if err != nil {
		return err
	}
	kept := make(map[string]bool)
	for _, img := range images {
		kept[img.TopLayer] = true
	}
	var errs []error
	for _, e := range entries {
		layer, _, _ := strings.Cut(e.Name(), "-")
		if !kept[layer] {
			errs = append(errs, os.RemoveAll(filepath.Join(all, e.Name())))
		}
	}
	return errors.Join(errs...)
}

// lockShifted locks the directory of the trees.
func (s *Store) lockShifted() (dir string, unlock func(), err error) {
	if dir, err = s.Dir(shiftedDir); err != nil {
		return "", nil, err
	}
	f, err := os.Open(dir)
	if err != nil {
		return "", nil, err
	}
	for {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX)
		if err == nil {
			return dir, func() { f.Close() }, nil
		}
		if err != unix.EINTR {
			f.Close()
			return "", nil, fmt.Errorf("lock %s: %w", dir, err)
		}
	}
}

// overlayRefers reports whether a file of a lower directory may refer to its content
// in another one without any option: since Linux 6.16.
var overlayRefers = sync.OnceValue(func() bool {
	var u unix.Utsname
	var major, minor int
	if err := unix.Uname(&u); err != nil {
		return false
	}
	if n, _ := fmt.Sscanf(unix.ByteSliceToString(u.Release[:]), "%d.%d", &major, &minor); n != 2 {
		return false
	}
	return major > 6 || major == 6 && minor >= 16
})

// shift makes the tree, aside at first.
func (s *Store) shift(ctx context.Context, layer string, o Owners, tree string, refers bool) (err error) {
	v, err := s.View(layer)
	if err != nil {
		return err
	}
	defer v.Close()
	aside := filepath.Join(filepath.Dir(tree), "."+filepath.Base(tree)) // no layer's: swept if it is left
	if err := os.RemoveAll(aside); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(aside))
		}
	}()
	w := shifter{view: v, owners: o, dir: aside, mark: s.overlayXattr(), refers: refers, seen: make(map[inode]string)}
	if err := v.Walk(ctx, ".", nil, w.add); err != nil {
		return err
	}
	if err := w.endDirs(); err != nil {
		return err
	}
	return os.Rename(aside, tree)
}

// shifter writes a View's files with other owners. Nobody else knows its directory,
// and it makes every directory on the way: plain paths are safe.
type shifter struct {
	view   *View
	owners Owners
	dir    string
	mark   string // prefix of overlayfs' attributes
	refers bool
	seen   map[inode]string // first names of files with several
	dirs   []Info           // whose times are set in the end
}

func (w *shifter) add(info Info) error {
	path := filepath.Join(w.dir, info.Path)
	id := inode{info.Dev, info.Ino}
	if !info.IsDir() && info.Nlink > 1 {
		if first, ok := w.seen[id]; ok {
			return os.Link(first, path)
		}
		w.seen[id] = path
	}
	e, err := w.view.Entry(info)
	if err != nil {
		return err
	}
	e.UID, e.GID = w.owners.Outside(e.UID, e.GID)
	switch err := w.make(path, &e); {
	case err == unix.EPERM && (e.Type() == unix.S_IFCHR || e.Type() == unix.S_IFBLK):
		return nil // an ordinary user has no device nodes
	case err != nil:
		return &fs.PathError{Op: "make", Path: path, Err: err}
	}
	if err := e.own(path); err != nil {
		return err
	}
	if w.refers && e.IsRegular() && e.Size > 0 {
		if err := w.refer(path, info.Path); err != nil {
			return err
		}
	}
	if e.IsDir() {
		w.dirs = append(w.dirs, info)
		return nil
	}
	return w.setTime(&info)
}

// make makes the file with its content.
func (w *shifter) make(path string, e *Entry) error {
	switch e.Type() {
	case unix.S_IFDIR:
		return unix.Mkdir(path, 0o700)
	case unix.S_IFLNK:
		return unix.Symlink(e.Linkname, path)
	case unix.S_IFREG:
		return w.makeRegular(path, e)
	}
	return unix.Mknod(path, e.Mode, int(e.Rdev))
}

func (w *shifter) makeRegular(path string, e *Entry) (err error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if w.refers {
		return f.Truncate(e.Size)
	}
	in, err := e.Open()
	if err != nil {
		return err
	}
	defer in.Close()
	_, err = io.Copy(f, in)
	return err
}

// refer has overlayfs take a file's content from the same path in the data
// directories, of which the first with a file there is the one.
func (w *shifter) refer(path, name string) error {
	for attribute, value := range map[string]string{"metacopy": "", "redirect": "/" + name} {
		if err := unix.Lsetxattr(path, w.mark+attribute, []byte(value), 0); err != nil {
			return &fs.PathError{Op: "setxattr", Path: path, Err: err}
		}
	}
	return nil
}

// endDirs sets the times of directories, to which nothing is added any more.
func (w *shifter) endDirs() error {
	for i := range w.dirs {
		if err := w.setTime(&w.dirs[i]); err != nil {
			return err
		}
	}
	return nil
}

func (w *shifter) setTime(info *Info) error {
	at := unix.NsecToTimespec(info.ModTime.UnixNano())
	path := filepath.Join(w.dir, info.Path)
	err := unix.UtimesNanoAt(unix.AT_FDCWD, path, []unix.Timespec{at, at}, unix.AT_SYMLINK_NOFOLLOW)
	if err != nil {
		return &fs.PathError{Op: "utimensat", Path: path, Err: err}
	}
	return nil
}
