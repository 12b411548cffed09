package uplink

import (
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// StartOptions say how a network process is started.
type StartOptions struct {
	// Program returns the program's file, which Start closes.
	Program func() (*os.File, error)
	// Namespace is the one of a process that was killed; nil has the new one
	// make another.
	Namespace *os.File
	// Started is called with the new process's id; nil calls nothing.
	Started func(pid int) error
}

// revival is how long Start leaves it to those who use a process that was killed to
// start the next one, since they have its namespace.
const revival = 500 * time.Millisecond

// Start joins the network process of a run directory, and starts it if there is
// none. Whoever joins before the Hold is closed finds it running.
func Start(runDir string, o StartOptions) (*Hold, error) {
	for end := time.Now().Add(revival); ; time.Sleep(revival / 20) {
		lock, err := takeLock(runDir)
		if err != nil {
			return nil, err
		}
		hold, err := Join(runDir)
		if errors.Is(err, ErrNotRunning) {
			_, statErr := os.Lstat(filepath.Join(runDir, SocketName))
			if killed := statErr == nil; killed && o.Namespace == nil && time.Now().Before(end) {
				lock.Close()
				continue
			}
			if err = start(runDir, o); err == nil {
				hold, err = Join(runDir)
			}
		}
		lock.Close()
		return hold, err
	}
}

func openLock(runDir string) (*os.File, error) {
	return os.OpenFile(filepath.Join(runDir, LockName), os.O_CREATE|os.O_RDWR, 0o600)
}

func takeLock(runDir string) (*os.File, error) {
	lock, err := openLock(runDir)
	if err != nil {
		return nil, err
	}
	for err = unix.EINTR; err == unix.EINTR; {
		err = unix.Flock(int(lock.Fd()), unix.LOCK_EX)
	}
	if err != nil {
		lock.Close()
		return nil, os.NewSyscallError("flock", err)
	}
	return lock, nil
}

// start starts the process. The lock is held. The socket exists before the process
// does, so that it can be joined at once.
func start(runDir string, o StartOptions) error {
	listener, err := Listen(runDir)
	if err != nil {
		return fmt.Errorf("start network process: %w", err)
	}
	defer listener.Close()
	socket, err := listener.File()
	if err != nil {
		return fmt.Errorf("start network process: %w", err)
	}
	defer socket.Close()
	lock, err := openLock(runDir)
	if err != nil {
		return err
	}
	defer lock.Close()
	program, err := o.Program()
	if err != nil {
		return err
	}
	defer program.Close()
	// A mount namespace of its own, which it empties, and a session of its own:
	// it outlives this process.
	cmd := exec.Cmd{
		Path:        "/proc/self/fd/" + strconv.Itoa(ProgramFD),
		Args:        []string{"cooper-network"},
		Env:         []string{Env + "=" + runDir},
		Dir:         "/",
		ExtraFiles:  []*os.File{ListenerFD - 3: socket, LockFD - 3: lock, ProgramFD - 3: program},
		SysProcAttr: &syscall.SysProcAttr{Setsid: true, Cloneflags: unix.CLONE_NEWNS},
	}
	if o.Namespace != nil {
		// A container's monitor takes its children for the container's: this one
		// is its sibling.
		cmd.SysProcAttr.Cloneflags |= unix.CLONE_PARENT
		cmd.Env = append(cmd.Env, EnvAdopt+"=1")
		cmd.ExtraFiles = append(cmd.ExtraFiles, o.Namespace)
	}
	// What this process was given by whoever started it, the end of a pipe say, is
	// not for a process that outlives it.
	_ = unix.CloseRange(3, math.MaxInt32, unix.CLOSE_RANGE_CLOEXEC)
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start network process: %w", err)
	}
	if o.Started != nil {
		err = o.Started(cmd.Process.Pid)
	}
	return errors.Join(err, cmd.Process.Release())
}

// KeepAlive starts the network process again whenever it ends before the Hold is
// closed. It is called once at most.
func (h *Hold) KeepAlive(runDir string) {
	h.kept.Go(func() {
		var pause time.Duration
		for began := time.Now(); h.watch(pause); began = time.Now() {
			next, err := Start(runDir, StartOptions{
				Program:   func() (*os.File, error) { return duplicate(h.program) },
				Namespace: h.Namespace,
			})
			if err == nil {
				h.take(next)
			}
			// One that ends as soon as it is there is not tried again and again.
			if pause = 2*pause + 100*time.Millisecond; time.Since(began) > pause {
				pause = 0
			}
			pause = min(pause, 30*time.Second)
		}
	})
}

// watch waits until the process has ended, and then for a pause. False says that the
// Hold was closed.
func (h *Hold) watch(pause time.Duration) bool {
	h.mu.Lock()
	conn := h.conn
	h.mu.Unlock()
	conn.Read(make([]byte, 1))
	select {
	case <-h.closed:
		return false
	default:
	}
	select {
	case <-h.closed:
		return false
	case <-time.After(pause):
		return true
	}
}

// take replaces the connection by that of another Hold.
func (h *Hold) take(next *Hold) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.conn.Close()
	h.conn = next.conn
	select {
	case <-h.closed:
		h.conn.Close()
	default:
	}
	next.Namespace.Close()
	next.program.Close()
}

func duplicate(f *os.File) (*os.File, error) {
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("fcntl(F_DUPFD_CLOEXEC)", err)
	}
	return os.NewFile(uintptr(fd), f.Name()), nil
}
