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
// or to the reserving socket. Clients of sctp often keep their ports too: forgotten
// is what they have sent to this container.
func forgetFlows(ports []Port, to target) error {
	filter := flowFilter{ports: map[uint16]bool{}, local: map[netip.Addr]bool{}}
	if publishesSCTP(ports) {
		filter.container = to
	}
	for _, p := range ports {
		if p.Protocol == "udp" {
			filter.ports[p.HostPort] = true
		}
	}
	if len(filter.ports) == 0 && filter.container == (target{}) {
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

// flowFilter matches flows to the machine's own addresses: of datagrams to ports, and
// of sctp, whose ports the library does not read, that were led to a container.
type flowFilter struct {
	ports     map[uint16]bool
	container target
	local     map[netip.Addr]bool
}

// MatchConntrackFlow reports whether the flow is one of them.
func (f flowFilter) MatchConntrackFlow(flow *netlink.ConntrackFlow) bool {
	to, _ := netip.AddrFromSlice(flow.Forward.DstIP)
	if !f.local[to.Unmap()] {
		return false
	}
	switch flow.Forward.Protocol {
	case unix.IPPROTO_UDP:
		return f.ports[flow.Forward.DstPort]
	case unix.IPPROTO_SCTP:
		by, _ := netip.AddrFromSlice(flow.Reverse.SrcIP)
		return by.IsValid() && (by.Unmap() == f.container.IP4 || by == f.container.IP6)
	}
	return false
}
