// Package runner is the process that makes containers for a Runtime: it holds
// libcontainer and nothing else, so that it is small and a container's first
// process, which is this program executed again, starts fast.
//
// It has a mount namespace of its own in which it mounts a tmpfs over its state
// directory and there, for each container, the root file system. Mounts of the
// host are still received (slave propagation), none is sent back. When it ends, in
// whatever way, the namespace and every mount in it are gone.
//
// Main serves one connection: each KindRun message runs a container in its own
// goroutine, and KindEnded is sent when nothing is left of it. At end-of-file, that
// is when the Runtime's process has closed the socket or died, all containers are
// killed and removed. With a message life.KindStart instead it becomes the monitor
// of one container: see type monitor.
package runner

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	_ "github.com/opencontainers/cgroups/devices" // device rules
	"github.com/opencontainers/runc/libcontainer"
	_ "github.com/opencontainers/runc/libcontainer/nsenter" // namespaces, in C
	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"

	"cooper/run/internal/life"
	"cooper/run/internal/stage"
	"cooper/run/internal/wire"
)

// EnvSocket names the descriptor of the socket and makes a process the runner;
// EnvState names the state directory. Without one the runner has no mount namespace
// and runs processes by chroot(2) only.
const (
	EnvSocket = "_COOPER_RUNNER"
	EnvState  = "_COOPER_STATE"
)

// init keeps the main thread for the main goroutine, which does nothing but wait.
// libcontainer moves a thread into each container's mount namespace and lets it end
// with its goroutine; the main thread cannot end, the Go runtime would park it
// there for ever. Then /proc/PID of this process would show the container's mounts,
// keep them from being released, and count among the container's processes.
func init() {
	if os.Getenv(EnvSocket) != "" {
		runtime.LockOSThread()
	}
}

// Init turns this process into a container's first process or into the runner, if
// it was executed as one, and does not return then.
func Init() {
	if len(os.Args) > 1 && os.Args[1] == "init" && os.Getenv("_LIBCONTAINER_INITPIPE") != "" {
		// From here on it waits for the monitor at one place or another, and
		// not only on what ends with it. Its name tells whose it is.
		if strings.HasPrefix(os.Args[0], monitorTitle) {
			runtime.LockOSThread() // libcontainer asks this thread, and restores it
			_ = unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0)
		}
		if os.Getenv("_LIBCONTAINER_INITTYPE") == "standard" {
			passGate()
		}
		libcontainer.Init() // never returns
	}
	v := os.Getenv(EnvSocket)
	if v == "" || os.Getenv(stage.Env) != "" {
		return
	}
	status, err := serve(v, os.Getenv(EnvState))
	if err != nil {
		fmt.Fprintf(os.Stderr, "container runner: %v\n", err)
		os.Exit(1)
	}
	os.Exit(status)
}

// runner is the state of the process.
type runner struct {
	conn *wire.Conn
	// dir is the state directory, a tmpfs of our own; plain: there is none, and
	// nothing can be mounted.
	dir     string
	plain   bool
	keepers keepers
	// exe is this program, for the last stage.
	exe *os.File
	// null is /dev/null, for libcontainer's part of a container's start.
	null *os.File

	signals chan os.Signal // see handleSignals

	// dropped: the cgroup hierarchies that no limit needs are gone.
	dropped sync.Once

	bundles atomic.Uint64 // made so far

	mu         sync.Mutex
	containers map[uint64]*container
	spares     []*spare
	over       bool // no more of them
	wg         sync.WaitGroup
	// status is a monitor's exit status.
	status int
	reaper reaper // of what other runtimes leave
}

