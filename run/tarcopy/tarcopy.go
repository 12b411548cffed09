// Package tarcopy copies files between two places by way of a tar stream, as docker
// cp does. A place is a path in a root: the host's root directory, or that of a
// container, whose processes may change it at the same time. No symbolic link and
// no change leads out of a root.
//
//	from := tarcopy.Place{Root: containerRoot, Path: "/etc/app"}
//	to := tarcopy.Place{Root: hostRoot, Path: "/tmp/copy"}
//	err := tarcopy.Copy(ctx, from, to, tarcopy.Options{})
package tarcopy

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// Place is where files come from or go to.
type Place struct {
	// Root is a directory, opened with O_PATH or for reading. It stays the
	// caller's.
	Root *os.File
	// Path is slash separated; it is relative to Root, with a slash in front
	// or without.
	Path string
	// Inside turns owners that files have here into those in the tar, Outside the
	// other way round; nil changes none.
	Inside, Outside func(uid, gid int) (int, int)
}

// Options say how to copy. The zero value is docker's default.
type Options struct {
	// Archive keeps owners; without it files belong to the user and group
	// that this process has.
	Archive bool
	// FollowLink copies what Path leads to when it is a symbolic link.
	FollowLink bool
	// OnProgress, if not nil, is told how many bytes of content have been
	// copied since its last call.
	OnProgress func(bytes int64)
}

// The errors that docker cp has for a destination that doesn't fit the source.
var (
	// ErrNotDirectory: a path ends with a slash and is not a directory's.
	ErrNotDirectory = errors.New("not a directory")
	// ErrNoDirectory: the destination ends with a slash and does not exist.
	ErrNoDirectory = errors.New("no such directory")
	// ErrCannotCopyDir: a directory is to be copied onto a file.
	ErrCannotCopyDir = errors.New("cannot copy directory")
)

// Copy copies a file or directory. A source that ends with "/." is a directory's
// content. If the destination is a directory the copy gets the source's name in
// it, else the destination's name.
func Copy(ctx context.Context, from, to Place, o Options) error {
	s, err := openSource(from, o.FollowLink)
	if err != nil {
		return err
	}
	defer s.close()
	d, name, err := openDestination(to, s)
	if err != nil {
		return err
	}
	defer d.Close()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	r, w := io.Pipe()
	done := make(chan error, 1)
	go func() {
		err := pack(ctx, s, name, w, o)
		w.CloseWithError(err)
		done <- err
	}()
	err = unpack(ctx, r, d, to.Outside, o)
	r.CloseWithError(err)
	cancel(err)
	if packed := <-done; err == nil || errors.Is(err, packed) {
		err = packed
	}
	return err
}

// WriteTar writes what Copy would copy as a tar whose names begin with the
// source's name.
func WriteTar(ctx context.Context, from Place, w io.Writer, o Options) error {
	s, err := openSource(from, o.FollowLink)
	if err != nil {
		return err
	}
	defer s.close()
	return pack(ctx, s, s.name(), w, o)
}

// ReadTar unpacks a tar into a directory that exists.
func ReadTar(ctx context.Context, r io.Reader, to Place, o Options) error {
	fd, err := openIn(to.Root, to.Path, unix.O_PATH|unix.O_DIRECTORY)
	if err == unix.ENOTDIR {
		return fmt.Errorf("%s: %w", to.Path, ErrNotDirectory)
	}
	if err != nil {
		return &os.PathError{Op: "open", Path: to.Path, Err: err}
	}
	dir := os.NewFile(uintptr(fd), to.Path)
	defer dir.Close()
	return unpack(ctx, r, dir, to.Outside, o)
}

// openIn opens a path in root as if root were the root directory.
func openIn(root *os.File, name string, flags int) (int, error) {
	if name = strings.TrimLeft(name, "/"); name == "" {
		name = "."
	}
	return unix.Openat2(int(root.Fd()), name, &unix.OpenHow{
		Flags: uint64(flags | unix.O_CLOEXEC), Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS,
	})
}

// source is an open file or directory to be copied.
type source struct {
	path string
	fd   int // O_PATH; the file itself, not what it leads to
	st   unix.Stat_t
	// owner makes the owners in the tar; nil leaves them.
	owner func(uid, gid int) (int, int)
}

