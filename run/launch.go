package run

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"cooper/run/internal/orphans"
	"cooper/run/internal/spawn"
	"cooper/run/internal/wire"
)

// link is a running runner.
type link struct {
	conn *wire.Conn
	p    *spawn.Process
	log  *slog.Logger
	done chan struct{} // closed when the runner has ended and err is set

	// controllers are those of the first request; used says that there was one.
	used        bool
	controllers []string

	mu       sync.Mutex
	calls    map[uint64]*call
	lastCall uint64
	spare    []string // cgroups of a container that the runner has prepared
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

// startLink starts the runner with a mount namespace of its own, or, without a state
// directory, with none. It is in a session of its own too: Ctrl-C is for us to handle.
func startLink(dir string, log *slog.Logger) (*link, error) {
	start := func() (*spawn.Process, error) { return spawn.Start(dir) }
	if dir == "" {
		start = spawn.StartPlain
	}
	p, err := start()
	if err != nil {
		return nil, err
	}
	l := &link{p: p, conn: p.Conn, log: log, done: make(chan struct{}), calls: map[uint64]*call{}}
	go l.serve()
	return l, nil
}

// serves reports whether the runner has the cgroup controllers that req needs; the
// first request settles which. It is called with the Runtime's lock held.
func (l *link) serves(req *wire.Run) bool {
	if req == nil {
		return true
	}
	needed := wire.Controllers(req.Spec)
	if !l.used {
		l.used, l.controllers = true, needed
		return true
	}
	return !slices.ContainsFunc(needed, func(c string) bool { return !slices.Contains(l.controllers, c) })
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
	if m.Kind == wire.KindSpare {
		l.spare = append(l.spare, e.Cgroups...)
	}
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
	waitErr := l.p.Cmd.Wait()
	if err == nil || errors.Is(err, io.EOF) || errors.Is(err, os.ErrClosed) {
		err = waitErr
	}
	if err == nil {
		err = errors.New("closed")
	}
	if msg := bytes.TrimSpace(l.p.Stderr.Bytes()); len(msg) > 0 {
		err = fmt.Errorf("%w: %s", err, msg)
	}
	l.mu.Lock()
	calls, spare := l.calls, l.spare
	l.calls, l.err = nil, fmt.Errorf("container runner: %w", err)
	l.mu.Unlock()
	for _, c := range calls {
		c.abandon()
		close(c.events)
	}
	if waitErr != nil {
		removeCgroups(spare) // it had no time to
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
	removeCgroups(c.cgroups)
}

// removeCgroups removes what is there of cgroups whose last processes are ending.
func removeCgroups(dirs []string) {
	for _, dir := range dirs {
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

// close ends the runner: it kills its containers when the socket closes. It is
// waited for even when it has none: it would become a zombie where the first
// process, as in many CI containers, does not collect strangers.
func (l *link) close() error {
	l.conn.Close()
	<-l.done
	return nil
}

// stateDir returns the runner's directory.
func stateDir(o RuntimeOptions) (string, error) {
	if o.StateDir != "" {
		return filepath.Abs(o.StateDir)
	}
	return spawn.DefaultDir(), nil
}

// discard is a nil Log's stand-in.
var discard = slog.New(slog.DiscardHandler)
