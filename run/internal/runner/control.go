package runner

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"cooper/run/internal/life"
	"cooper/run/internal/wire"
)

// accept serves the control socket until it is closed.
func (m *monitor) accept() {
	for {
		uc, err := m.listener.AcceptUnix()
		if err != nil {
			return
		}
		m.sessions.Go(func() { m.serveCommand(wire.Wrap(uc)) })
	}
}

// serveStarter serves the connection of the command that started the container. A
// container in the foreground ends with it.
func (m *monitor) serveStarter() {
	var a *attached
	if m.req.Attach != nil {
		a = m.streams.attached[0]
		if a.input || m.streams.terminal { // whose size the other end sets
			m.sendInput(m.starter)
		}
		if m.req.Attach.Lasting {
			a = nil // which serveAttached would detach
		}
	}
	m.serveAttached(m.starter, a)
	select {
	case <-m.over:
		return // it has seen the end
	default:
	}
	m.mu.Lock()
	m.left = true
	c := m.current
	if m.req.Foreground {
		m.stopping = true
	}
	m.mu.Unlock()
	if m.req.Foreground && c != nil {
		c.signal(unix.SIGKILL)
	}
}

// serveAttached serves a connection with streams, which may be nil, until its other
// end closes it.
func (m *monitor) serveAttached(conn *wire.Conn, a *attached) {
	for {
		msg, err := conn.Recv()
		if err != nil {
			break
		}
		msg.Close()
		switch msg.Kind {
		case life.KindCloseStdin:
			m.streams.closeInput()
		case life.KindKill:
			var k life.Kill
			if msg.Decode(&k) == nil {
				m.kill(unix.Signal(k.Signal))
			}
		}
	}
	if a != nil {
		m.streams.detach(a)
	}
}

// sendInput sends the container's input once there is one.
func (m *monitor) sendInput(conn *wire.Conn) {
	m.streams.giveInput(func(f *os.File) { conn.Send(life.KindStdin, nil, f) })
}

// serveCommand serves one connection to the control socket.
func (m *monitor) serveCommand(conn *wire.Conn) {
	defer conn.Close()
	msg, err := conn.Recv()
	if err != nil {
		return
	}
	switch msg.Kind {
	case life.KindAttach:
		m.serveAttach(conn, msg)
		return
	case life.KindExec:
		m.serveExec(conn, msg)
		return
	case life.KindWatch:
		m.serveWatch(conn)
		return
	case life.KindRoot:
		m.serveRoot(conn)
		return
	}
	defer msg.Close()
	err = m.handle(msg)
	answer(conn, err)
	if err == nil && msg.Kind == life.KindCheck {
		m.mu.Lock()
		defer m.mu.Unlock()
		conn.Send(life.KindState, m.state)
	}
}

// answer ends a request. The command may be gone.
func answer(conn *wire.Conn, err error, files ...*os.File) {
	done := life.Done{NotRunning: errors.Is(err, errNotRunning)}
	if err != nil {
		done.Error = err.Error()
	}
	conn.Send(life.KindDone, done, files...)
}

// handle does what a short request asks for.
func (m *monitor) handle(msg *wire.Message) error {
	switch msg.Kind {
	case life.KindKill:
		var k life.Kill
		if err := msg.Decode(&k); err != nil {
			return err
		}
		if !m.kill(unix.Signal(k.Signal)) {
			return errNotRunning
		}
		m.event("kill", map[string]string{"signal": strconv.Itoa(k.Signal)})
		return nil
	case life.KindStop, life.KindRestart:
		var s life.Stop
		if err := msg.Decode(&s); err != nil {
			return err
		}
		if msg.Kind == life.KindRestart {
			return m.startAgain(s)
		}
		m.stop(s, true)
		m.event("stop", nil)
		return nil
	case life.KindPause:
		return m.pause()
	case life.KindResume:
		return m.unpause()
	case life.KindUpdate:
		var u life.Update
		if err := msg.Decode(&u); err != nil {
			return err
		}
		return m.update(&u)
	case life.KindCheck:
		return m.checkNow()
	case life.KindRename:
		return m.rename(msg)
	case life.KindConnect, life.KindDisconnect:
		return m.changeNetworks(msg)
	}
	return fmt.Errorf("container monitor: unknown request %d", msg.Kind)
}

// unpause is resume for who asks for it.
func (m *monitor) unpause() error {
	m.mu.Lock()
	c, paused := m.current, m.state.Status == life.StatusPaused
	m.mu.Unlock()
	if c == nil {
		return errNotRunning
	}
	if !paused {
		return errors.New("the container is not paused")
	}
	return m.resume(c)
}

