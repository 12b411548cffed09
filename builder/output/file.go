package output

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// WriteFile lets write make the file dest, or write to stdout if dest is
// Stdout. The file appears, or replaces the one that is there, when it is
// complete: until then it has no name at all where the file system allows that.
// What is no regular file, a pipe or a device, is written to as it is; a
// symbolic link leads to the file that is replaced.
func WriteFile(dest string, stdout io.Writer, write func(io.Writer) error) error {
	if dest == Stdout {
		return write(stdout)
	}
	if to, err := filepath.EvalSymlinks(dest); err == nil {
		dest = to
	}
	info, err := os.Stat(dest)
	if err == nil && !info.Mode().IsRegular() {
		return writeThrough(dest, write)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := newUnnamed(filepath.Dir(dest))
	if err != nil {
		return fmt.Errorf("write %s: %w", dest, err)
	}
	if info != nil {
		err = f.Chmod(info.Mode().Perm())
	}
	if err == nil {
		err = write(f)
	}
	if err == nil {
		err = f.rename(dest)
	}
	return errors.Join(err, f.discard())
}

// writeThrough writes to what is there.
func writeThrough(dest string, write func(io.Writer) error) error {
	f, err := os.OpenFile(dest, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	return errors.Join(write(f), f.Close())
}

// unnamed is a file that has no name yet, or a temporary one.
type unnamed struct {
	*os.File
	temporary string // "" if it has none
}

func newUnnamed(dir string) (*unnamed, error) {
	fd, err := unix.Open(dir, unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o666)
	if err == nil {
		return &unnamed{File: os.NewFile(uintptr(fd), filepath.Join(dir, "unnamed"))}, nil
	}
	// Not CreateTemp, whose mode is not the user's choice.
	name := filepath.Join(dir, ".cooper-"+rand.Text())
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return nil, err
	}
	return &unnamed{File: f, temporary: name}, nil
}

// rename gives the file its name.
func (u *unnamed) rename(name string) error {
	if u.temporary == "" {
		// A link cannot replace a file: it takes a name to rename.
		dir, err := os.MkdirTemp(filepath.Dir(name), ".cooper-*")
		if err != nil {
			return err
		}
		defer os.Remove(dir)
		temporary := filepath.Join(dir, "file")
		if err := unix.Linkat(unix.AT_FDCWD, fmt.Sprintf("/proc/self/fd/%d", u.Fd()), unix.AT_FDCWD, temporary, unix.AT_SYMLINK_FOLLOW); err != nil {
			return &fs.PathError{Op: "link", Path: name, Err: err}
		}
		u.temporary = temporary
		defer func() { _ = u.discardName() }()
	}
	if err := os.Rename(u.temporary, name); err != nil {
		return err
	}
	u.temporary = ""
	return nil
}

func (u *unnamed) discardName() error {
	if u.temporary == "" {
		return nil
	}
	name := u.temporary
	u.temporary = ""
	return os.Remove(name)
}

// discard closes the file, which is gone unless it has got its name.
func (u *unnamed) discard() error {
	return errors.Join(u.discardName(), u.Close())
}
