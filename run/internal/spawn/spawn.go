// Package spawn starts the runner: its program goes into a sealed file in memory,
// and a process of it is started with a mount namespace of its own.
//
// Where the program is embedded (build tag embedrunner) a command that is about to
// run a container begins with that before its other packages are initialised, see
// early.go; that is why this package imports so little.
package spawn

import (
	"bytes"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"cooper/run/internal/wire"
)

// Environment of the runner; package runner has the same names, but this package
// does not import it when it is embedded.
const (
	envSocket = "_COOPER_RUNNER"
	envState  = "_COOPER_STATE"
)

// Program is the runner's program in a sealed file in memory, made once per
// process: nobody can change what runs in containers' first processes
// (CVE-2019-5736), and libcontainer, which looks for these seals, does not copy it
// again for each container. A monitor that lives has one already: see Keep.
var Program = sync.OnceValues(func() (*os.File, error) {
	if f := sharedProgram(embedded()); f != nil {
		return f, nil
	}
	return InMemory("cooper-runner", openProgram)
})

// InMemory copies a program into a sealed file in memory of that name.
func InMemory(name string, open func() (io.ReadCloser, error)) (*os.File, error) {
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING|unix.MFD_EXEC)
	if err == unix.EINVAL { // before Linux 6.3
		fd, err = unix.MemfdCreate(name, unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	}
	if err != nil {
		return nil, fmt.Errorf("program %s: %w", name, os.NewSyscallError("memfd_create", err))
	}
	f := os.NewFile(uintptr(fd), name)
	src, err := open()
	if err == nil {
		_, err = io.Copy(f, src)
		src.Close()
	}
	if err == nil {
		err = seal(f)
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("program %s: %w", name, err)
	}
	return f, nil
}

func seal(f *os.File) error {
	if err := f.Chmod(0o511); err != nil {
		return err
	}
	const sealExec = 0x20 // F_SEAL_EXEC, Linux 6.3; a nicety
	_, _ = unix.FcntlInt(f.Fd(), unix.F_ADD_SEALS, sealExec)
	_, err := unix.FcntlInt(f.Fd(), unix.F_ADD_SEALS, unix.F_SEAL_SEAL|unix.F_SEAL_SHRINK|unix.F_SEAL_GROW|unix.F_SEAL_WRITE)
	return os.NewSyscallError("fcntl(F_ADD_SEALS)", err)
}

// titleRoom is how many empty arguments the runner gets: a container's monitor has
// a longer name in the list of processes, and nowhere else to put it.
const titleRoom = 120

// Command returns a command that executes the runner's program with extra files from descriptor 3
// on; the program itself is the one after them.
func Command(env []string, extra ...*os.File) (*exec.Cmd, error) {
	f, err := Program()
	if err != nil {
		return nil, err
	}
	files := append(extra, f)
	return &exec.Cmd{
		Path:       "/proc/self/fd/" + strconv.Itoa(2+len(files)),
		Args:       append([]string{"cooper-runner"}, make([]string, titleRoom)...),
		Env:        env,
		ExtraFiles: files,
		Dir:        "/",
	}, nil
}

// Process is a runner.
type Process struct {
	Conn   *wire.Conn
	Cmd    *exec.Cmd
	Stderr *bytes.Buffer // complete when Cmd has been waited for
}

// early is a runner that was started before anybody asked; only the first Start
// may take it.
var early = func() *Process { return nil }

// Start starts a runner with the state directory dir. It is in a session of its
// own: Ctrl-C is for us to handle. It ends when Conn is closed, or this process
// dies.
func Start(dir string) (*Process, error) {
	if dir == DefaultDir() {
		if p := early(); p != nil {
			return p, nil
		}
	}
	return start(dir)
}

// StartPlain starts a runner that can run processes by chroot(2) only, where there is
// no mount namespace to be had.
func StartPlain() (*Process, error) { return start("") }

func start(dir string) (*Process, error) {
	namespaces := uintptr(unix.CLONE_NEWNS)
	if dir == "" {
		namespaces = 0
	} else if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("state directory: %w", err)
	}
	conn, theirs, err := wire.Pair()
	if err != nil {
		return nil, err
	}
	defer theirs.Close()
	cmd, err := Command([]string{envSocket + "=3", envState + "=" + dir}, theirs)
	if err != nil {
		conn.Close()
		return nil, err
	}
	p := &Process{Conn: conn, Cmd: cmd, Stderr: &bytes.Buffer{}}
	cmd.Stderr = p.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Cloneflags: namespaces}
	if os.Getenv("NOTIFY_SOCKET") != "" && notifies(os.Args) && os.Getpid() != 1 {
		// systemd will be told that it is the service's main process, and
		// believes in the end of its own children only.
		cmd.SysProcAttr.Cloneflags |= unix.CLONE_PARENT
	}
	// What this process was given by whoever started it, the end of a pipe say, is
	// not for a monitor that outlives it.
	_ = unix.CloseRange(3, math.MaxInt32, unix.CLOSE_RANGE_CLOEXEC)
	if err := cmd.Start(); err != nil {
		conn.Close()
		return nil, fmt.Errorf("start container runner: %w", err)
	}
	return p, nil
}

// DefaultDir is the usual state directory. Many runners may use one: each covers it
// with a file system of its own in its own mount namespace. A user's is where the
// storage library has its files too: where nothing says otherwise, in a session
// without XDG_RUNTIME_DIR say, it is the same as in others.
func DefaultDir() string {
	if os.Geteuid() == 0 && !InUserNamespace() {
		return "/run/cooper"
	}
	uid := strconv.Itoa(HostUID())
	for _, base := range []string{os.Getenv("XDG_RUNTIME_DIR"), "/run/user/" + uid} {
		if base != "" && unix.Access(base, unix.W_OK) == nil {
			return filepath.Join(base, "cooper-"+uid)
		}
	}
	return filepath.Join(os.TempDir(), "cooper-"+uid)
}
