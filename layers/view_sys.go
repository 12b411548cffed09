package layers

import (
	"strings"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// openat2Refused is set when the kernel has no openat2 or a seccomp filter
// forbids it, so that we ask only once.
var openat2Refused atomic.Bool

// beneathTries bounds the retries when a rename races with a lookup.
const beneathTries = 128

// openBeneath opens path, which must be clean and relative, below dir without
// following any symbolic link.
func openBeneath(dir int, path string, flags int) (int, error) {
	flags |= unix.O_NOFOLLOW | unix.O_CLOEXEC
	how := unix.OpenHow{Flags: uint64(flags), Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS}
	for range beneathTries {
		if openat2Refused.Load() {
			break
		}
		fd, err := unix.Openat2(dir, path, &how)
		switch err {
		case unix.EAGAIN, unix.EINTR:
			continue
		case unix.ENOSYS, unix.EPERM:
			openat2Refused.Store(err == unix.ENOSYS || !openat2Works())
		default:
			return fd, err
		}
		break
	}
	return openByElement(dir, path, flags)
}

// openat2Works tells an EPERM of the file system from one of a seccomp filter.
func openat2Works() bool {
	fd, err := unix.Openat2(unix.AT_FDCWD, "/", &unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC})
	if err == nil {
		unix.Close(fd)
	}
	return err == nil
}

// openByElement does what openBeneath promises with one openat per element,
// for kernels older than 5.6 and sandboxes that forbid openat2.
func openByElement(dir int, path string, flags int) (int, error) {
	at := dir
	for {
		name, rest, more := strings.Cut(path, "/")
		f := flags
		if more {
			f = unix.O_PATH | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC
		}
		fd, err := openat(at, name, f, 0)
		if at != dir {
			unix.Close(at)
		}
		if err != nil || !more {
			return fd, err
		}
		at, path = fd, rest
	}
}

// openat is openat(2), retried when a signal interrupts it.
func openat(dir int, name string, flags int, mode uint32) (int, error) {
	for {
		fd, err := unix.Openat(dir, name, flags, mode)
		if err != unix.EINTR {
			return fd, err
		}
	}
}

// read is read(2), retried when a signal interrupts it.
func read(fd int, p []byte) (int, error) {
	for {
		n, err := unix.Read(fd, p)
		if err != unix.EINTR {
			return max(n, 0), err
		}
	}
}

// readlinkat returns the target of the symbolic link name in dir.
func readlinkat(dir int, name string) (string, error) {
	for size := 128; ; size *= 4 {
		buf := make([]byte, size)
		n, err := unix.Readlinkat(dir, name, buf)
		if err != nil {
			return "", err
		}
		if n < size {
			return string(buf[:n]), nil
		}
	}
}