// openSource opens what is to be copied. A symbolic link is followed if that is
// wanted, or if the path ends as a directory's does.
func openSource(p Place, follow bool) (*source, error) {
	flags := unix.O_PATH
	if !follow && !endsAsDir(p.Path) {
		flags |= unix.O_NOFOLLOW
	}
	fd, err := openIn(p.Root, p.Path, flags)
	if err != nil {
		return nil, &os.PathError{Op: "stat", Path: p.Path, Err: err}
	}
	s := &source{path: p.Path, fd: fd, owner: p.Inside}
	if err := unix.Fstat(fd, &s.st); err != nil {
		s.close()
		return nil, &os.PathError{Op: "stat", Path: p.Path, Err: err}
	}
	return s, nil
}

func (s *source) close() { unix.Close(s.fd) }

func (s *source) isDir() bool { return s.st.Mode&unix.S_IFMT == unix.S_IFDIR }

// content reports whether the directory's content is meant rather than the
// directory.
func (s *source) content() bool { return path.Base("/"+s.path) == "/" || endsWithDot(s.path) }

// name is the source's own name; "." for a content.
func (s *source) name() string {
	if s.content() {
		return "."
	}
	return path.Base(s.path)
}

func endsWithDot(p string) bool { return p == "." || strings.HasSuffix(p, "/.") }

// endsAsDir reports whether a path can only be a directory's.
func endsAsDir(p string) bool {
	return strings.HasSuffix(p, "/") || endsWithDot(p) || p == ".." || strings.HasSuffix(p, "/..")
}

// openDestination opens the directory that s is to be copied into, and says which
// name it gets there.
func openDestination(p Place, s *source) (dir *os.File, name string, err error) {
	at := p.Path
	for range 40 { // symbolic links, as the kernel follows them
		fd, err := openIn(p.Root, at, unix.O_PATH|unix.O_DIRECTORY)
		if err == nil {
			return os.NewFile(uintptr(fd), p.Path), s.name(), nil
		}
		if err != unix.ENOENT && err != unix.ENOTDIR {
			return nil, "", &os.PathError{Op: "open", Path: p.Path, Err: err}
		}
		switch {
		case endsAsDir(at) && err == unix.ENOTDIR:
			return nil, "", fmt.Errorf("%s: %w", p.Path, ErrNotDirectory)
		case endsAsDir(at) && !s.isDir():
			return nil, "", fmt.Errorf("%s: %w: make it first", p.Path, ErrNoDirectory)
		}
		parent, base := path.Split(strings.TrimRight(at, "/"))
		if fd, err = openIn(p.Root, parent, unix.O_PATH|unix.O_DIRECTORY); err != nil {
			return nil, "", &os.PathError{Op: "open", Path: path.Dir(p.Path), Err: err}
		}
		var st unix.Stat_t
		err = unix.Fstatat(fd, base, &st, unix.AT_SYMLINK_NOFOLLOW)
		switch {
		case err == nil && st.Mode&unix.S_IFMT == unix.S_IFLNK:
			target, err := readlinkat(fd, base)
			unix.Close(fd)
			if err != nil {
				return nil, "", &os.PathError{Op: "readlink", Path: at, Err: err}
			}
			if at = target; !path.IsAbs(target) {
				at = parent + target
			}
			continue
		case err == nil && s.isDir():
			unix.Close(fd)
			return nil, "", fmt.Errorf("%s: %w", p.Path, ErrCannotCopyDir)
		case err != nil && err != unix.ENOENT:
			unix.Close(fd)
			return nil, "", &os.PathError{Op: "stat", Path: p.Path, Err: err}
		}
		return os.NewFile(uintptr(fd), p.Path), base, nil
	}
	return nil, "", &os.PathError{Op: "open", Path: p.Path, Err: unix.ELOOP}
}

func readlinkat(dir int, name string) (string, error) {
	buf := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(dir, name, buf)
	if err != nil {
		return "", err
	}
	return string(buf[:n]), nil
}

// types are tar's for the types of files.
var types = map[uint32]byte{
	unix.S_IFREG: tar.TypeReg, unix.S_IFDIR: tar.TypeDir, unix.S_IFLNK: tar.TypeSymlink,
	unix.S_IFIFO: tar.TypeFifo, unix.S_IFCHR: tar.TypeChar, unix.S_IFBLK: tar.TypeBlock,
}
