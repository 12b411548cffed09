package run

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"

	"golang.org/x/sys/unix"

	"cooper/run/internal/life"
	"cooper/run/internal/spawn"
	"cooper/run/internal/wire"
)

// ErrDetached is returned by Run and Attach when the keys for it were typed: the
// container goes on.
var ErrDetached = errors.New("detached")

// Streams connect this process with one of a container.
type Streams struct {
	// Stdin, Stdout and Stderr are nil for none. They stay the caller's.
	Stdin, Stdout, Stderr *os.File
	// DetachKeys, typed on Stdin, leave the container; nil are none. See
	// ParseDetachKeys.
	DetachKeys []byte
	// Signals are forwarded to the process.
	Signals <-chan os.Signal
	// OnStart is called when the program has been executed.
	OnStart func(pid int)

	lasting bool // the output is used as long as the container runs
}

// session is a connection with a monitor that lasts as long as a process in the
// container, or as we like.
type session struct {
	name     string // the container's
	terminal bool
	streams  *Streams // nil connects none
	direct   bool     // the process has the streams as its own
	// warn is called with the monitor's warnings; it may be nil.
	warn func(text string)

	conn     *wire.Conn
	process  *spawn.Process // the monitor, if we started it
	messages chan *wire.Message
	lost     error // why messages was closed
	// edits keeps others from changing the container's options until it has been
	// started; nil does not.
	edits *os.File
	// uplink is used by this process until the monitor does; nil if there is
	// none to start.
	uplink io.Closer

	stdio   *stdio      // direct, without a terminal
	console *attachment // direct, with one
	input   *input      // otherwise
}

// give says in a request what the container's streams are, and adds their files.
func (s *session) give(req *life.Request, files []*os.File) ([]*os.File, error) {
	s.direct = req.Foreground
	if s.terminal {
		req.Run.Width, req.Run.Height = s.size()
	}
	if !s.direct {
		req.Attach = &life.Attach{Input: s.streams.Stdin != nil, Lasting: s.streams.lasting}
		files = s.giveOutput(req.Attach, files)
		return files, nil
	}
	return s.giveStreams(&req.Run.Stdio, files)
}

// giveOutput says where the container's output is to be copied to.
func (s *session) giveOutput(a *life.Attach, files []*os.File) []*os.File {
	a.Stdout, a.Stderr = wire.NoFile, wire.NoFile
	for _, to := range []struct {
		index *int
		file  *os.File
	}{{&a.Stdout, s.streams.Stdout}, {&a.Stderr, s.streams.Stderr}} {
		if to.file != nil {
			*to.index = len(files)
			files = append(files, to.file)
		}
	}
	return files
}

// giveStreams adds the files that become a process's own streams, or gets ready for
// its terminal.
func (s *session) giveStreams(indices *[3]int, files []*os.File) ([]*os.File, error) {
	*indices = [3]int{wire.NoFile, wire.NoFile, wire.NoFile}
	t := &Task{Stdin: s.streams.Stdin, Stdout: s.streams.Stdout, Stderr: s.streams.Stderr}
	if s.terminal {
		s.console = &attachment{t: t}
		return files, nil
	}
	var err error
	if s.stdio, err = newStdio(t); err != nil {
		return nil, err
	}
	for i, f := range s.stdio.give {
		if f != nil {
			indices[i] = len(files)
			files = append(files, f)
		}
	}
	return files, nil
}

// size is the size of our terminal, 0 if there is none.
func (s *session) size() (width, height uint16) {
	return (*Console)(nil).size(&Task{Stdin: s.streams.Stdin, Stdout: s.streams.Stdout})
}

// given closes our copies of what was sent.
func (s *session) given() {
	if s.stdio != nil {
		s.stdio.started()
	}
}

// open begins to read the monitor's messages.
func (s *session) open(conn *wire.Conn, process *spawn.Process) {
	s.conn, s.process, s.messages = conn, process, make(chan *wire.Message)
	go func() {
		defer close(s.messages)
		for {
			m, err := conn.Recv()
			if err != nil {
				s.lost = err
				return
			}
			if m.Kind == life.KindWarning {
				s.warned(m)
				continue
			}
			s.messages <- m
		}
	}()
}

// warned passes a warning on.
func (s *session) warned(m *wire.Message) {
	defer m.Close()
	var text string
	if m.Decode(&text) == nil && s.warn != nil {
		s.warn(text)
	}
}

