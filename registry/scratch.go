package registry

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// scratch is a directory in the store for what is on its way: blobs as they
// arrive, archives unpacked. The directory is locked while it is in use, so that
// what a killed process left behind is known and removed by the next one.
type scratch struct {
	path string
	lock *os.File
}

// newScratch makes a scratch directory below dir and sweeps dir.
func newScratch(dir string) (*scratch, error) {
	if err := sweep(dir); err != nil {
		return nil, fmt.Errorf("remove what an interrupted pull left: %w", err)
	}
	for {
		path, err := os.MkdirTemp(dir, "")
		if err != nil {
			return nil, err
		}
		lock, err := tryLock(path)
		if err == nil {
			return &scratch{path, lock}, nil
		}
		// Between the two calls another process may have swept it.
		if !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.EWOULDBLOCK) {
			return nil, errors.Join(err, os.Remove(path))
		}
	}
}

// Close removes the directory.
func (s *scratch) Close() error {
	return errors.Join(os.RemoveAll(s.path), s.lock.Close())
}

// sweep removes the directories in dir that nobody has locked.
func sweep(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		path := filepath.Join(dir, entry.Name())
		lock, err := tryLock(path)
		if err != nil {
			continue // in use, or gone
		}
		if err := errors.Join(os.RemoveAll(path), lock.Close()); err != nil {
			return err
		}
	}
	return nil
}

// tryLock locks a directory that is still there once it is locked.
func tryLock(path string) (*os.File, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	held, err := f.Stat()
	if err == nil {
		var now fs.FileInfo
		if now, err = os.Lstat(path); err == nil && !os.SameFile(held, now) {
			err = fs.ErrNotExist
		}
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}
