//go:build !amd64

package layers

import "golang.org/x/sys/unix"

// lstatName is fstatat(2) without following links. name is NUL terminated, as
// getdents64 leaves it.
func lstatName(dir int, name []byte, st *unix.Stat_t) error {
	return unix.Fstatat(dir, string(name[:len(name)-1]), st, unix.AT_SYMLINK_NOFOLLOW)
}
