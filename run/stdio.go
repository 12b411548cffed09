package run

import (
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

// stdio holds a task's streams while its container runs. Files and pipes are given
// to the container as they are: no byte is copied. A terminal is not: its owner
// could be typed at from inside (TIOCSTI), and programs would believe they had one.
type stdio struct {
	give  [3]*os.File // for the container, nil is /dev/null
	close []*os.File  // ours, closed once the container has its copies
	out   sync.WaitGroup
	in    sync.WaitGroup
	stop  *os.File // closing it ends the copying of input
}

// newStdio prepares streams for a container without a terminal.
func newStdio(t *Task) (*stdio, error) {
	s := &stdio{}
	for i, f := range []*os.File{t.Stdin, t.Stdout, t.Stderr} {
		if f == nil || !term.IsTerminal(int(f.Fd())) {
			s.give[i] = f
			continue
		}
		r, w, err := os.Pipe()
		if err != nil {
			s.started()
			s.end()
			return nil, err
		}
		if i == 0 {
			s.give[i], s.close = r, append(s.close, r)
			if err := s.copyIn(w, f); err != nil {
				s.started()
				s.end()
				return nil, err
			}
			continue
		}
		s.give[i], s.close = w, append(s.close, w)
		s.out.Go(func() {
			defer r.Close()
			io.Copy(f, r)
		})
	}
	return s, nil
}

// copyIn copies from a terminal until it ends, the container stops reading or end
// is called. It closes to.
func (s *stdio) copyIn(to, from *os.File) error {
	r, w, err := os.Pipe()
	if err != nil {
		to.Close()
		return err
	}
	s.stop = w
	s.in.Go(func() {
		defer to.Close()
		defer r.Close()
		copyUntil(to, from, r)
	})
	return nil
}

// copyUntil copies until from ends, to fails or stop becomes readable. It never
// reads a byte that it cannot deliver while waiting, and never blocks in read.
func copyUntil(to io.Writer, from, stop *os.File) {
	buf := make([]byte, 32<<10)
	in, st := int(from.Fd()), int(stop.Fd())
	for {
		p := []unix.PollFd{{Fd: int32(in), Events: unix.POLLIN}, {Fd: int32(st), Events: unix.POLLIN}}
		if _, err := unix.Poll(p, -1); err == unix.EINTR {
			continue
		} else if err != nil || p[1].Revents != 0 {
			return
		}
		n, err := unix.Read(in, buf)
		if err == unix.EINTR || err == unix.EAGAIN {
			continue
		}
		if err != nil || n <= 0 {
			return
		}
		if _, err := to.Write(buf[:n]); err != nil {
			return
		}
	}
}

// started closes our copies of what the container has now.
func (s *stdio) started() {
	for _, f := range s.close {
		f.Close()
	}
	s.close = nil
}

// drainTime is how long output may still come after a container's end. Its
// processes are gone then; only a descriptor passed to somebody else can keep a
// pipe open.
const drainTime = 2 * time.Second

// end stops the copying of input and waits for the last output.
func (s *stdio) end() {
	if s.stop != nil {
		s.stop.Close()
		s.in.Wait()
	}
	done := make(chan struct{})
	go func() {
		s.out.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(drainTime):
	}
}
