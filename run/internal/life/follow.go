package life

import (
	"os"

	"golang.org/x/sys/unix"
)

// Who follows a log has a read lock on the newest file that it has open. As long as
// that is so, the file is not to be removed: what follows it has not been opened.
// The lock is one of the open file, and needs no right to write.

// Follow marks a file that is open.
func Follow(f *os.File) error {
	return unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_RDLCK})
}

// Unfollow takes the mark away.
func Unfollow(f *os.File) {
	_ = unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_UNLCK}) // closing it does so too
}

// Followed reports whether somebody follows the file of this name in dir, and knows
// of none that is newer.
func Followed(dir *os.File, name string) bool {
	fd, err := unix.Openat(int(dir.Fd()), name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	l := unix.Flock_t{Type: unix.F_WRLCK}
	return unix.FcntlFlock(uintptr(fd), unix.F_OFD_GETLK, &l) == nil && l.Type != unix.F_UNLCK
}