// close leaves the process to itself, or, in the foreground, ends it.
func (s *session) close() {
	s.edits.Close() // of nil it does nothing
	if s.uplink != nil {
		s.uplink.Close()
	}
	if s.conn != nil {
		s.conn.Close()
		for m := range s.messages {
			m.Close()
		}
	}
	if s.process != nil {
		go reap(s.process.Cmd)
	}
	if s.input != nil {
		s.input.end()
	}
	if s.console != nil {
		s.console.end()
	}
	if s.stdio != nil {
		s.stdio.started()
		s.stdio.end()
	}
}

// reap waits for a monitor's end: should it come before this process's, there is no
// zombie. Tests look at the status.
var reap = func(monitor *exec.Cmd) { monitor.Wait() }

// broken is the error when the monitor is gone without a last word.
func (s *session) broken() error {
	err := s.lost
	if p := s.process; p != nil {
		if waitErr := p.Cmd.Wait(); waitErr != nil {
			err = waitErr
		}
		if b := p.Stderr.Bytes(); len(b) > 0 {
			err = fmt.Errorf("%w: %s", err, b)
		}
		s.process = nil
	}
	if err == nil || errors.Is(err, io.EOF) || errors.Is(err, unix.ECONNRESET) {
		err = errors.New("it was killed")
	}
	return fmt.Errorf("monitor of container %s: %w", s.name, err)
}

// started waits until the program has been executed.
func (s *session) started(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case m, ok := <-s.messages:
			if !ok {
				return &StartError{Code: 125, Err: s.broken()}
			}
			switch m.Kind {
			case wire.KindStarted:
				m.Close()
				s.edits.Close()
				return nil
			case wire.KindEnded:
				_, err := s.ended(m)
				return err
			default:
				m.Close()
			}
		}
	}
}

// follow connects the streams, forwards signals and waits for the end.
func (s *session) follow(ctx context.Context) (Status, error) {
	done, signals := ctx.Done(), s.streams.Signals
	for {
		select {
		case m, ok := <-s.messages:
			if !ok {
				return Status{}, &StartError{Code: 125, Err: s.broken()}
			}
			if m.Kind == wire.KindEnded {
				st, err := s.ended(m)
				if cause := context.Cause(ctx); cause != nil {
					err = cause
				}
				return st, err
			}
			s.handle(m)
		case <-s.left():
			return Status{}, ErrDetached
		case <-done:
			if !s.direct || s.process == nil {
				return Status{}, context.Cause(ctx)
			}
			done = nil
			s.signal(unix.SIGKILL)
		case sig, ok := <-signals:
			if !ok {
				signals = nil
			} else if n, ok := sig.(syscall.Signal); ok {
				s.signal(n)
			}
		}
	}
}

// left is closed when the keys to detach were typed.
func (s *session) left() <-chan struct{} {
	if s.input == nil {
		return nil
	}
	return s.input.detached
}

// signal asks for a signal to the process. An error means that the monitor is gone,
// which its messages' end tells.
func (s *session) signal(n syscall.Signal) {
	s.conn.Send(life.KindKill, life.Kill{Signal: int(n)})
}

// handle does what a message before the last one says.
func (s *session) handle(m *wire.Message) {
	defer m.Close()
	switch m.Kind {
	case wire.KindConsole:
		if s.console != nil && len(m.Files) == 1 {
			s.console.attach(m.Files[0])
			m.Files = nil
		}
	case life.KindStdin:
		if len(m.Files) == 1 {
			s.takeInput(m.Files[0])
			m.Files = nil
		}
	case wire.KindStarted:
		s.edits.Close()
		var e wire.Event
		if m.Decode(&e) == nil && s.streams.OnStart != nil {
			s.streams.OnStart(e.PID)
		}
	}
}

// takeInput begins to copy our input to the container's. A container that is
// started again has a new one.
func (s *session) takeInput(to *os.File) {
	if s.input != nil {
		s.input.end()
	}
	s.input = newInput(s, to)
}

// ended reads the last message.
func (s *session) ended(m *wire.Message) (Status, error) {
	defer m.Close()
	var e wire.Event
	if err := m.Decode(&e); err != nil {
		return Status{}, err
	}
	return status(context.Background(), &e)
}
