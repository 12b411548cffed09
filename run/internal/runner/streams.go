package runner

import (
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"cooper/run/internal/wire"
)

// streams are the standard streams of a monitor's container: two pipes or a
// terminal whose output goes to the log and to everybody attached. It may be used
// concurrently.
type streams struct {
	log      *log
	terminal bool
	open     bool // there is an input
	once     bool // which ends with the first who was attached

	copying sync.WaitGroup

	mu       sync.Mutex
	input    *os.File   // the writing end of it, or the terminal's other end
	given    []*os.File // ends of pipes that only the container needs
	attached []*attached
	waiting  []func(*os.File) // for input
	closed   bool             // the input was ended for ever
}

// attached is a command's output, beside the log.
type attached struct {
	stdout, stderr *os.File // nil for none
	input          bool     // it writes to the container
	failed         atomic.Bool
}

// start makes the pipes of the container's next run. A terminal the container makes
// itself.
func (s *streams) start(req *wire.Run) ([]*os.File, error) {
	req.Stdio = [3]int{wire.NoFile, wire.NoFile, wire.NoFile}
	if s.terminal {
		return nil, nil
	}
	var given []*os.File
	for i := range req.Stdio {
		if i == streamIn && (!s.open || s.inputEnded()) {
			continue
		}
		r, w, err := pipe(i == streamIn)
		if err != nil {
			closeAll(given)
			return nil, err
		}
		req.Stdio[i] = len(given)
		if i == streamIn {
			given = append(given, r)
			s.setInput(w)
			continue
		}
		given = append(given, w)
		s.copying.Go(func() { s.copy(i, r) })
	}
	s.mu.Lock()
	s.given = given
	s.mu.Unlock()
	return given, nil
}

// pipe makes a pipe of which the monitor's end alone does not block.
func pipe(input bool) (r, w *os.File, err error) {
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC); err != nil {
		return nil, nil, os.NewSyscallError("pipe2", err)
	}
	ours := fds[0]
	if input {
		ours = fds[1]
	}
	err = unix.SetNonblock(ours, true) // before NewFile looks
	return os.NewFile(uintptr(fds[0]), "pipe"), os.NewFile(uintptr(fds[1]), "pipe"), err
}

func closeAll(files []*os.File) {
	for _, f := range files {
		f.Close()
	}
}

// started closes what the container has now.
func (s *streams) started() {
	s.mu.Lock()
	defer s.mu.Unlock()
	closeAll(s.given)
	s.given = nil
}

// console takes the container's terminal.
func (s *streams) console(master *os.File) error {
	defer master.Close()
	fd, err := unix.FcntlInt(master.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("fcntl", err)
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		unix.Close(fd)
		return os.NewSyscallError("fcntl", err)
	}
	f := os.NewFile(uintptr(fd), "terminal")
	s.setInput(f)
	s.copying.Go(func() { s.copy(streamOut, f) })
	return nil
}

func (s *streams) inputEnded() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closed
}

// setInput makes f the container's input and hands it to those who wait for it.
func (s *streams) setInput(f *os.File) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.input != nil && !s.terminal {
		s.input.Close()
	}
	s.input = f
	for _, give := range s.waiting {
		give(f)
	}
	s.waiting = nil
}

// giveInput calls give with the container's input, once there is one. give must
// not keep the file.
func (s *streams) giveInput(give func(*os.File)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.input != nil {
		give(s.input)
		return
	}
	s.waiting = append(s.waiting, give)
}

// copyBuffer is as much as a pipe holds.
const copyBuffer = 64 << 10

// copy brings a stream's output to the log and to everybody attached. Reading a
// terminal ends with EIO when the container has closed it.
func (s *streams) copy(stream int, r *os.File) {
	if !s.terminal {
		defer r.Close()
	}
	buf := make([]byte, copyBuffer)
	for {
		n, err := r.Read(buf)
		if n > 0 {
			s.output(stream, buf[:n])
		}
		if err != nil {
			return
		}
	}
}

func (s *streams) output(stream int, text []byte) {
	s.log.write(stream, text)
	s.mu.Lock()
	all := s.attached
	s.mu.Unlock()
	for _, a := range all {
		a.write(stream, text)
	}
}

// write writes to the command; that it does not read any more is no error.
func (a *attached) write(stream int, text []byte) {
	f := a.stdout
	if stream == streamErr {
		f = a.stderr
	}
	if f == nil || a.failed.Load() {
		return
	}
	if _, err := f.Write(text); err != nil && err != io.ErrShortWrite {
		a.failed.Store(true)
	}
}

func (s *streams) attach(a *attached) {
	s.mu.Lock()
	defer s.mu.Unlock()
	// A new slice: output uses the old one without the lock.
	s.attached = append(s.attached[:len(s.attached):len(s.attached)], a)
}

// detach ends what attach began. The input ends with it if it was to.
func (s *streams) detach(a *attached) {
	s.mu.Lock()
	var rest []*attached
	for _, other := range s.attached {
		if other != a {
			rest = append(rest, other)
		}
	}
	s.attached = rest
	s.mu.Unlock()
	for _, f := range []*os.File{a.stdout, a.stderr} {
		if f != nil {
			f.Close()
		}
	}
	if a.input && s.once {
		s.closeInput()
	}
}

// closeInput ends the container's input. A terminal stays: its other end is the
// container's output as well.
func (s *streams) closeInput() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	if s.input != nil && !s.terminal {
		s.input.Close()
		s.input = nil
	}
}

// drainTime is how long output may still come after a container's end. Its
// processes are gone; only a descriptor that was passed to somebody else, or a
// command that does not read, can hold it up.
const drainTime = 2 * time.Second

// drain waits for a run's last output.
func (s *streams) drain() {
	s.started()
	done := make(chan struct{})
	go func() {
		s.copying.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(drainTime):
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.input != nil {
		s.input.Close()
		s.input = nil
	}
}

// close lets the log and everybody attached go.
func (s *streams) close() {
	s.log.close()
}
