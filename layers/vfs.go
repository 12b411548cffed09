package layers

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"sync"

	"go.podman.io/storage"
	dircopy "go.podman.io/storage/drivers/copy"
	"golang.org/x/sys/unix"
)

// plainArea is a snapshot without overlayfs: a copy of the parent's tree, which
// is compared with it in the end. It lies in Root()/cooper/areas/NAME:
//
//	lock   held (flock) while its process lives
//	dir    the tree
//	tar    the layer's tar
//	mark   made when the copy was complete
type plainArea struct {
	s     *Store
	path  string
	lock  *os.File
	lower []dir // the parent's tree, if any
	mark  unix.Timespec
	// owners are those that the copy's files have in its container.
	owners Owners
	once   sync.Once
}

func (s *Store) newPlainArea(lower []dir, copy bool) (_ area, err error) {
	areas, err := s.Dir("areas")
	if err != nil {
		return nil, err
	}
	a := &plainArea{s: s, lower: lower}
	if a.path, err = os.MkdirTemp(areas, ""); err != nil {
		return nil, err
	}
	ownAreas.Store(a.path, nil)
	defer func() {
		if err != nil {
			err = errors.Join(err, a.remove())
		}
	}()
	if a.lock, err = os.Create(filepath.Join(a.path, "lock")); err != nil {
		return nil, err
	}
	if err := unix.Flock(int(a.lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, fmt.Errorf("lock %s: %w", a.path, err)
	}
	if err := os.Mkdir(a.upper(), 0o700); err != nil {
		return nil, err
	}
	if copy && len(lower) > 0 {
		if err := dircopy.DirCopy(lower[0].path, a.upper(), dircopy.Content, true); err != nil {
			return nil, fmt.Errorf("copy parent layer: %w", err)
		}
	}
	a.mark, err = a.now()
	return a, err
}

// now returns the file system's idea of the time.
func (a *plainArea) now() (unix.Timespec, error) {
	mark, err := os.Create(filepath.Join(a.path, "mark"))
	if err != nil {
		return unix.Timespec{}, err
	}
	defer mark.Close()
	var st unix.Stat_t
	err = unix.Fstat(int(mark.Fd()), &st)
	return st.Ctim, err
}

func (a *plainArea) upper() string { return filepath.Join(a.path, "dir") }

func (a *plainArea) rootfs([]dir) Rootfs { return Rootfs{Dir: a.upper()} }

func (a *plainArea) stream(ctx context.Context, sn *Snapshot) (_ *stream, err error) {
	files, err := openDirs(append([]dir{{path: a.upper()}}, a.lower...))
	if err != nil {
		return nil, err
	}
	defer closeFiles(files)
	spool, err := os.Create(filepath.Join(a.path, "tar"))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, spool.Close()) }()
	w, err := newStreamWriter(spool)
	if err != nil {
		return nil, err
	}
	defer w.close()
	// Marks of overlayfs mean nothing here, nor do they belong into a layer.
	c := changes{w: w, root: sn.root, xattr: a.s.overlayXattr(), limit: sn.limit, links: make(map[inode]string)}
	if len(files) == 1 {
		c.walk = walkUpper(files[0], false)
	} else {
		c.walk = a.walkChanged(files[0], files[1])
	}
	if err := c.write(ctx); err != nil {
		return nil, err
	}
	return w.finish()
}

// extract only keeps the tar: the storage library unpacks it when it makes the
// layer.
func (a *plainArea) extract(r io.Reader) (_ *stream, root bool, err error) {
	spool, err := os.Create(filepath.Join(a.path, "tar"))
	if err != nil {
		return nil, false, err
	}
	defer func() { err = errors.Join(err, spool.Close()) }()
	out := bufio.NewWriterSize(spool, foreignBuffer)
	f, err := newForeignTar(r, out)
	if err != nil {
		return nil, false, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	st, err := f.each(nil)
	return st, false, errors.Join(err, out.Flush())
}

func (a *plainArea) commit(id, parent string, st *stream) error {
	spool, err := os.Open(filepath.Join(a.path, "tar"))
	if err != nil {
		return err
	}
	defer spool.Close()
	o := storage.LayerOptions{UncompressedDigest: st.digest, OriginalDigest: st.digest}
	if st.blob.Digest != "" {
		o.OriginalDigest, o.OriginalSize = st.blob.Digest, &st.blob.Size
	}
	if _, _, err := a.s.store.PutLayer(id, parent, nil, "", false, &o, spool); err != nil {
		return err
	}
	return a.remove()
}

func (a *plainArea) remove() (err error) {
	a.once.Do(func() {
		err = os.RemoveAll(a.path)
		if a.lock != nil {
			a.lock.Close()
		}
		ownAreas.Delete(a.path)
	})
	return err
}

// walkChanged finds what differs between the parent's tree and its copy.
func (a *plainArea) walkChanged(now, before *os.File) func(context.Context, func(*item) error) error {
	return func(ctx context.Context, emit func(*item) error) error {
		w := comparison{now: now, before: before, mark: a.mark, xattr: a.s.overlayXattr(), owners: a.owners}
		changed, err := w.compareDir(".")
		if err != nil {
			return err
		}
		for _, c := range append([]change{{path: "."}}, changed...) {
			it := &item{path: c.path, name: path.Base(c.path)}
			if c.gone {
				it.kind, it.dir = itemWhiteout, (&openDir{fd: -1}).hold()
			} else if it.dir, err = openParent(now, c.path, c.dir); err != nil {
				return fmt.Errorf("open /%s: %w", c.path, err)
			}
			if c.dir || c.path == "." {
				it.name = ""
			}
			if err := emit(it); err != nil {
				return err
			}
		}
		return nil
	}
}

// openParent opens the directory an item lies in, or the directory itself.
func openParent(root *os.File, name string, isDir bool) (*openDir, error) {
	if !isDir {
		name = path.Dir(name)
	}
	fd, err := openBeneath(int(root.Fd()), name, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return nil, err
	}
	return (&openDir{fd: fd}).hold(), nil
}