// serve is the process. The status is the one to exit with: that of its container
// for a monitor, so that whoever watches the monitor knows.
func serve(socket, dir string) (status int, err error) {
	fd, err := strconv.Atoi(socket)
	if err != nil {
		return 0, fmt.Errorf("%s=%s: %w", EnvSocket, socket, err)
	}
	unix.Close(fd + 1) // this program, opened for writing once
	unix.CloseOnExec(fd)
	debug.SetGCPercent(400) // small and busy: memory for speed
	// libcontainer hands this one variable to a container's first process, which
	// has one thread's work to do; without it the runtime there starts more.
	os.Setenv("GOMAXPROCS", "1")
	os.Unsetenv(EnvSocket)
	os.Unsetenv(EnvState)
	conn, err := wire.NewConn(os.NewFile(uintptr(fd), "socket"))
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	r := &runner{conn: conn, dir: dir, plain: dir == "", containers: map[uint64]*container{}}
	r.handleSignals(func(os.Signal) { r.conn.Close() }) // loop ends
	logrus.SetOutput(io.Discard)
	logrus.AddHook(logHook{conn})
	go warmCgroups()
	if err := r.prepare(); err != nil {
		return 0, err
	}
	done := make(chan error, 1)
	go func() { done <- r.loop() }()
	err = <-done
	return r.status, err
}

// handleSignals: the end of this process leaves containers behind, so that a signal
// is an orderly end. They are handled, not ignored: an ignored signal would stay
// ignored in the containers. A later call replaces the former's end.
func (r *runner) handleSignals(end func(os.Signal)) {
	if r.signals != nil {
		signal.Stop(r.signals)
		close(r.signals)
	}
	ch := make(chan os.Signal, 8)
	r.signals = ch
	signal.Notify(ch, unix.SIGTERM, unix.SIGINT, unix.SIGHUP, unix.SIGPIPE)
	go func() {
		for s := range ch {
			if s != unix.SIGPIPE {
				end(s)
			}
		}
	}()
}

// prepare makes the private mounts and opens what every container needs.
func (r *runner) prepare() error {
	if !r.plain {
		if err := r.prepareMounts(); err != nil {
			return err
		}
	}
	// Without a process id namespace a container's orphans become our children.
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return os.NewSyscallError("prctl", err)
	}
	var err error
	if r.exe, err = os.Open("/proc/self/exe"); err != nil {
		return err
	}
	r.null, err = os.OpenFile(os.DevNull, os.O_RDWR, 0)
	return err
}

func (r *runner) prepareMounts() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	if err := unix.Mount("cooper", r.dir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=711,size=256m"); err != nil {
		return fmt.Errorf("mount state directory %s: %w", r.dir, err)
	}
	if err := unix.Mount("", r.dir, "", unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make state directory private: %w", err)
	}
	return nil
}

// loop serves messages until the other end is gone and all containers are.
func (r *runner) loop() error {
	for {
		m, err := r.conn.Recv()
		if err != nil {
			r.dropSpares()
			r.killAll()
			r.wg.Wait()
			if errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) {
				return nil
			}
			return err
		}
		if m.Kind == life.KindStart {
			return r.monitor(m)
		}
		if err := r.handle(m); err != nil {
			logrus.Warn(err)
		}
	}
}

func (r *runner) handle(m *wire.Message) error {
	switch m.Kind {
	case wire.KindRun:
		req := new(wire.Run)
		if err := m.Decode(req); err != nil {
			m.Close()
			return err
		}
		r.dropOnce(req)
		if !req.NoCgroup {
			go warmCgroups()
		}
		c := newContainer(r, req, m.Files, r.report(req.Call))
		c.spare = r.takeSpare(req)
		r.mu.Lock()
		r.containers[req.Call] = c
		r.mu.Unlock()
		r.wg.Go(func() {
			end := c.run()
			r.mu.Lock()
			delete(r.containers, req.Call)
			r.mu.Unlock()
			r.conn.Send(wire.KindEnded, end) // the other end may be gone: nobody to tell
			c.cleanUp()
		})
	case wire.KindSignal:
		var s wire.Signal
		if err := m.Decode(&s); err != nil {
			return err
		}
		r.mu.Lock()
		c := r.containers[s.Call]
		r.mu.Unlock()
		if c != nil {
			c.signal(unix.Signal(s.Signal))
		}
	default:
		m.Close()
		return fmt.Errorf("unknown message %d", m.Kind)
	}
	return nil
}

func (r *runner) killAll() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range r.containers {
		c.signal(unix.SIGKILL)
	}
}

// logHook sends libcontainer's log lines to the Runtime.
type logHook struct{ conn *wire.Conn }

func (h logHook) Levels() []logrus.Level { return logrus.AllLevels }

func (h logHook) Fire(e *logrus.Entry) error {
	return h.conn.Send(wire.KindLog, wire.Log{Level: e.Level.String(), Message: e.Message})
}
