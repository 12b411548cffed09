package run

import (
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// watch waits for what happens to a file that is rotated and to the process that
// writes it, asleep in the kernel.
type watch struct {
	name    string // the file's, in the watched directory
	inotify int
	process int // pidfd of the process, or -1
	wake    [2]int
	stop    func() bool
	buf     []byte

	renamed bool // there may be another file of that name
	ended   bool // the process has
}

// newWatch watches the file dir/name, which may be missing, until ctx ends.
func newWatch(ctx context.Context, dir, name string) (_ *watch, err error) {
	w := &watch{name: name, inotify: -1, process: -1, wake: [2]int{-1, -1}, stop: func() bool { return true }, buf: make([]byte, 16<<10)}
	defer func() {
		if err != nil {
			w.close()
		}
	}()
	if w.inotify, err = unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK); err != nil {
		return nil, fmt.Errorf("follow: %w (sysctl fs.inotify.max_user_instances says how many may do so at once)", os.NewSyscallError("inotify_init1", err))
	}
	if _, err = unix.InotifyAddWatch(w.inotify, dir, unix.IN_MODIFY|unix.IN_CREATE|unix.IN_MOVED_TO|unix.IN_ONLYDIR); err != nil {
		return nil, fmt.Errorf("follow: %w", os.NewSyscallError("inotify_add_watch", err))
	}
	var pipe [2]int
	if err = unix.Pipe2(pipe[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		return nil, fmt.Errorf("follow: %w", os.NewSyscallError("pipe2", err))
	}
	w.wake = pipe
	w.stop = context.AfterFunc(ctx, w.interrupt)
	return w, nil
}

// interrupt ends a wait, and those to come.
func (w *watch) interrupt() { unix.Write(w.wake[1], []byte{0}) }

func (w *watch) close() {
	w.stop()
	for _, fd := range []int{w.inotify, w.process, w.wake[0], w.wake[1]} {
		if fd >= 0 {
			unix.Close(fd)
		}
	}
}

// attend watches for the end of a process.
func (w *watch) attend(pid int) error {
	fd, err := unix.PidfdOpen(pid, 0)
	if err == unix.ESRCH {
		w.ended = true
		return nil
	}
	if err != nil {
		return fmt.Errorf("follow: %w", os.NewSyscallError("pidfd_open", err))
	}
	w.process = fd
	return nil
}

// wait waits until something has happened or the time until has come; the zero Time
// never does.
func (w *watch) wait(ctx context.Context, until time.Time) error {
	timeout := -1
	if !until.IsZero() {
		left := time.Until(until)
		if left <= 0 {
			return errRecordsEnd
		}
		timeout = int(min(left.Milliseconds()+1, 1<<30))
	}
	fds := []unix.PollFd{
		{Fd: int32(w.inotify), Events: unix.POLLIN}, {Fd: int32(w.wake[0]), Events: unix.POLLIN}, {Fd: int32(w.process), Events: unix.POLLIN},
	}
	_, err := unix.Poll(fds, timeout)
	if err != nil && err != unix.EINTR {
		return fmt.Errorf("follow: %w", os.NewSyscallError("poll", err))
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if fds[2].Revents != 0 {
		w.ended = true
	}
	return w.read()
}

// read takes note of what has happened in the directory.
func (w *watch) read() error {
	for {
		n, err := unix.Read(w.inotify, w.buf)
		if err == unix.EAGAIN {
			return nil
		}
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return fmt.Errorf("follow: %w", os.NewSyscallError("read", err))
		}
		for rest := w.buf[:n]; len(rest) >= unix.SizeofInotifyEvent; {
			mask := binary.NativeEndian.Uint32(rest[4:])
			size := unix.SizeofInotifyEvent + int(binary.NativeEndian.Uint32(rest[12:]))
			name := strings.TrimRight(string(rest[unix.SizeofInotifyEvent:size]), "\x00")
			rest = rest[size:]
			w.renamed = w.renamed || mask&unix.IN_Q_OVERFLOW != 0 || name == w.name && mask&unix.IN_MODIFY == 0
		}
	}
}
