package process

import (
	"errors"
	"net"
	"net/netip"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"

	"cooper/run/internal/network/uplink"
)

const (
	nic = 1
	mtu = uplink.MTU
	// window is how much of a TCP connection's data may be under way: more than
	// this link needs at its fastest, and not so much that connections which
	// nobody reads from fill the memory.
	window = 1 << 20
	// waiting is how many TCP connections may be in the making.
	waiting = 4096
)

// newStack makes the stack that answers on l.
func newStack(l *link) (*stack.Stack, error) {
	s := stack.New(stack.Options{
		NetworkProtocols:   []stack.NetworkProtocolFactory{ipv4.NewProtocol, ipv6.NewProtocol},
		TransportProtocols: []stack.TransportProtocolFactory{tcp.NewProtocol, udp.NewProtocol},
	})
	sack := tcpip.TCPSACKEnabled(true)
	receive := tcpip.TCPReceiveBufferSizeRangeOption{Min: 4 << 10, Default: window / 2, Max: window}
	send := tcpip.TCPSendBufferSizeRangeOption{Min: 4 << 10, Default: window / 2, Max: window}
	moderate := tcpip.TCPModerateReceiveBufferOption(true)
	// Nothing is delayed on this link that an old connection could be mistaken for.
	timeWait := tcpip.TCPTimeWaitTimeoutOption(time.Second)
	for _, o := range []tcpip.SettableTransportProtocolOption{&sack, &receive, &send, &moderate, &timeWait} {
		if err := s.SetTransportProtocolOption(tcp.ProtocolNumber, o); err != nil {
			return nil, errors.New(err.String())
		}
	}
	l.intercept = newEchoes(l).intercept
	b := newBudget()
	s.SetTransportProtocolHandler(tcp.ProtocolNumber, tcp.NewForwarder(s, 0, waiting, b.forwardTCP).HandlePacket)
	s.SetTransportProtocolHandler(udp.ProtocolNumber, udp.NewForwarder(s, b.forwardUDP).HandlePacket)
	if err := s.CreateNIC(nic, l); err != nil {
		return nil, errors.New(err.String())
	}
	for protocol, a := range map[tcpip.NetworkProtocolNumber]netip.Addr{
		ipv4.ProtocolNumber: uplink.Gateway, ipv6.ProtocolNumber: uplink.Gateway6,
	} {
		own := tcpip.ProtocolAddress{Protocol: protocol, AddressWithPrefix: tcpip.AddrFromSlice(a.AsSlice()).WithPrefix()}
		if err := s.AddProtocolAddress(nic, own, stack.AddressProperties{}); err != nil {
			return nil, errors.New(err.String())
		}
	}
	s.SetRouteTable([]tcpip.Route{
		{Destination: header.IPv4EmptySubnet, NIC: nic},
		{Destination: header.IPv6EmptySubnet, NIC: nic},
	})
	// To answer for any address, and as any address.
	for _, set := range []func(tcpip.NICID, bool) tcpip.Error{s.SetPromiscuousMode, s.SetSpoofing} {
		if err := set(nic, true); err != nil {
			return nil, errors.New(err.String())
		}
	}
	return s, nil
}

// destination is where a packet for a goes on the machine. What only the machine
// itself could mean by it is refused: its loopback interface is not the containers'.
func destination(a tcpip.Address) (netip.Addr, bool) {
	ip, _ := netip.AddrFromSlice(a.AsSlice())
	ip = ip.Unmap() // ::ffff:127.0.0.1
	switch {
	case ip == uplink.Gateway:
		return machineAddress("udp4", "192.0.2.1:9")
	case ip == uplink.Gateway6:
		return machineAddress("udp6", "[2001:db8::1]:9")
	}
	return ip, routable(ip)
}

func routable(ip netip.Addr) bool {
	reserved := ip.IsLoopback() || ip.IsUnspecified() || ip.IsMulticast() || ip.Is6() && ip.IsLinkLocalUnicast() ||
		ip == netip.AddrFrom4([4]byte{255, 255, 255, 255}) || uplink.Address.Contains(ip) || uplink.Address6.Contains(ip)
	return ip.IsValid() && !reserved
}

// machineAddress is the address that the machine has for the world: that from which
// it would send to somewhere else. Nothing is sent.
func machineAddress(network, elsewhere string) (netip.Addr, bool) {
	c, err := net.Dial(network, elsewhere)
	if err != nil {
		return netip.Addr{}, false
	}
	defer c.Close()
	ip := c.LocalAddr().(*net.UDPAddr).AddrPort().Addr().Unmap()
	return ip, routable(ip)
}

// target is the machine's destination for a connection of a container.
func target(id stack.TransportEndpointID) (netip.AddrPort, bool) {
	ip, ok := destination(id.LocalAddress)
	return netip.AddrPortFrom(ip, id.LocalPort), ok
}
