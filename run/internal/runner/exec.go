package runner

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"time"

	"github.com/opencontainers/runc/libcontainer"
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
	started func(p *libcontainer.Process)
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
	s.req.Stage.DieWithParent = true
	p, report, err := s.c.newProcess(&s.req.Stage, s.req.Stdio, s.files)
	if err != nil {
		return err
	}
	defer report.Close()
	wait := func() {}
	if s.req.Terminal {
		p.ConsoleWidth, p.ConsoleHeight = s.req.Width, s.req.Height
		if wait, err = connectConsole(p, s.console); err != nil {
			closeStageFiles(p)
			return err
		}
	}
	err = s.c.lc.Run(p)
	closeStageFiles(p)
	wait()
	if err != nil {
		return fmt.Errorf("exec: %w", err)
	}
	f, err := stage.ReadFailure(report)
	if f != nil {
		err = f
	}
	if err != nil {
		kill(p)
		return err
	}
	for _, file := range s.files {
		file.Close()
	}
	end.Started = time.Now()
	s.started(p)
	return awaitProcess(p, end)
}

// awaitProcess waits for a process and says in end how it ended.
func awaitProcess(p *libcontainer.Process, end *wire.Event) error {
	state, err := p.Wait()
	var exit *exec.ExitError // a status other than 0 is no error here
	if state == nil || (err != nil && !errors.As(err, &exit)) {
		return fmt.Errorf("wait for container: %w", err)
	}
	ws := state.Sys().(syscall.WaitStatus)
	end.Finished, end.ExitCode = time.Now(), ws.ExitStatus()
	if ws.Signaled() {
		end.Signal = int(ws.Signal())
		end.ExitCode = 128 + end.Signal
	}
	return nil
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
		started: func(p *libcontainer.Process) {
			pid, _ := p.Pid()
			conn.Send(wire.KindStarted, wire.Event{PID: pid})
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
func forwardKills(conn *wire.Conn, p *libcontainer.Process) {
	for {
		msg, err := conn.Recv()
		if err != nil {
			return
		}
		msg.Close()
		var k life.Kill
		if msg.Kind == life.KindKill && msg.Decode(&k) == nil {
			_ = p.Signal(unix.Signal(k.Signal)) // it may have ended
		}
	}
}

// limit changes the limits of a running container.
func (c *container) limit(r *specs.LinuxResources) error {
	if c.req.NoCgroup {
		return errors.New("limits need a writable cgroup, and there is none (rootless: ask for cgroup v2 delegation)")
	}
	before := c.req.Spec.Linux.Resources
	r.Devices = nil
	if before != nil {
		r.Devices = before.Devices
	}
	c.req.Spec.Linux.Resources = r
	cfg, err := c.config()
	if err == nil {
		err = c.lc.Set(*cfg)
	}
	if err != nil {
		c.req.Spec.Linux.Resources = before
		return fmt.Errorf("change limits: %w", err)
	}
	return nil
}
