package network

import (
	"fmt"
	"net/netip"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// sockets makes sockets in a network namespace. A process of an ordinary user that
// has entered a namespace cannot return to the machine's, so that one thread stays
// there for it.
type sockets struct {
	// ready are TCP sockets made in advance, since each connection needs one.
	ready    chan int
	requests chan socketRequest
	closed   chan struct{}
	done     chan struct{}
	// near, if it is set, says for which clients sockets don't have their
	// addresses: see forClients.
	near func(netip.Addr) bool
}

type socketRequest struct {
	domain, kind int
	answer       chan<- socketAnswer
}

type socketAnswer struct {
	fd  int
	err error
}

// newSockets makes sockets in ns, nil meaning the caller's own namespace. The
// caller closes them.
func newSockets(ns *os.File) (*sockets, error) {
	if ns == nil {
		return nil, nil
	}
	s := &sockets{
		ready:    make(chan int, 8),
		requests: make(chan socketRequest),
		closed:   make(chan struct{}),
		done:     make(chan struct{}),
	}
	started := make(chan error, 1)
	go func() {
		defer close(s.done)
		runtime.LockOSThread() // for ever: the runtime ends the thread
		err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET)
		if err != nil {
			started <- fmt.Errorf("enter network namespace: %w", os.NewSyscallError("setns", err))
			return
		}
		started <- nil
		s.serve()
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	return s, nil
}

const socketFlags = unix.SOCK_NONBLOCK | unix.SOCK_CLOEXEC

func (s *sockets) serve() {
	next := -1
	defer func() {
		close(s.ready)
		for fd := range s.ready {
			unix.Close(fd)
		}
		if next >= 0 {
			unix.Close(next)
		}
	}()
	for {
		ready := s.ready
		if next < 0 {
			var err error
			if next, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|socketFlags, 0); err != nil {
				next, ready = -1, nil
			}
		}
		select {
		case ready <- next:
			next = -1
		case r := <-s.requests:
			fd, err := unix.Socket(r.domain, r.kind|socketFlags, 0)
			r.answer <- socketAnswer{fd, os.NewSyscallError("socket", err)}
		case <-s.closed:
			return
		}
	}
}

// open returns a new socket that does not block.
func (s *sockets) open(domain, kind int) (int, error) {
	if s == nil {
		fd, err := unix.Socket(domain, kind|socketFlags, 0)
		return fd, os.NewSyscallError("socket", err)
	}
	if domain == unix.AF_INET && kind == unix.SOCK_STREAM {
		select {
		case fd, ok := <-s.ready:
			if ok {
				return fd, nil
			}
		default:
		}
	}
	answer := make(chan socketAnswer, 1)
	select {
	case s.requests <- socketRequest{domain, kind, answer}:
		a := <-answer
		return a.fd, a.err
	case <-s.done:
		return -1, os.ErrClosed
	}
}

// Close ends the thread.
func (s *sockets) Close() error {
	if s == nil {
		return nil
	}
	close(s.closed)
	<-s.done
	return nil
}
