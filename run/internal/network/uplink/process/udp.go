package process

import (
	"bytes"
	"net"
	"sync"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"
	"gvisor.dev/gvisor/pkg/waiter"
)

const (
	// flowIdle is how long a flow lasts after its last datagram; one of a
	// question and an answer, such as DNS, is over sooner.
	flowIdle = 2 * time.Minute
	dnsIdle  = 10 * time.Second
)

// datagram is a buffer for one.
type datagram [64 << 10]byte

var buffers = sync.Pool{New: func() any { return new(datagram) }}

// forwardUDP begins a flow. False has the stack answer that nobody is there.
func (b *budget) forwardUDP(r *udp.ForwarderRequest) bool {
	to, ok := target(r.ID())
	if !ok {
		return false
	}
	if !b.take() {
		return true // lost
	}
	var queue waiter.Queue
	inner, err := r.CreateEndpoint(&queue)
	if err != nil {
		b.give()
		return true
	}
	go func() {
		defer b.give()
		defer inner.Close()
		outer, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(to))
		if err != nil {
			return
		}
		defer outer.Close()
		newFlow(inner, &queue, outer, to.Port()).carry()
	}()
	return true
}

// flow is what one port of a container and one of elsewhere say to each other.
type flow struct {
	inner tcpip.Endpoint
	queue *waiter.Queue
	outer *net.UDPConn
	idle  time.Duration
	ended chan struct{}
}

func newFlow(inner tcpip.Endpoint, queue *waiter.Queue, outer *net.UDPConn, port uint16) *flow {
	f := &flow{inner: inner, queue: queue, outer: outer, idle: flowIdle, ended: make(chan struct{})}
	if port == 53 {
		f.idle = dnsIdle
	}
	return f
}

// carry lasts until nothing was said for a while.
func (f *flow) carry() {
	f.extend()
	go func() {
		defer close(f.ended)
		f.answers()
	}()
	f.questions()
	f.outer.Close()
	<-f.ended
}

func (f *flow) extend() { f.outer.SetReadDeadline(time.Now().Add(f.idle)) }

// questions sends what the container says.
func (f *flow) questions() {
	entry, ready := waiter.NewChannelEntry(waiter.ReadableEvents | waiter.EventHUp | waiter.EventErr)
	f.queue.EventRegister(&entry)
	defer f.queue.EventUnregister(&entry)
	for {
		b := buffers.Get().(*datagram)
		w := collector{b: b[:0]}
		_, err := f.inner.Read(&w, tcpip.ReadOptions{})
		if err == nil {
			f.outer.Write(w.b) // refused: the next answer says so
			f.extend()
		}
		buffers.Put(b)
		switch err.(type) {
		case nil:
		case *tcpip.ErrWouldBlock:
			select {
			case <-ready:
			case <-f.ended:
				return
			}
		default:
			return
		}
	}
}

// collector gathers the parts of one datagram.
type collector struct{ b []byte }

func (c *collector) Write(b []byte) (int, error) {
	c.b = append(c.b, b...)
	return len(b), nil
}

// answers hands over what comes back, until the flow is idle or refused.
func (f *flow) answers() {
	raw, err := f.outer.SyscallConn()
	if err != nil {
		return
	}
	for {
		var b *datagram
		var n int
		var readErr error
		err := raw.Read(func(fd uintptr) bool {
			b = buffers.Get().(*datagram)
			n, readErr = unix.Read(int(fd), b[:])
			if readErr == unix.EAGAIN {
				buffers.Put(b)
			}
			return readErr != unix.EAGAIN
		})
		if err != nil {
			return
		}
		if readErr == nil {
			f.inner.Write(bytes.NewReader(b[:n]), tcpip.WriteOptions{})
			f.extend()
		}
		buffers.Put(b)
		if readErr != nil {
			return
		}
	}
}
