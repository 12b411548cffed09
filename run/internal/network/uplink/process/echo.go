package process

import (
	"encoding/binary"
	"net/netip"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"

	"cooper/run/internal/network/uplink"
)

const (
	// echoIdle is how long a ping waits for its next answer.
	echoIdle = 30 * time.Second
	// maxEchoes bounds the pings under way.
	maxEchoes = 256
)

// echo is an ICMP echo request of a container: ping.
type echo struct {
	protocol tcpip.NetworkProtocolNumber
	src, dst tcpip.Address
	id, seq  uint16
	data     []byte
}

// parseEcho reads packet; false says that it is something else.
func parseEcho(protocol tcpip.NetworkProtocolNumber, packet []byte) (e echo, ok bool) {
	var message []byte
	switch protocol {
	case header.IPv4ProtocolNumber:
		h := header.IPv4(packet)
		if !h.IsValid(len(packet)) || h.TransportProtocol() != header.ICMPv4ProtocolNumber || h.More() || h.FragmentOffset() != 0 {
			return e, false
		}
		e.src, e.dst, message = h.SourceAddress(), h.DestinationAddress(), h.Payload()
		ok = len(message) >= header.ICMPv4MinimumSize && header.ICMPv4(message).Type() == header.ICMPv4Echo
	case header.IPv6ProtocolNumber:
		h := header.IPv6(packet)
		if !h.IsValid(len(packet)) || h.TransportProtocol() != header.ICMPv6ProtocolNumber {
			return e, false
		}
		e.src, e.dst, message = h.SourceAddress(), h.DestinationAddress(), h.Payload()
		ok = len(message) >= header.ICMPv6EchoMinimumSize && header.ICMPv6(message).Type() == header.ICMPv6EchoRequest
	}
	if !ok {
		return e, false
	}
	e.protocol = protocol
	e.id, e.seq = binary.BigEndian.Uint16(message[4:]), binary.BigEndian.Uint16(message[6:])
	e.data = message[8:]
	return e, true
}

// key tells pings apart.
type echoKey struct {
	src, dst tcpip.Address
	id       uint16
}

// echoes sends pings through sockets of the machine. Whether users may have such is
// a setting of the machine (net.ipv4.ping_group_range); if not, a ping is answered
// with what a firewall would say.
type echoes struct {
	link *link

	mu      sync.Mutex
	sockets map[echoKey]*os.File
}

func newEchoes(l *link) *echoes {
	return &echoes{link: l, sockets: map[echoKey]*os.File{}}
}

// intercept is for the link. The stack would answer every ping itself, whoever it
// was for: that is right for its own address only.
func (x *echoes) intercept(protocol tcpip.NetworkProtocolNumber, packet []byte) bool {
	e, ok := parseEcho(protocol, packet)
	if !ok {
		return false
	}
	if ip, _ := netip.AddrFromSlice(e.dst.AsSlice()); ip == uplink.Gateway || ip == uplink.Gateway6 {
		return false
	}
	socket, err := x.socket(e)
	if err != nil {
		x.link.send(protocol, prohibited(e, packet))
		return true
	}
	if socket != nil {
		socket.SetReadDeadline(time.Now().Add(echoIdle))
		kind := byte(header.ICMPv4Echo)
		if protocol == header.IPv6ProtocolNumber {
			kind = byte(header.ICMPv6EchoRequest)
		}
		socket.Write(echoMessage(kind, e)) // the kernel fills in id and checksum
	}
	return true
}

// socket returns the ping's socket; nil when there are too many.
func (x *echoes) socket(e echo) (*os.File, error) {
	key := echoKey{e.src, e.dst, e.id}
	x.mu.Lock()
	defer x.mu.Unlock()
	if f := x.sockets[key]; f != nil || len(x.sockets) >= maxEchoes {
		return f, nil
	}
	f, err := pingSocket(e.dst)
	if err != nil {
		return nil, err
	}
	x.sockets[key] = f
	e.data = nil
	go func() {
		x.answers(f, e)
		x.mu.Lock()
		delete(x.sockets, key)
		x.mu.Unlock()
		f.Close()
	}()
	return f, nil
}

