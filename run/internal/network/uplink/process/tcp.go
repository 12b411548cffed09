package process

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/waiter"
)

// connectTimeout is longer than containers' kernels try, so that they see the same
// as on the machine.
const connectTimeout = 140 * time.Second

// forwardTCP serves one connection that a container begins: only when the machine's
// own has been made is the container's accepted.
func (b *budget) forwardTCP(r *tcp.ForwarderRequest) {
	to, ok := target(r.ID())
	if !ok || !b.take() {
		r.Complete(true)
		return
	}
	defer b.give()
	ctx, cancel := context.WithTimeout(context.Background(), connectTimeout)
	defer cancel()
	var dialer net.Dialer
	c, err := dialer.DialContext(ctx, "tcp", to.String())
	if err != nil {
		r.Complete(!errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, unix.ETIMEDOUT))
		return
	}
	outer := c.(*net.TCPConn)
	defer outer.Close()
	var queue waiter.Queue
	inner, tcpErr := r.CreateEndpoint(&queue)
	r.Complete(false)
	if tcpErr != nil {
		return
	}
	defer inner.Close()
	raw, err := outer.SyscallConn()
	if err != nil {
		return
	}
	inner.SocketOptions().SetDelayOption(false)
	inner.SocketOptions().SetKeepAlive(true) // a killed container says nothing
	t := &tube{inner: inner, queue: &queue, outer: outer, raw: raw}
	var out sync.WaitGroup
	out.Go(func() { t.finish(t.toOuter(), func() { outer.CloseWrite() }) })
	t.finish(t.toInner(), func() { inner.Shutdown(tcpip.ShutdownWrite) })
	out.Wait()
}

// tube joins a connection of the stack with one of the machine. It has buffers only
// while bytes move.
type tube struct {
	inner tcpip.Endpoint
	queue *waiter.Queue
	outer *net.TCPConn
	raw   syscall.RawConn
}

// finish ends a direction: orderly, or with a reset for both sides.
func (t *tube) finish(err error, end func()) {
	if err == nil {
		end()
		return
	}
	t.outer.SetLinger(0)
	t.outer.Close()
	t.inner.Abort()
}

// errClosed ends the waiting for the stack's side.
var errClosed = errors.New("connection is closed")

// notify returns a channel that has something when an event of the mask has
// happened, and what to call in the end.
func (t *tube) notify(mask waiter.EventMask) (<-chan struct{}, func()) {
	entry, ch := waiter.NewChannelEntry(mask | waiter.EventHUp | waiter.EventErr)
	t.queue.EventRegister(&entry)
	return ch, func() { t.queue.EventUnregister(&entry) }
}

// toOuter moves what the container sends straight from the packets to the machine's
// socket.
func (t *tube) toOuter() error {
	ready, done := t.notify(waiter.ReadableEvents)
	defer done()
	w := &rawWriter{}
	for {
		var tcpErr tcpip.Error
		// The stack must not wait within Read: the connection is locked there.
		err := t.raw.Write(func(fd uintptr) bool {
			w.fd, w.full, w.err = int(fd), false, nil
			_, tcpErr = t.inner.Read(w, tcpip.ReadOptions{})
			return !w.full
		})
		if err = errors.Join(err, w.err); err != nil {
			return err
		}
		switch tcpErr.(type) {
		case nil:
		case *tcpip.ErrWouldBlock:
			<-ready
		case *tcpip.ErrClosedForReceive:
			return nil
		default:
			return errClosed
		}
	}
}

// rawWriter writes to a socket without waiting.
type rawWriter struct {
	fd   int
	full bool
	err  error
}

func (w *rawWriter) Write(b []byte) (int, error) {
	n, err := unix.Write(w.fd, b)
	for err == unix.EINTR {
		n, err = unix.Write(w.fd, b)
	}
	switch {
	case err == unix.EAGAIN:
		w.full = true
		return 0, io.ErrShortWrite
	case err != nil:
		w.err = err
		return 0, err
	case n < len(b):
		w.full = true
		return n, io.ErrShortWrite
	}
	return n, nil
}

// chunkSize is how much is read at once from the machine's socket.
const chunkSize = 256 << 10

var chunks = sync.Pool{New: func() any { return new([chunkSize]byte) }}

// toInner moves what the machine's socket receives to the container.
func (t *tube) toInner() error {
	room, done := t.notify(waiter.WritableEvents)
	defer done()
	for {
		var chunk *[chunkSize]byte
		var n int
		var readErr error
		err := t.raw.Read(func(fd uintptr) bool {
			chunk = chunks.Get().(*[chunkSize]byte)
			n, readErr = unix.Read(int(fd), chunk[:])
			if readErr == unix.EAGAIN {
				chunks.Put(chunk)
			}
			return readErr != unix.EAGAIN
		})
		if err != nil {
			return err
		}
		if readErr == nil {
			readErr = t.send(chunk[:max(n, 0)], room)
		}
		chunks.Put(chunk)
		if readErr != nil && readErr != unix.EINTR {
			return readErr
		}
		if n == 0 {
			return nil
		}
	}
}

// send writes all of b to the container.
func (t *tube) send(b []byte, room <-chan struct{}) error {
	r := bytes.NewReader(b)
	for r.Len() > 0 {
		_, tcpErr := t.inner.Write(r, tcpip.WriteOptions{})
		switch tcpErr.(type) {
		case nil:
		case *tcpip.ErrWouldBlock:
			<-room
		default:
			return errClosed
		}
	}
	return nil
}
