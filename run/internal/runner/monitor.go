package runner

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"cooper/run/internal/events"
	"cooper/run/internal/life"
	"cooper/run/internal/network"
	"cooper/run/internal/wire"
)

// monitor keeps one container: it starts it, and again as the restart policy says,
// holds its streams, log and lock, checks its health, and serves the commands that
// connect to its control socket. The process ends with it.
//
// A killed monitor takes the container with it: the last stage asks the kernel for
// SIGKILL when the thread that started it ends, and monitor stays on that thread.
type monitor struct {
	r       *runner
	req     *life.Request
	starter *wire.Conn // the command that started the container

	dir, lock *os.File
	listener  *net.UnixListener
	streams   *streams
	sandbox   *network.Sandbox // nil without a network of its own
	owner     *owner           // nil without a user namespace of its own

	// mu guards all below. It is held only for moments.
	mu       sync.Mutex
	state    life.State
	name     string
	restart  life.RestartPolicy
	current  *container    // runs, or is being started
	ended    chan struct{} // closed when current is gone
	parted   chan struct{} // closed when a run has ended that is not the last
	last     wire.Event    // how it ended
	stopping bool          // somebody wants it to end for good
	again    chan struct{} // somebody wants it to be started once more: closed then
	wake     chan struct{} // closed when one of these was said
	up       bool          // it has been started once
	left     bool          // the starter is gone
	watchers map[chan struct{}]bool
	quiet    *time.Timer // see worked

	sessions sync.WaitGroup // connections
	over     chan struct{}  // closed when the final state is written
}

// monitorTitle and a container's name are what ps shows.
const monitorTitle = "cooper-monitor "

// monitor makes this process the monitor that m asks for and returns when the
// container has ended for good.
func (r *runner) monitor(msg *wire.Message) error {
	runtime.LockOSThread() // see type monitor
	req := new(life.Request)
	if err := msg.Decode(req); err != nil {
		return err
	}
	req.Run.Stage.DieWithParent = true
	req.StopSignal = cmp.Or(req.StopSignal, int(unix.SIGTERM))
	m := &monitor{
		r: r, req: req, starter: r.conn, state: req.State, name: req.Name, restart: req.Restart,
		watchers: make(map[chan struct{}]bool), wake: make(chan struct{}), over: make(chan struct{}),
		ended: make(chan struct{}), parted: make(chan struct{}),
	}
	if err := m.open(msg.Files); err != nil {
		return m.starter.Send(wire.KindEnded, wire.Event{Code: 125, Error: err.Error()})
	}
	m.state.MonitorPID = os.Getpid() // until the end: who finds it knows that there was none
	setTitle(monitorTitle + req.Name)
	if !req.Foreground {
		_ = os.WriteFile("/proc/self/comm", []byte("cooper-monitor"), 0) // what systemctl shows; a nicety
	}
	r.handleSignals(m.signalled)
	switch {
	case req.Foreground: // others may get limits later, see update
		r.dropOnce(&req.Run)
	case !req.Run.NoCgroup && req.Run.Spec.Linux.CgroupsPath == "":
		ownUnified()
	}
	if !req.Run.NoCgroup {
		go warmCgroups()
	}
	m.sessions.Go(m.serveStarter)
	go m.accept()
	end := m.live(msg.Files)
	m.finish(end)
	m.report(end)
	m.remove()
	m.leaveNetwork()
	r.status = m.state.ExitCode
	return nil
}

// open takes the request's files.
func (m *monitor) open(files []*os.File) error {
	file := func(n int) *os.File {
		if n >= 0 && n < len(files) {
			return files[n]
		}
		return nil
	}
	m.dir, m.lock = file(m.req.Dir), file(m.req.Lock)
	listener := file(m.req.Listener)
	if m.dir == nil || m.lock == nil || listener == nil {
		return errors.New("container monitor: files are missing in the request")
	}
	l, err := net.FileListener(listener)
	listener.Close()
	if err != nil {
		return fmt.Errorf("container monitor: control socket: %w", err)
	}
	m.listener = l.(*net.UnixListener)
	if m.req.Foreground {
		m.req.Log.Driver = "passthrough" // its streams don't come by here
	}
	log, err := openLog(m.dir, m.req.Log)
	if err != nil {
		return fmt.Errorf("container monitor: %w", err)
	}
	m.streams = &streams{log: log, terminal: m.req.Run.Spec.Process.Terminal, open: m.req.OpenStdin, once: m.req.StdinOnce}
	if a := m.req.Attach; a != nil {
		m.streams.attach(&attached{stdout: file(a.Stdout), stderr: file(a.Stderr), input: a.Input})
	}
	return nil
}

