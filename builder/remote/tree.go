package remote

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"
)

// Tree is a directory that was made for one build.
type Tree struct {
	// Dir holds the files.
	Dir string
	// Key names their content: trees with the same key have the same files.
	Key digest.Digest
	// Owners says that the files have owners that mean something, as those
	// of an archive do. Others belong to whoever made the tree.
	Owners bool
	// File is the name of the only file of a tree that was made of a URL
	// that gave no archive, as BuildKit calls it: "context". Else "".
	File string
	// Time is when the content was made, for SOURCE_DATE_EPOCH: that of the
	// commit, or of the archive's newest file. Zero is unknown.
	Time time.Time

	area string
	lock *os.File
	once sync.Once
	err  error
}

// Close removes the tree. Later calls do nothing.
func (t *Tree) Close() error {
	t.once.Do(func() {
		// Removing comes first: a tree is only swept by others when it is
		// not locked.
		t.err = errors.Join(removeAll(t.area), t.lock.Close())
	})
	return t.err
}

// sweepAge is how long a tree may be without a lock file: its maker has made the
// directory and is about to lock it.
const sweepAge = time.Minute

// newTree makes an empty tree.
func (c *Client) newTree() (*Tree, error) {
	dir, err := c.Store.Dir("trees")
	if err != nil {
		return nil, err
	}
	if err := sweep(dir); err != nil {
		return nil, err
	}
	area, err := os.MkdirTemp(dir, "")
	if err != nil {
		return nil, err
	}
	t := &Tree{Dir: filepath.Join(area, "files"), area: area}
	t.lock, err = os.OpenFile(filepath.Join(area, "lock"), os.O_CREATE|os.O_RDWR|os.O_EXCL, 0o600)
	if err == nil {
		err = unix.Flock(int(t.lock.Fd()), unix.LOCK_EX)
	}
	if err == nil {
		// Its mode is that of the context's root, as far as anyone sees it.
		if err = os.Mkdir(t.Dir, 0o755); err == nil {
			err = os.Chmod(t.Dir, 0o755)
		}
	}
	if err != nil {
		if t.lock != nil {
			err = errors.Join(err, t.lock.Close())
		}
		return nil, errors.Join(err, os.RemoveAll(area))
	}
	return t, nil
}

// Empty makes a tree without a file.
func (c *Client) Empty() (*Tree, error) {
	t, err := c.newTree()
	if err == nil {
		t.Key = digest.FromString("")
	}
	return t, err
}

// sweep removes the trees in dir that no process uses.
func sweep(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	var errs []error
	for _, e := range entries {
		if err := sweepTree(filepath.Join(dir, e.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, fmt.Errorf("sweep: %w", err))
		}
	}
	return errors.Join(errs...)
}

func sweepTree(area string) (err error) {
	lock, err := os.OpenFile(filepath.Join(area, "lock"), os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		info, err := os.Stat(area)
		if err != nil || time.Since(info.ModTime()) < sweepAge {
			return err
		}
		return removeAll(area)
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	if unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB) != nil {
		return nil // in use
	}
	return removeAll(area)
}

// removeAll removes dir. An archive may have directories that not even their
// owner may change, which matters to all but root.
func removeAll(dir string) error {
	err := os.RemoveAll(dir)
	if err == nil {
		return nil
	}
	_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if d != nil && d.IsDir() {
			_ = os.Chmod(path, 0o700)
		}
		return nil
	})
	return os.RemoveAll(dir)
}
