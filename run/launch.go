package run

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"cooper/run/internal/orphans"
	"cooper/run/internal/wire"
)

// Environment of the runner; package runner has the same names, but this package
// does not import it when it is embedded.
const (
	envSocket = "_COOPER_RUNNER"
	envState  = "_COOPER_STATE"
)

// program is the runner's program in a sealed file in memory, made once per
// process: nobody can change what runs in containers' first processes
// (CVE-2019-5736), and libcontainer, which looks for these seals, does not copy it
// again for each container.
var program = sync.OnceValues(func() (*os.File, error) {
	const what = "container runner's program"
	fd, err := unix.MemfdCreate("cooper-runner", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING|unix.MFD_EXEC)
	if err == unix.EINVAL { // before Linux 6.3
		fd, err = unix.MemfdCreate("cooper-runner", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, os.NewSyscallError("memfd_create", err))
	}
	f := os.NewFile(uintptr(fd), "cooper-runner")
	src, err := openProgram()
	if err == nil {
		_, err = io.Copy(f, src)
		src.Close()
	}
	if err == nil {
		err = seal(f)
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	return f, nil
})

func seal(f *os.File) error {
	if err := f.Chmod(0o511); err != nil {
		return err
	}
	const sealExec = 0x20 // F_SEAL_EXEC, Linux 6.3; a nicety
	_, _ = unix.FcntlInt(f.Fd(), unix.F_ADD_SEALS, sealExec)
	_, err := unix.FcntlInt(f.Fd(), unix.F_ADD_SEALS, unix.F_SEAL_SEAL|unix.F_SEAL_SHRINK|unix.F_SEAL_GROW|unix.F_SEAL_WRITE)
	return os.NewSyscallError("fcntl(F_ADD_SEALS)", err)
}

// programCommand executes the runner's program with extra files from descriptor 3
// on; the program itself is the one after them.
func programCommand(env []string, extra ...*os.File) (*exec.Cmd, error) {
	f, err := program()
	if err != nil {
		return nil, err
	}
	files := append(extra, f)
	return &exec.Cmd{
		Path:       "/proc/self/fd/" + strconv.Itoa(2+len(files)),
		Args:       []string{"cooper-runner"},
		Env:        env,
		ExtraFiles: files,
		Dir:        "/",
	}, nil
}

// link is a running runner.
type link struct {
	conn   *wire.Conn
	cmd    *exec.Cmd
	stderr bytes.Buffer
	log    *slog.Logger
	done   chan struct{} // closed when the runner has ended and err is set

	mu       sync.Mutex
	calls    map[uint64]*call
	lastCall uint64
	err      error
}

// call is one container at the runner.
type call struct {
	id      uint64
	events  chan wire.Event // one event for start, one for the end
	console func(*os.File)
	pidfd   *os.File
	group   *orphans.Group
	cgroups []string
}

// startLink starts the runner with a mount namespace of its own. It is in a session
// of its own too: Ctrl-C is for us to handle.
func startLink(dir string, log *slog.Logger) (*link, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("state directory: %w", err)
	}
	conn, theirs, err := wire.Pair()
	if err != nil {
		return nil, err
	}
	defer theirs.Close()
	cmd, err := programCommand([]string{envSocket + "=3", envState + "=" + dir}, theirs)
	if err != nil {
		conn.Close()
		return nil, err
	}
	l := &link{conn: conn, cmd: cmd, log: log, done: make(chan struct{}), calls: map[uint64]*call{}}
	cmd.Stderr = &l.stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Cloneflags: unix.CLONE_NEWNS}
	if err := cmd.Start(); err != nil {
		conn.Close()
		return nil, fmt.Errorf("start container runner: %w", err)
	}
	go l.serve()
	return l, nil
}

// serve reads the runner's messages until it ends.
func (l *link) serve() {
	for {
		m, err := l.conn.Recv()
		if err != nil {
			l.finish(err)
			return
		}
		l.handle(m)
	}
}

