package network

import (
	"fmt"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// forgetFlows has the kernel forget where datagrams to ports went: as long as they
// keep coming it would lead them there, that is to a container that has ended or to
// the reserving socket.
func forgetFlows(ports []Port) error {
	filter := flowFilter{}
	for _, p := range ports {
		if p.Protocol == "udp" {
			filter[p.HostPort] = true
		}
	}
	if len(filter) == 0 {
		return nil
	}
	for _, f := range []netlink.InetFamily{unix.AF_INET, unix.AF_INET6} {
		if _, err := netlink.ConntrackDeleteFilters(netlink.ConntrackTable, f, filter); err != nil {
			return fmt.Errorf("forget flows of published ports: %w", err)
		}
	}
	return nil
}

// flowFilter matches flows of datagrams to the host ports in it.
type flowFilter map[uint16]bool

// MatchConntrackFlow reports whether the flow is one of them.
func (f flowFilter) MatchConntrackFlow(flow *netlink.ConntrackFlow) bool {
	return flow.Forward.Protocol == unix.IPPROTO_UDP && f[flow.Forward.DstPort]
}