// live runs the container until it is not to be started again, and returns its
// last end.
func (m *monitor) live(files []*os.File) wire.Event {
	if err := m.makeUserNS(); err != nil {
		return wire.Event{Code: 125, Error: err.Error(), Finished: time.Now()}
	}
	defer m.owner.close()
	if err := m.setUpNetwork(); err != nil {
		return wire.Event{Code: 125, Error: err.Error(), Finished: time.Now()}
	}
	delay := time.Duration(0)
	for {
		end := m.runOnce(files)
		var more bool
		if delay, more = m.next(&end, delay); !more {
			return end
		}
		m.mu.Lock()
		m.ended = make(chan struct{})
		m.mu.Unlock()
		if m.sandbox != nil {
			_ = m.sandbox.Mend() // it ran before, and what it ran with may do
		}
	}
}

// runOnce runs the container to its next end.
func (m *monitor) runOnce(files []*os.File) (end wire.Event) {
	req := m.req.Run
	m.mu.Lock()
	spec, linux := *req.Spec, *req.Spec.Linux
	m.mu.Unlock()
	spec.Mounts = slices.Clone(spec.Mounts)
	spec.Linux, req.Spec = &linux, &spec
	told := observer{started: m.started, console: m.console}
	if m.req.Foreground {
		files = slices.Clone(files)
		for _, n := range []int{m.req.Dir, m.req.Lock, m.req.Listener} {
			files[n] = nil // not the container's to close
		}
	} else {
		var err error
		if files, err = m.streams.start(&req); err != nil {
			return wire.Event{Code: 125, Error: err.Error(), Finished: time.Now()}
		}
	}
	c := newContainer(m.r, &req, files, told)
	c.owner = m.owner
	m.mu.Lock()
	m.current = c
	if m.stopping {
		c.signal(unix.SIGKILL)
	}
	m.mu.Unlock()
	end = c.run()
	c.cleanUp()
	m.streams.drain()
	return end
}

// started is told when the program has been executed.
func (m *monitor) started(e wire.Event, _ ...*os.File) error {
	m.streams.started()
	start, err := life.StartTime(e.PID)
	if err != nil {
		start = 0 // it has ended already
	}
	var again chan struct{}
	m.change(func(s *life.State) {
		s.Status, s.PID, s.StartTime, s.MonitorPID = life.StatusRunning, e.PID, start, os.Getpid()
		s.Cgroups, s.Started = e.Cgroups, e.Started
		s.ExitCode, s.OOMKilled, s.Error = 0, false, ""
		if m.req.Health != nil {
			s.Health = &life.HealthState{Status: life.HealthStarting}
		}
		m.up = true
		again, m.again = m.again, nil
	})
	if again != nil {
		close(again) // who waits reads the state, which is written now
	}
	if m.req.PIDFile != "" {
		if err := os.WriteFile(m.req.PIDFile, []byte(strconv.Itoa(e.PID)), 0o644); err != nil {
			return fmt.Errorf("write pid file: %w", err)
		}
	}
	m.event("start", nil)
	m.starter.Send(wire.KindStarted, e) // the starter may be gone
	m.mu.Lock()
	c, ended := m.current, m.ended
	m.mu.Unlock()
	if m.req.Health != nil {
		go m.checkHealth(c, ended)
	}
	if m.req.Timeout > 0 {
		time.AfterFunc(m.req.Timeout, func() {
			m.mu.Lock()
			m.stopping = true
			m.mu.Unlock()
			c.signal(unix.SIGKILL)
		})
	}
	m.worked()
	return nil
}

// quietAfter is when a monitor that has started a process gives back memory. Those
// whose containers have ended by then are spared the work.
const quietAfter = time.Second