func (l *link) handle(m *wire.Message) {
	defer m.Close()
	if m.Kind == wire.KindLog {
		var g wire.Log
		if m.Decode(&g) == nil {
			l.log.Debug(g.Message, "from", "runner", "level", g.Level)
		}
		return
	}
	var e wire.Event
	if err := m.Decode(&e); err != nil {
		l.log.Error(err.Error())
		return
	}
	l.mu.Lock()
	c := l.calls[e.Call]
	if m.Kind == wire.KindEnded {
		delete(l.calls, e.Call)
	}
	l.mu.Unlock()
	if c == nil {
		return
	}
	switch m.Kind {
	case wire.KindConsole:
		if len(m.Files) == 1 {
			c.console(m.Files[0])
			m.Files = nil
		}
	case wire.KindStarted:
		c.cgroups = e.Cgroups
		if len(m.Files) > 0 {
			c.pidfd = m.Files[0]
		}
		if len(m.Files) > 1 {
			c.group = orphans.New(m.Files[1])
		}
		m.Files = nil
		c.events <- e
	case wire.KindEnded:
		c.release()
		c.events <- e
		close(c.events)
	}
}

// finish ends all calls: the runner is gone. Should it have died with containers
// running, they are killed here.
func (l *link) finish(err error) {
	l.conn.Close()
	waitErr := l.cmd.Wait()
	if err == nil || errors.Is(err, io.EOF) || errors.Is(err, os.ErrClosed) {
		err = waitErr
	}
	if err == nil {
		err = errors.New("closed")
	}
	if msg := bytes.TrimSpace(l.stderr.Bytes()); len(msg) > 0 {
		err = fmt.Errorf("%w: %s", err, msg)
	}
	l.mu.Lock()
	calls := l.calls
	l.calls, l.err = nil, fmt.Errorf("container runner: %w", err)
	l.mu.Unlock()
	for _, c := range calls {
		c.abandon()
		close(c.events)
	}
	close(l.done)
}

// abandon kills a container whose runner is gone and removes its cgroups.
func (c *call) abandon() {
	if c.pidfd == nil {
		return // it had not started; without its runner it cannot
	}
	fd := int(c.pidfd.Fd())
	unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0)
	unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 2000)
	if c.group != nil {
		c.group.Kill()
	}
	c.release()
	for _, dir := range c.cgroups {
		for i := 0; i < 20 && unix.Rmdir(dir) == unix.EBUSY; i++ {
			time.Sleep(time.Millisecond << min(i, 6))
		}
	}
}

// release closes what was kept for abandon. The group's mount namespace must not
// outlive the container: it holds its mounts.
func (c *call) release() {
	if c.pidfd != nil {
		c.pidfd.Close()
	}
	if c.group != nil {
		c.group.Close()
	}
}

// begin registers a call and sends its request.
func (l *link) begin(req *wire.Run, console func(*os.File), files []*os.File) (*call, error) {
	c := &call{events: make(chan wire.Event, 2), console: console}
	l.mu.Lock()
	if l.calls == nil {
		defer l.mu.Unlock()
		return nil, l.err
	}
	l.lastCall++
	c.id, req.Call = l.lastCall, l.lastCall
	l.calls[c.id] = c
	l.mu.Unlock()
	if err := l.conn.Send(wire.KindRun, req, files...); err != nil {
		l.mu.Lock()
		delete(l.calls, c.id)
		l.mu.Unlock()
		return nil, fmt.Errorf("container runner: %w", err)
	}
	return c, nil
}

// signal asks for a signal to a call's first process. An error means that the
// runner is gone, which the call's end tells.
func (l *link) signal(c *call, s syscall.Signal) {
	l.conn.Send(wire.KindSignal, wire.Signal{Call: c.id, Signal: int(s)})
}

// close ends the runner: it kills its containers when the socket closes.
func (l *link) close() error {
	l.conn.Close()
	<-l.done
	return nil
}

// stateDir returns the runner's directory. Many runners may use one: each covers it
// with a file system of its own, seen by nobody else.
func stateDir(o RuntimeOptions) (string, error) {
	if o.StateDir != "" {
		return filepath.Abs(o.StateDir)
	}
	if os.Geteuid() == 0 && !inUserNamespace() {
		return "/run/cooper", nil
	}
	base := os.Getenv("XDG_RUNTIME_DIR")
	if base == "" || unix.Access(base, unix.W_OK) != nil {
		base = os.TempDir()
	}
	return filepath.Join(base, "cooper-"+strconv.Itoa(hostUID())), nil
}

// discard is a nil Log's stand-in.
var discard = slog.New(slog.DiscardHandler)
