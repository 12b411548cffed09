package network

import (
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// forgetFlows has the kernel forget where datagrams to published ports went: as long
// as they keep coming it would lead them there, that is to a container that has ended
// or to the reserving socket.
func forgetFlows(ports []Port) error {
	filter := flowFilter{ports: map[uint16]bool{}, local: map[netip.Addr]bool{}}
	for _, p := range ports {
		if p.Protocol == "udp" {
			filter.ports[p.HostPort] = true
		}
	}
	if len(filter.ports) == 0 {
		return nil
	}
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		return fmt.Errorf("list addresses: %w", err)
	}
	for _, a := range addresses {
		if n, ok := a.(*net.IPNet); ok {
			p, _ := prefixOf(n)
			filter.local[p.Addr()] = true
		}
	}
	for _, f := range []netlink.InetFamily{unix.AF_INET, unix.AF_INET6} {
		if _, err := netlink.ConntrackDeleteFilters(netlink.ConntrackTable, f, filter); err != nil {
			return fmt.Errorf("forget flows of published ports: %w", err)
		}
	}
	return nil
}

// flowFilter matches flows of datagrams to ports of the machine's own addresses.
type flowFilter struct {
	ports map[uint16]bool
	local map[netip.Addr]bool
}

// MatchConntrackFlow reports whether the flow is one of them.
func (f flowFilter) MatchConntrackFlow(flow *netlink.ConntrackFlow) bool {
	to, _ := netip.AddrFromSlice(flow.Forward.DstIP)
	return flow.Forward.Protocol == unix.IPPROTO_UDP && f.ports[flow.Forward.DstPort] && f.local[to.Unmap()]
}
