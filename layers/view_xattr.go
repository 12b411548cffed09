package layers

import (
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// keepXattr reports whether layers keep the extended attribute: file
// capabilities, integrity signatures and the user's own, as containers/storage
// does. Labels of the host's security module and overlayfs's marks stay behind,
// and so do names with "=", where the key of a PAX record ends.
func keepXattr(name string) bool {
	switch name {
	case "security.capability", "security.ima":
		return true
	}
	return strings.HasPrefix(name, "user.") && !strings.HasPrefix(name, "user.overlay.") && !strings.Contains(name, "=")
}

// procName names a file in the directory fd for the calls that have no "at"
// form. The file itself is not followed by them (lgetxattr and so on).
func procName(fd int, name string) string {
	return "/proc/self/fd/" + strconv.Itoa(fd) + "/" + name
}

// maxXattr is the kernel's limit for a value and for a list of names, in bytes.
const maxXattr = 64 << 10

// xattrsAt returns the kept extended attributes of name in the directory dir,
// which is not followed; nil when there are none.
func xattrsAt(dir int, name string) (map[string]string, error) {
	var small [256]byte
	buf := small[:]
	n, err := listxattrat(dir, name, buf)
	if err == unix.ERANGE {
		buf = make([]byte, maxXattr)
		n, err = listxattrat(dir, name, buf)
	}
	if err == unix.EOPNOTSUPP || (err == nil && n == 0) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var found map[string]string
	for _, x := range strings.Split(strings.TrimSuffix(string(buf[:n]), "\x00"), "\x00") {
		if !keepXattr(x) {
			continue
		}
		value := make([]byte, maxXattr)
		m, err := unix.Lgetxattr(procName(dir, name), x, value)
		if err == unix.ENODATA {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", x, err)
		}
		if found == nil {
			found = map[string]string{}
		}
		found[x] = string(value[:m])
	}
	return found, nil
}

// sysListxattrat is the number of listxattrat(2), the same everywhere. Linux
// 6.13 has it; the way through /proc costs several times as much.
const sysListxattrat = 465

var listxattratRefused atomic.Bool

func listxattrat(dir int, name string, buf []byte) (int, error) {
	if !listxattratRefused.Load() {
		p, err := unix.BytePtrFromString(name)
		if err != nil {
			return 0, err
		}
		n, _, errno := unix.Syscall6(sysListxattrat, uintptr(dir), uintptr(unsafe.Pointer(p)), unix.AT_SYMLINK_NOFOLLOW,
			uintptr(unsafe.Pointer(&buf[0])), uintptr(len(buf)), 0)
		switch errno {
		case 0:
			return int(n), nil
		case unix.ENOSYS, unix.EPERM:
			listxattratRefused.Store(true)
		default:
			return 0, errno
		}
	}
	return unix.Llistxattr(procName(dir, name), buf)
}
