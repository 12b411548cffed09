package network

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

func (x *proxy) serveTCP(l *net.TCPListener) {
	for {
		c, err := l.AcceptTCP()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			time.Sleep(10 * time.Millisecond) // out of descriptors, say: others may end
			continue
		}
		if !x.keep(c) {
			c.Close()
			return
		}
		x.done.Go(func() {
			defer x.release(c)
			x.carry(c)
		})
	}
}

// carry connects a client with the container until both have said all.
func (x *proxy) carry(client *net.TCPConn) {
	container, err := x.dial(unix.SOCK_STREAM, client.RemoteAddr().(*net.TCPAddr).AddrPort())
	if err != nil {
		client.SetLinger(0) // nobody there: a reset says so
		return
	}
	if !x.keep(container) {
		container.Close()
		return
	}
	defer x.release(container)
	near, err := client.SyscallConn()
	if err != nil {
		return
	}
	far, err := container.SyscallConn()
	if err != nil {
		return
	}
	// After an error both sides hear of a reset, and both pumps end.
	fail := func() {
		client.SetLinger(0)
		far.Control(func(fd uintptr) {
			unix.SetsockoptLinger(int(fd), unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
		})
		client.Close()
		container.Close()
	}
	var up sync.WaitGroup
	up.Go(func() {
		if pump(far, near) != nil {
			fail()
		}
	})
	if pump(near, far) != nil {
		fail()
	}
	up.Wait()
}

// pump moves bytes from src to dst until src ends, and then ends dst.
func pump(dst, src syscall.RawConn) error {
	for {
		p, n, err := fill(src)
		if err == io.EOF {
			return dst.Control(func(fd uintptr) { unix.Shutdown(int(fd), unix.SHUT_WR) })
		}
		for n > 0 && err == nil {
			var moved int
			moved, err = drain(dst, p, n)
			n -= moved
		}
		if err != nil {
			p.close() // it may hold bytes
			return err
		}
		p.release()
	}
}

// spliceSize is how much is moved at once at most.
const spliceSize = 256 << 10

// fill waits for bytes from src and moves them into a pipe, whose owner the caller
// becomes. While it waits there is none: idle connections have no pipes.
func fill(src syscall.RawConn) (p *pipe, n int, err error) {
	waitErr := src.Read(func(fd uintptr) bool {
		if p, err = newPipe(); err != nil {
			return true
		}
		n, err = splice(int(fd), p.w)
		if n > 0 {
			return true
		}
		p.release()
		p = nil
		if err == nil {
			err = io.EOF
		}
		return err != unix.EAGAIN
	})
	if waitErr != nil {
		return nil, 0, waitErr
	}
	return p, n, err
}

// drain moves up to n bytes from the pipe to dst.
func drain(dst syscall.RawConn, p *pipe, n int) (moved int, err error) {
	waitErr := dst.Write(func(fd uintptr) bool {
		moved, err = spliceN(p.r, int(fd), n)
		return err != unix.EAGAIN
	})
	return moved, errors.Join(waitErr, err)
}

func splice(from, to int) (int, error) { return spliceN(from, to, spliceSize) }

func spliceN(from, to, n int) (int, error) {
	for {
		moved, err := unix.Splice(from, nil, to, nil, n, unix.SPLICE_F_MOVE|unix.SPLICE_F_NONBLOCK)
		if err != unix.EINTR {
			return int(moved), err
		}
	}
}

// pipe is where bytes are between two splices.
type pipe struct{ r, w int }

// freePipes keeps some empty pipes for later.
var freePipes = make(chan *pipe, 16)

func newPipe() (*pipe, error) {
	select {
	case p := <-freePipes:
		return p, nil
	default:
	}
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_NONBLOCK|unix.O_CLOEXEC); err != nil {
		return nil, os.NewSyscallError("pipe2", err)
	}
	// A wish: what an ordinary user's pipes may hold is limited.
	_, _ = unix.FcntlInt(uintptr(fds[1]), unix.F_SETPIPE_SZ, spliceSize)
	return &pipe{r: fds[0], w: fds[1]}, nil
}

// release gives an empty pipe back.
func (p *pipe) release() {
	select {
	case freePipes <- p:
	default:
		p.close()
	}
}

// close closes the pipe, if there is one.
func (p *pipe) close() {
	if p != nil {
		unix.Close(p.r)
		unix.Close(p.w)
	}
}
