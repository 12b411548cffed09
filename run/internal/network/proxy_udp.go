package network

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// udpIdle is how long a client's port is remembered after its last datagram
	// in either direction; conntrack has two minutes for those that answer.
	udpIdle = 2 * time.Minute
	// udpClients bounds what a flood of made up senders can cost.
	udpClients = 4096
	// datagramSize is more than the largest datagram.
	datagramSize = 64 << 10
)

// datagrams are buffers for them.
var datagrams = sync.Pool{New: func() any { return new([datagramSize]byte) }}

// udpClient is a client of a published port: whoever sends from one address.
type udpClient struct {
	from      netip.AddrPort
	container *os.File
}

// serveUDP gives every client a socket of its own, as a NAT would.
func (x *proxy) serveUDP(l *net.UDPConn) {
	var mu sync.Mutex
	clients := map[netip.AddrPort]*udpClient{}
	forget := func(c *udpClient) {
		mu.Lock()
		delete(clients, c.from)
		mu.Unlock()
		x.release(c.container)
	}
	buffer := new([datagramSize]byte)
	for {
		n, from, err := l.ReadFromUDPAddrPort(buffer[:])
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue // an ICMP message about an earlier answer
		}
		mu.Lock()
		c, full := clients[from], len(clients) >= udpClients
		mu.Unlock()
		if c == nil {
			if full {
				continue
			}
			container, err := x.dial(unix.SOCK_DGRAM)
			if err != nil {
				continue
			}
			if !x.keep(container) {
				container.Close()
				return
			}
			c = &udpClient{from: from, container: container}
			mu.Lock()
			clients[from] = c
			mu.Unlock()
			x.done.Go(func() {
				defer forget(c)
				c.answers(l)
			})
		}
		c.container.SetReadDeadline(time.Now().Add(udpIdle))
		c.container.Write(buffer[:n]) // refused: then the answers say so
	}
}

// answers sends what the container says to the client, until there was nothing for
// a while.
func (c *udpClient) answers(l *net.UDPConn) {
	raw, err := c.container.SyscallConn()
	if err != nil {
		return
	}
	for {
		var buffer *[datagramSize]byte
		var n int
		var readErr error
		err := raw.Read(func(fd uintptr) bool {
			buffer = datagrams.Get().(*[datagramSize]byte)
			n, readErr = unix.Read(int(fd), buffer[:])
			if readErr == unix.EAGAIN {
				datagrams.Put(buffer)
			}
			return readErr != unix.EAGAIN
		})
		if err != nil {
			return // idle, or closed
		}
		if readErr == nil {
			l.WriteToUDPAddrPort(buffer[:n], c.from)
			c.container.SetReadDeadline(time.Now().Add(udpIdle))
		}
		datagrams.Put(buffer)
	}
}