// update changes limits and restart policy, for later runs too.
func (m *monitor) update(u *life.Update) error {
	if u.Restart != nil {
		m.mu.Lock()
		m.restart = *u.Restart
		m.mu.Unlock()
	}
	if u.Resources == nil {
		return nil
	}
	m.mu.Lock()
	c := m.current
	m.mu.Unlock()
	if c != nil {
		if err := c.limit(u.Resources); err != nil {
			return err
		}
	}
	m.mu.Lock()
	m.req.Run.Spec.Linux.Resources = u.Resources
	m.mu.Unlock()
	m.event("update", nil)
	return nil
}

func (m *monitor) rename(msg *wire.Message) error {
	var name string
	if err := msg.Decode(&name); err != nil {
		return err
	}
	m.mu.Lock()
	m.name = name
	m.mu.Unlock()
	if m.sandbox == nil {
		return nil
	}
	return m.sandbox.Rename(name)
}

func (m *monitor) changeNetworks(msg *wire.Message) error {
	if m.sandbox == nil {
		return errors.New("the container has no network of its own to connect: it was started with --network host, none or another container's")
	}
	if _, err := m.container(); err != nil {
		return err
	}
	ctx := context.Background()
	if msg.Kind == life.KindConnect {
		var a life.Attachment
		if err := msg.Decode(&a); err != nil {
			return err
		}
		if err := m.sandbox.Connect(ctx, a); err != nil {
			return err
		}
	} else {
		var name string
		if err := msg.Decode(&name); err != nil {
			return err
		}
		if err := m.sandbox.Disconnect(ctx, name); err != nil {
			return err
		}
	}
	m.noteNetworks()
	return nil
}

// serveWatch sends the state, now and after every change, until it is the last.
func (m *monitor) serveWatch(conn *wire.Conn) {
	changed := make(chan struct{}, 1)
	m.mu.Lock()
	m.watchers[changed] = true
	m.mu.Unlock()
	gone := make(chan struct{})
	go func() {
		conn.Recv() // ends when the other end closes, or this function
		close(gone)
	}()
	defer func() {
		m.mu.Lock()
		delete(m.watchers, changed)
		m.mu.Unlock()
	}()
	for last := false; !last; {
		select {
		case <-m.over:
			last = true
		default:
		}
		m.mu.Lock()
		state := m.state
		m.mu.Unlock()
		if conn.Send(life.KindState, state) != nil || last {
			return
		}
		select {
		case <-changed:
		case <-m.over:
		case <-gone:
			return
		}
	}
}

// serveRoot sends the container's root directory.
func (m *monitor) serveRoot(conn *wire.Conn) {
	m.mu.Lock()
	pid, running := m.state.PID, m.state.Running()
	m.mu.Unlock()
	if !running {
		answer(conn, errNotRunning)
		return
	}
	root, err := os.OpenFile("/proc/"+strconv.Itoa(pid)+"/root", unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		answer(conn, err)
		return
	}
	defer root.Close()
	answer(conn, nil, root)
}

// serveAttach connects a command's streams until it leaves or the container ends.
func (m *monitor) serveAttach(conn *wire.Conn, msg *wire.Message) {
	var req life.Attach
	err := msg.Decode(&req)
	switch {
	case err != nil:
	case m.req.Foreground:
		err = errors.New("the container has the streams of the command that runs it: attach there")
	default:
		_, err = m.container()
	}
	if err != nil {
		msg.Close()
		answer(conn, err)
		return
	}
	a := &attached{input: req.Input && m.streams.open}
	for _, s := range []struct {
		to    **os.File
		index int
	}{{&a.stdout, req.Stdout}, {&a.stderr, req.Stderr}} {
		if s.index >= 0 && s.index < len(msg.Files) {
			*s.to = msg.Files[s.index]
		}
	}
	m.mu.Lock()
	parted := m.parted
	m.mu.Unlock()
	m.streams.attach(a)
	answer(conn, nil)
	if a.input || m.streams.terminal {
		m.sendInput(conn)
	}
	m.event("attach", nil)
	left := make(chan struct{})
	go func() {
		m.serveAttached(conn, a)
		close(left)
	}()
	select {
	case <-left:
		return
	case <-parted:
		m.mu.Lock()
		end := m.last
		m.mu.Unlock()
		conn.Send(wire.KindEnded, end)
		<-left
		return
	case <-m.over:
	}
	m.mu.Lock()
	end := wire.Event{ExitCode: m.state.ExitCode, OOMKilled: m.state.OOMKilled, Started: m.state.Started, Finished: m.state.Finished, Error: m.state.Error}
	m.mu.Unlock()
	conn.Send(wire.KindEnded, end)
}
