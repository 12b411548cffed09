package runner

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"cooper/run/internal/life"
	"cooper/run/internal/stage"
	"cooper/run/internal/wire"
)

// session is a further process of a container, from its start to its end.
type session struct {
	c     *container
	req   *life.Exec
	files []*os.File
	// console takes its terminal; started is told its process id.
	console func(master *os.File)
	started func(p process)
}

// run runs the process to its end. It keeps the thread that it is called on: the
// kernel ends the process with it.
func (s *session) run() wire.Event {
	runtime.LockOSThread() // for ever: the thread ends with the goroutine
	end := wire.Event{}
	err := s.start(&end)
	end.Finished = time.Now()
	var f *stage.Failure
	switch {
	case errors.As(err, &f):
		end.Code, end.Error = f.Code, f.Text
	case err != nil:
		end.Code, end.Error = 125, err.Error()
	}
	return end
}

func (s *session) start(end *wire.Event) error {
	p, err := s.c.engine.exec(s)
	if err != nil {
		return err
	}
	for _, file := range s.files {
		file.Close()
	}
	end.Started = time.Now()
	s.started(p)
	return p.wait(end)
}

// serveExec runs a further process for a command. The process outlives the
// connection.
func (m *monitor) serveExec(conn *wire.Conn, msg *wire.Message) {
	defer msg.Close()
	req := new(life.Exec)
	err := msg.Decode(req)
	var c *container
	if err == nil {
		c, err = m.container()
	}
	if err != nil {
		conn.Send(wire.KindEnded, wire.Event{Code: 125, Error: err.Error()})
		return
	}
	s := &session{
		c: c, req: req, files: msg.Files,
		console: func(master *os.File) {
			defer master.Close()
			conn.Send(wire.KindConsole, wire.Event{}, master)
		},
		started: func(p process) {
			conn.Send(wire.KindStarted, wire.Event{PID: p.pid()})
			go forwardKills(conn, p)
		},
	}
	m.event("exec_create", nil)
	result := make(chan wire.Event, 1)
	go func() { result <- s.run() }()
	conn.Send(wire.KindEnded, <-result)
	m.worked()
}

// forwardKills passes a command's signals to its process.
func forwardKills(conn *wire.Conn, p process) {
	for {
		msg, err := conn.Recv()
		if err != nil {
			return
		}
		msg.Close()
		var k life.Kill
		if msg.Kind == life.KindKill && msg.Decode(&k) == nil {
			_ = p.signal(unix.Signal(k.Signal)) // it may have ended
		}
	}
}

// limit changes the limits of a running container.
func (c *container) limit(r *specs.LinuxResources) error {
	if c.req.NoCgroup {
		return errors.New("limits need a writable cgroup, and there is none (rootless: ask for cgroup v2 delegation)")
	}
	c.mu.Lock()
	e := c.engine
	c.mu.Unlock()
	if e == nil {
		return errors.New("the container is being started: try again")
	}
	before := c.b.spec.Linux.Resources
	r.Devices = nil
	if before != nil {
		r.Devices = before.Devices
	}
	c.b.spec.Linux.Resources = r
	if err := e.limit(r); err != nil {
		c.b.spec.Linux.Resources = before
		return fmt.Errorf("change limits: %w", err)
	}
	return nil
}
