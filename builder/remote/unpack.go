package remote

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"cooper/layers"
)

// Unpack makes a tree of a tar, plain or compressed with gzip, bzip2, xz or
// zstd. Its Key is the digest of the bytes read, which are all that r has. Names
// that lead out of the tree are an error, as is writing through a link that
// does. Device files, pipes and sockets are left out: no context can have them
// copied.
func (c *Client) Unpack(ctx context.Context, r io.Reader) (_ *Tree, err error) {
	t, err := c.newTree()
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, t.Close())
		}
	}()
	sum := digest.SHA256.Digester()
	whole := io.TeeReader(&contextReader{ctx, r}, sum.Hash())
	plain, err := layers.Decompress(whole)
	if err != nil {
		return nil, fmt.Errorf("decompress: %w", err)
	}
	defer func() { _ = plain.Close() }()
	root, err := os.OpenRoot(t.Dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	u := unpacker{root: root, dirs: map[string]*tar.Header{}}
	if err := u.extract(plain); err != nil {
		return nil, err
	}
	// What follows the end of the archive belongs to its digest too.
	if _, err := io.Copy(io.Discard, onlyReader{plain}); err != nil {
		return nil, fmt.Errorf("read archive: %w", err)
	}
	if err := plain.Close(); err != nil { // ends its reading ahead
		return nil, err
	}
	if _, err := io.Copy(io.Discard, whole); err != nil {
		return nil, err
	}
	t.Key, t.Time, t.Owners = sum.Digest(), u.newest, true
	return t, nil
}

// onlyReader hides a WriteTo: that of the gzip reader crashes when something was
// read before.
type onlyReader struct{ io.Reader }

// contextReader ends a stream when the context does.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (c *contextReader) Read(p []byte) (int, error) {
	if err := context.Cause(c.ctx); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}

// unpacker writes the entries of an archive below root.
type unpacker struct {
	root *os.Root
	// dirs are the directories seen; they get their modes when all is written.
	dirs   map[string]*tar.Header
	order  []string
	newest time.Time
}

func (u *unpacker) extract(r io.Reader) error {
	tr := tar.NewReader(r)
	for {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fmt.Errorf("read archive: %w", err)
		}
		if err := u.add(h, tr); err != nil {
			return fmt.Errorf("unpack %q: %w", h.Name, err)
		}
	}
	for i := len(u.order) - 1; i >= 0; i-- {
		name := u.order[i]
		info, err := u.root.Lstat(name)
		if err != nil || !info.IsDir() {
			continue // something else took its place
		}
		if err := u.finish(name, u.dirs[name]); err != nil {
			return fmt.Errorf("unpack %q: %w", name, err)
		}
	}
	return nil
}

var errOutside = errors.New("the name leads out of the archive")

// local makes a name of an archive relative; "." is the archive's root. Many
// archives have names with a leading slash, none that means well has "..".
func local(name string) (string, error) {
	if strings.IndexByte(name, 0) >= 0 {
		return "", errors.New("NUL byte in name")
	}
	p := path.Clean(strings.TrimLeft(name, "/"))
	if p == ".." || strings.HasPrefix(p, "../") {
		return "", errOutside
	}
	return p, nil
}

func (u *unpacker) add(h *tar.Header, content io.Reader) error {
	name, err := local(h.Name)
	if err != nil {
		return err
	}
	if h.Typeflag == tar.TypeDir {
		return u.dir(name, h)
	}
	if name == "." {
		return nil
	}
	switch h.Typeflag {
	case tar.TypeReg, tar.TypeGNUSparse, tar.TypeSymlink, tar.TypeLink:
	default:
		return nil // devices, pipes, global headers
	}
	if err := u.makeRoom(name); err != nil {
		return err
	}
	switch h.Typeflag {
	case tar.TypeSymlink:
		if err := u.root.Symlink(h.Linkname, name); err != nil {
			return err
		}
		return u.finish(name, h)
	case tar.TypeLink:
		target, err := local(h.Linkname)
		if err != nil {
			return fmt.Errorf("link to %q: %w", h.Linkname, err)
		}
		return u.root.Link(target, name)
	}
	if h.ModTime.After(u.newest) {
		u.newest = h.ModTime
	}
	return u.file(name, h, content)
}

// makeRoom removes what is in the way of name and makes the directories above.
func (u *unpacker) makeRoom(name string) error {
	if dir := path.Dir(name); dir != "." {
		if err := u.root.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	err := u.root.RemoveAll(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

func (u *unpacker) dir(name string, h *tar.Header) error {
	if name != "." {
		info, err := u.root.Lstat(name)
		if err != nil || !info.IsDir() {
			if err := u.makeRoom(name); err != nil {
				return err
			}
			if err := u.root.Mkdir(name, 0o755); err != nil {
				return err
			}
		}
	}
	if u.dirs[name] == nil {
		u.order = append(u.order, name)
	}
	u.dirs[name] = h
	return nil
}

// file writes a regular file. Changing the owner takes away capabilities and
// set-id bits, so it comes before them.
func (u *unpacker) file(name string, h *tar.Header, content io.Reader) error {
	f, err := u.root.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, content)
	if err == nil {
		err = ownerError(f.Chown(h.Uid, h.Gid))
	}
	if err == nil {
		err = setXattrs(f, h)
	}
	if err == nil {
		err = f.Chmod(fileMode(h.Mode))
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return u.root.Chtimes(name, h.ModTime, h.ModTime)
}

// finish sets owner, mode and time of a directory or symbolic link.
func (u *unpacker) finish(name string, h *tar.Header) error {
	if err := ownerError(u.root.Lchown(name, h.Uid, h.Gid)); err != nil {
		return err
	}
	if h.Typeflag == tar.TypeSymlink {
		return nil
	}
	if err := u.root.Chmod(name, fileMode(h.Mode)); err != nil {
		return err
	}
	return u.root.Chtimes(name, h.ModTime, h.ModTime)
}

// ownerError forgives an owner that this user namespace does not have: it
// becomes root, as files of a directory have it.
func ownerError(err error) error {
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EPERM) {
		return nil
	}
	return err
}

// fileMode is the permission part of a tar header's mode.
func fileMode(mode int64) os.FileMode {
	m := os.FileMode(mode & 0o777)
	for bit, is := range map[int64]os.FileMode{unix.S_ISUID: os.ModeSetuid, unix.S_ISGID: os.ModeSetgid, unix.S_ISVTX: os.ModeSticky} {
		if mode&bit != 0 {
			m |= is
		}
	}
	return m
}

// setXattrs sets the extended attributes that a copy would keep. A file system
// that can't hold them, and an ordinary user's lack of rights, lose them.
func setXattrs(f *os.File, h *tar.Header) error {
	for k, v := range h.PAXRecords {
		name, ok := strings.CutPrefix(k, "SCHILY.xattr.")
		if !ok || name != "security.capability" && !strings.HasPrefix(name, "user.") {
			continue
		}
		err := unix.Fsetxattr(int(f.Fd()), name, []byte(v), 0)
		if err != nil && err != unix.ENOTSUP && err != unix.EPERM {
			return fmt.Errorf("extended attribute %s: %w", name, err)
		}
	}
	return nil
}
