// Package unpack writes the entries of a layer's tar, which may come from
// anyone, into a directory.
//
// Nothing that an entry says reaches outside of that directory: every path is
// walked one element at a time from an open directory to the next, with
// O_NOFOLLOW, and a symbolic link on the way is followed as if the directory
// were the root of the file system. Files are made in their open parent with
// O_EXCL. The directories stay open, so that a path costs its walk only once.
//
// The result is what podman makes of the same tar for an overlay store:
// whiteouts become overlayfs' marks, devices are left out in a user namespace.
package unpack

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"time"

	"golang.org/x/sys/unix"
)

// Options say how a Tree is written.
type Options struct {
	// Opaque is the attribute by which overlayfs knows a directory that
	// hides what lies below it.
	Opaque string
	// UserNS leaves out what a user namespace cannot have: device files, and
	// attributes that the kernel refuses.
	UserNS bool
	// IgnoreChown gives files to ourselves whose owner the kernel refuses.
	IgnoreChown bool
}

// Tree is a directory that entries are written into. It is used by one
// goroutine, and nobody else writes there.
type Tree struct {
	options  Options
	uid, gid int
	root     *dir
	dirs     dirs
	made     []finalDir
	sawRoot  bool
	buf      []byte
}

// finalDir is a directory of the tar, whose time is set in the end.
type finalDir struct {
	path  string
	mtime time.Time
}

const bufSize = 256 << 10 // bytes

// New returns a Tree that writes into the directory root, which must be empty.
// The caller closes root after the Tree.
func New(root *os.File, o Options) *Tree {
	t := &Tree{options: o, uid: os.Geteuid(), gid: os.Getegid(), buf: make([]byte, bufSize)}
	t.root = &dir{fd: int(root.Fd())}
	t.dirs.init(t.root)
	return t
}

// Close closes the directories that are still open.
func (t *Tree) Close() { t.dirs.closeAll() }

// SawRoot reports whether an entry described the root directory itself.
func (t *Tree) SawRoot() bool { return t.sawRoot }

// Add writes one entry. What it leaves of content is of no use.
func (t *Tree) Add(h *tar.Header, content io.Reader) error {
	err := t.add(h, content)
	if err != nil {
		return fmt.Errorf("%q: %w", h.Name, err)
	}
	return nil
}

func (t *Tree) add(h *tar.Header, content io.Reader) error {
	switch h.Typeflag {
	case tar.TypeReg, tar.TypeGNUSparse, tar.TypeDir, tar.TypeSymlink, tar.TypeLink, tar.TypeChar, tar.TypeBlock, tar.TypeFifo:
	case tar.TypeXGlobalHeader:
		return nil
	default:
		return fmt.Errorf("the tar has a file of the unknown type %q", h.Typeflag)
	}
	name := path.Clean("/" + h.Name)
	if name == "/" {
		return t.addRoot(h)
	}
	parentPath, base := path.Split(name)
	parent, err := t.resolve(path.Clean(parentPath), true)
	if err != nil && !errors.Is(err, unix.ENOTDIR) {
		return err
	}
	if hidden, ok := whiteout(base); ok {
		if err != nil {
			return nil // below a file that is hidden as a whole
		}
		return t.addWhiteout(parent, hidden, h)
	}
	if t.options.UserNS && (h.Typeflag == tar.TypeChar || h.Typeflag == tar.TypeBlock) {
		if err != nil {
			return nil
		}
		return t.skipDevice(parent, base)
	}
	if err != nil {
		return err
	}
	if parent.length+1+len(base) > maxPath {
		return unix.ENAMETOOLONG
	}
	switch h.Typeflag {
	case tar.TypeDir:
		return t.addDir(parent, base, name, h)
	case tar.TypeLink:
		return t.addLink(parent, base, h)
	case tar.TypeSymlink:
		err = t.makeNew(parent, base, func() error { return unix.Symlinkat(h.Linkname, parent.fd, base) })
	case tar.TypeChar, tar.TypeBlock, tar.TypeFifo:
		return t.addNode(parent, base, h)
	default:
		return t.addFile(parent, base, h, content)
	}
	if err != nil {
		return err
	}
	return t.describe(parent, base, h, unix.S_IFLNK)
}

// addRoot describes the root directory, which is there already.
func (t *Tree) addRoot(h *tar.Header) error {
	if h.Typeflag != tar.TypeDir {
		return errors.New("the root directory cannot be anything else")
	}
	t.sawRoot = true
	t.made = append(t.made, finalDir{"/", h.ModTime})
	t.root.setgid = h.Mode&unix.S_ISGID != 0
	// It may have been made with another owner than ours.
	return t.describeOpen(t.root.fd, h, true)
}

// Finish sets the times of the directories, after the last entry.
func (t *Tree) Finish() error {
	for _, f := range t.made {
		if err := t.finishDir(f); err != nil {
			return fmt.Errorf("%q: %w", f.path, err)
		}
	}
	return nil
}

func (t *Tree) finishDir(f finalDir) error {
	if f.path == "/" {
		return futimens(t.root.fd, f.mtime)
	}
	parent, err := t.resolve(path.Dir(f.path), false)
	if err != nil {
		return err
	}
	d, err := t.enter(parent, path.Base(f.path), false)
	if err == unix.ENOTDIR || err == unix.ELOOP {
		return nil // another entry has taken its place
	}
	if err != nil {
		return err
	}
	return futimens(d.fd, f.mtime)
}