// pingSocket makes a socket connected to a.
func pingSocket(a tcpip.Address) (*os.File, error) {
	ip, ok := destination(a)
	if !ok {
		return nil, unix.EHOSTUNREACH
	}
	domain, protocol, address := unix.AF_INET, unix.IPPROTO_ICMP, unix.Sockaddr(nil)
	if ip.Is4() {
		address = &unix.SockaddrInet4{Addr: ip.As4()}
	} else {
		domain, protocol, address = unix.AF_INET6, unix.IPPROTO_ICMPV6, &unix.SockaddrInet6{Addr: ip.As16()}
	}
	fd, err := unix.Socket(domain, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, protocol)
	if err != nil {
		return nil, err
	}
	if err := unix.Connect(fd, address); err != nil {
		unix.Close(fd)
		return nil, err
	}
	return os.NewFile(uintptr(fd), "ping"), nil
}

// answers hands the answers to e, and to those like it, back to the container.
func (x *echoes) answers(f *os.File, e echo) {
	b := make([]byte, 64<<10)
	for {
		n, err := f.Read(b)
		if err != nil {
			return
		}
		if n < 8 {
			continue
		}
		e.seq, e.data = binary.BigEndian.Uint16(b[6:]), b[8:n]
		kind := byte(header.ICMPv4EchoReply)
		if e.protocol == header.IPv6ProtocolNumber {
			kind = byte(header.ICMPv6EchoReply)
		}
		x.link.send(e.protocol, toContainer(e, echoMessage(kind, e)))
	}
}

// echoMessage is e as an ICMP message of a kind, without a checksum.
func echoMessage(kind byte, e echo) []byte {
	b := make([]byte, 8, 8+len(e.data))
	b[0] = kind
	binary.BigEndian.PutUint16(b[4:], e.id)
	binary.BigEndian.PutUint16(b[6:], e.seq)
	return append(b, e.data...)
}

// prohibited is the packet that says that a ping is administratively prohibited; it
// quotes the beginning of the packet.
func prohibited(e echo, packet []byte) []byte {
	b := make([]byte, 8)
	b[0], b[1] = byte(header.ICMPv4DstUnreachable), byte(header.ICMPv4AdminProhibited)
	quote := header.IPv4MaximumHeaderSize + 8
	if e.protocol == header.IPv6ProtocolNumber {
		b[0], b[1] = byte(header.ICMPv6DstUnreachable), byte(header.ICMPv6Prohibited)
		quote = header.IPv6MinimumMTU - header.IPv6MinimumSize - len(b)
	}
	return toContainer(e, append(b, packet[:min(len(packet), quote)]...))
}

// toContainer makes a packet to the sender of e from whom it had been sent to.
func toContainer(e echo, message []byte) []byte {
	const ttl = 64
	message[2], message[3] = 0, 0
	if e.protocol == header.IPv6ProtocolNumber {
		pseudo := header.PseudoHeaderChecksum(header.ICMPv6ProtocolNumber, e.dst, e.src, uint16(len(message)))
		binary.BigEndian.PutUint16(message[2:], ^checksum.Checksum(message, pseudo))
		b := make([]byte, header.IPv6MinimumSize, header.IPv6MinimumSize+len(message))
		header.IPv6(b).Encode(&header.IPv6Fields{
			PayloadLength:     uint16(len(message)),
			TransportProtocol: header.ICMPv6ProtocolNumber,
			HopLimit:          ttl,
			SrcAddr:           e.dst,
			DstAddr:           e.src,
		})
		return append(b, message...)
	}
	binary.BigEndian.PutUint16(message[2:], ^checksum.Checksum(message, 0))
	b := make([]byte, header.IPv4MinimumSize, header.IPv4MinimumSize+len(message))
	h := header.IPv4(b)
	h.Encode(&header.IPv4Fields{
		TotalLength: uint16(header.IPv4MinimumSize + len(message)),
		TTL:         ttl,
		Protocol:    uint8(header.ICMPv4ProtocolNumber),
		SrcAddr:     e.dst,
		DstAddr:     e.src,
	})
	h.SetChecksum(^h.CalculateChecksum())
	return append(b, message...)
}