// worked is called after the start of a process, which takes memory that is not
// needed again for a while.
func (m *monitor) worked() {
	if m.req.Foreground {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.quiet == nil {
		m.quiet = time.AfterFunc(quietAfter, settleDown)
	} else {
		m.quiet.Reset(quietAfter)
	}
}

// settleDown gives memory back. Little is allocated as long as nothing happens, and
// it counts more than time.
func settleDown() {
	runtime.GOMAXPROCS(2)
	debug.SetGCPercent(50)
	debug.FreeOSMemory()
}

// console takes the container's terminal.
func (m *monitor) console(master *os.File) {
	if m.req.Foreground {
		defer master.Close()
		m.starter.Send(wire.KindConsole, wire.Event{}, master)
		return
	}
	_ = m.streams.console(master) // without, it runs on a terminal that nobody sees
}

// finish writes the container's last state and lets everything go.
func (m *monitor) finish(end wire.Event) {
	m.closeNetwork(&end)
	m.streams.close()
	m.listener.Close()
	m.change(func(s *life.State) {
		s.Status, s.ExitCode, s.OOMKilled, s.Error = life.StatusExited, end.ExitCode, end.OOMKilled, end.Error
		if m.up {
			s.Finished = end.Finished
		} else if s.Started.IsZero() {
			s.Status = life.StatusCreated
		}
		if end.Code != 0 {
			s.ExitCode = end.Code
		}
		s.PID, s.StartTime, s.MonitorPID, s.Cgroups = 0, 0, 0, nil
		s.Networks, s.Ports, s.NetworkPath = nil, nil, ""
	})
	m.lock.Close()
	close(m.over)
}

// report tells everybody the end, and waits a moment for them to read it.
func (m *monitor) report(end wire.Event) {
	m.starter.Send(wire.KindEnded, end)
	done := make(chan struct{})
	go func() {
		m.sessions.Wait()
		close(done)
	}()
	// The starter's connection lasts until it has read this and closes it.
	select {
	case <-done:
	case <-time.After(time.Second):
	}
}

// change changes the state, writes it down and tells the watchers.
func (m *monitor) change(f func(*life.State)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f(&m.state)
	// A disk that is full keeps no container from running; whoever asks the
	// monitor gets the truth.
	_ = life.WriteState(m.dir, &m.state)
	for w := range m.watchers {
		select {
		case w <- struct{}{}:
		default: // it has been told and has not looked yet
		}
	}
}

// event adds to the journal.
func (m *monitor) event(action string, attributes map[string]string) {
	m.mu.Lock()
	all := map[string]string{}
	maps.Copy(all, m.req.Attributes)
	all["name"] = m.name
	m.mu.Unlock()
	maps.Copy(all, attributes)
	_ = events.Append(m.req.Journal, events.Event{Type: "container", Action: action, ID: m.req.Run.ID, Attributes: all})
}

// setUpNetwork makes the container's network namespace and what the container
// finds about it in its files.
func (m *monitor) setUpNetwork() error {
	if m.req.Network == nil {
		m.change(func(s *life.State) { s.NetworkPath = m.req.JoinedNetwork })
		return nil
	}
	var err error
	if m.owner != nil {
		m.req.Network.Namespace = m.owner.namespaces.Net
	}
	if m.sandbox, err = network.Setup(context.Background(), *m.req.Network); err != nil {
		return err
	}
	useNetwork(m.req, m.sandbox)
	m.noteNetworks()
	for _, text := range m.sandbox.Result().Warnings {
		m.starter.Send(life.KindWarning, text)
	}
	return nil
}

// noteNetworks puts the networks' present result into the state.
func (m *monitor) noteNetworks() {
	r := m.sandbox.Result()
	m.change(func(s *life.State) { s.NetworkPath, s.Networks, s.Ports = m.sandbox.Path(), r.Networks, r.Ports })
}

// closeNetwork takes the network back; what goes wrong is told with the end.
func (m *monitor) closeNetwork(end *wire.Event) {
	if m.sandbox == nil {
		return
	}
	if err := m.sandbox.Close(); err != nil && end.Error == "" {
		end.Error = fmt.Sprintf("take back network: %v", err)
	}
}

// leaveNetwork removes what containers share when this was the last one. Nobody waits
// for that; should it fail, the next one that ends tries again. This is no monitor any
// more then.
func (m *monitor) leaveNetwork() {
	if m.req.Network == nil || len(m.req.Network.Attachments) == 0 {
		return
	}
	m.dir.Close()
	setTitle("cooper-sweep")
	if m.req.Foreground {
		_ = network.Linger(context.Background(), m.req.Network)
		return
	}
	_ = network.Leave(m.req.Network) // at once: systemd waits for the end of this process
}
