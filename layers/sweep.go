package layers

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// ownAreas holds the staging directories of this process. The locks of the
// storage library are the process's: taking one of our own again would succeed,
// and closing its file would release it.
var ownAreas sync.Map

// sweepAge is how long a directory may be without its lock file.
const sweepAge = time.Minute

// lockAge is how long a directory may have a lock file that nobody has locked.
const lockAge = time.Second

// sweep removes what processes that are gone have left: directories that they
// had locked. It costs one or two directory listings when there is nothing.
func (s *Store) sweep() error {
	return errors.Join(
		sweepDir(filepath.Join(s.Root(), "overlay", "staging"), "staging.lock", tryRecordLock),
		sweepDir(filepath.Join(s.Root(), "cooper", "areas"), "lock", tryFileLock),
	)
}

// sweepDir removes the directories in dir whose lock nobody holds.
func sweepDir(dir, lock string, try func(fd int) error) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("sweep: %w", err)
	}
	var errs []error
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		if _, ours := ownAreas.Load(path); ours {
			continue
		}
		if err := sweepArea(path, lock, try); err != nil {
			errs = append(errs, fmt.Errorf("sweep: %w", err))
		}
	}
	return errors.Join(errs...)
}

func sweepArea(path, lock string, try func(fd int) error) error {
	f, err := os.OpenFile(filepath.Join(path, lock), os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		if committed(path) {
			return os.RemoveAll(path)
		}
		// Just being made or removed, unless it has been so for long.
		if info, err := os.Stat(path); err != nil || time.Since(info.ModTime()) < sweepAge {
			return nil
		}
		return os.RemoveAll(path)
	}
	if err != nil {
		return err
	}
	defer f.Close()
	if err := try(int(f.Fd())); err != nil {
		return nil // in use
	}
	// Between making the lock file and locking it, its owner looks gone.
	if info, err := os.Stat(path); err != nil || time.Since(info.ModTime()) < lockAge {
		return nil
	}
	return os.RemoveAll(path)
}

// committed reports whether the upper directory of a staging directory of ours has
// become a layer: only the rest is there, which its process did not live to remove.
func committed(path string) bool {
	_, err := os.Lstat(filepath.Join(path, "dir"))
	if !errors.Is(err, fs.ErrNotExist) {
		return false
	}
	_, err = os.Lstat(filepath.Join(path, "work"))
	return err == nil
}

// tryRecordLock locks as the storage library does.
func tryRecordLock(fd int) error {
	return unix.FcntlFlock(uintptr(fd), unix.F_SETLK, &unix.Flock_t{Type: unix.F_WRLCK})
}

func tryFileLock(fd int) error { return unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB) }
