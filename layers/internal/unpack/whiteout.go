package unpack

import (
	"archive/tar"
	"errors"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	whiteoutPrefix = ".wh."
	opaqueMarker   = ".wh..wh..opq"
)

// whiteout returns the name that a file's name hides.
func whiteout(base string) (string, bool) { return strings.CutPrefix(base, whiteoutPrefix) }

// addWhiteout hides a name in parent, or all that lower layers have in it.
func (t *Tree) addWhiteout(parent *dir, hidden string, h *tar.Header) error {
	if whiteoutPrefix+hidden == opaqueMarker {
		return unix.Fsetxattr(parent.fd, t.options.Opaque, []byte("y"), 0)
	}
	if hidden == "" || hidden == "." || hidden == ".." {
		return errors.New("the whiteout names no file")
	}
	if err := unix.Mknodat(parent.fd, hidden, unix.S_IFCHR, 0); err != nil {
		return err
	}
	if !t.needsChown(parent, h) {
		return nil
	}
	return t.ignore(unix.Fchownat(parent.fd, hidden, h.Uid, h.Gid, unix.AT_SYMLINK_NOFOLLOW))
}
