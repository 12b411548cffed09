package layers

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// lstatName is fstatat(2) without following links. name is NUL terminated, as
// getdents64 leaves it, which saves a copy for every file.
func lstatName(dir int, name []byte, st *unix.Stat_t) error {
	_, _, errno := unix.Syscall6(unix.SYS_NEWFSTATAT, uintptr(dir), uintptr(unsafe.Pointer(&name[0])),
		uintptr(unsafe.Pointer(st)), unix.AT_SYMLINK_NOFOLLOW, 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
}
