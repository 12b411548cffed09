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

// udpClient is a client of a published port: whoever sends from one address to one
// of the machine's.
type udpClient struct {
	udpFlow
	// control has the kernel send answers from the address that was asked.
	control   []byte
	container *os.File
}

// udpFlow is what a client's datagrams have in common. At is the zero Addr where the
// port has one address only.
type udpFlow struct {
	from netip.AddrPort
	at   netip.Addr
}

// serveUDP gives every client a socket of its own, as a NAT would.
func (x *proxy) serveUDP(l *net.UDPConn) {
	var mu sync.Mutex
	clients := map[udpFlow]*udpClient{}
	forget := func(c *udpClient) {
		mu.Lock()
		delete(clients, c.udpFlow)
		mu.Unlock()
		x.release(c.container)
	}
	askForAddresses(l)
	buffer, control := new([datagramSize]byte), make([]byte, 128)
	for {
		n, on, _, from, err := l.ReadMsgUDPAddrPort(buffer[:], control)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue // an ICMP message about an earlier answer
		}
		flow := udpFlow{from: from}
		var answer []byte
		flow.at, answer = addressAsked(control[:on])
		mu.Lock()
		c, full := clients[flow], len(clients) >= udpClients
		mu.Unlock()
		if c == nil {
			if full {
				continue
			}
			container, err := x.dial(unix.SOCK_DGRAM, from)
			if err != nil {
				continue
			}
			if !x.keep(container) {
				container.Close()
				return
			}
			c = &udpClient{udpFlow: flow, control: answer, container: container}
			mu.Lock()
			clients[flow] = c
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

// askForAddresses has the kernel say to which of the machine's addresses a datagram
// was sent.
func askForAddresses(l *net.UDPConn) {
	raw, err := l.SyscallConn()
	if err != nil {
		return
	}
	raw.Control(func(fd uintptr) {
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_PKTINFO, 1)
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1)
	})
}

// addressAsked reads what the kernel says of a datagram: the address that it was sent
// to, and the control message to answer from there.
func addressAsked(control []byte) (at netip.Addr, answer []byte) {
	messages, err := unix.ParseSocketControlMessage(control)
	if err != nil {
		return at, nil
	}
	for _, m := range messages {
		switch {
		case m.Header.Level == unix.IPPROTO_IP && m.Header.Type == unix.IP_PKTINFO && len(m.Data) >= unix.SizeofInet4Pktinfo:
			a := [4]byte(m.Data[8:12]) // ipi_addr, behind the index and ipi_spec_dst
			return netip.AddrFrom4(a), unix.PktInfo4(&unix.Inet4Pktinfo{Spec_dst: a})
		case m.Header.Level == unix.IPPROTO_IPV6 && m.Header.Type == unix.IPV6_PKTINFO && len(m.Data) >= unix.SizeofInet6Pktinfo:
			a := [16]byte(m.Data[:16])
			return netip.AddrFrom16(a), unix.PktInfo6(&unix.Inet6Pktinfo{Addr: a})
		}
	}
	return at, nil
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
			l.WriteMsgUDPAddrPort(buffer[:n], c.control, c.from)
			c.container.SetReadDeadline(time.Now().Add(udpIdle))
		}
		datagrams.Put(buffer)
	}
}
