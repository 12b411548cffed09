package network

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// ground is the network namespace in which bridges are, with what is needed to work
// on it. It belongs to the caller of openGround, who closes it.
type ground struct {
	ns    *os.File
	links *netlink.Handle
	table *table
}

// openGround opens namespace ns, nil meaning the caller's own.
func openGround(ns *os.File) (*ground, error) {
	g := &ground{ns: ns}
	err := within(ns, func() (err error) {
		g.links, err = netlink.NewHandle(unix.NETLINK_ROUTE)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("open netlink: %w", err)
	}
	if g.table, err = openTable(ns); err != nil {
		g.links.Close()
		return nil, err
	}
	return g, nil
}

func (g *ground) Close() error {
	g.links.Close()
	return g.table.Close()
}

// markPrefix begins the alias of bridges that are ours.
const markPrefix = "cooper network "

// mark is the alias of n's bridge. A bridge that has it is complete.
func mark(n *Network) string {
	s := markPrefix + n.ID + " " + netip.PrefixFrom(n.Gateway, n.Subnet.Bits()).String()
	if n.Subnet6.IsValid() {
		s += " " + netip.PrefixFrom(n.Gateway6, n.Subnet6.Bits()).String()
	}
	return s
}

// subnetsOf reads the subnets from a mark.
func subnetsOf(mark string) (ip4, ip6 netip.Prefix) {
	for _, word := range strings.Fields(mark) {
		p, err := netip.ParsePrefix(word)
		switch {
		case err != nil:
		case p.Addr().Is4():
			ip4 = p.Masked()
		default:
			ip6 = p.Masked()
		}
	}
	return ip4, ip6
}

// bridge is a network's bridge.
type bridge netlink.Link

// prepare returns n's bridge, with what the nft table has for it; both are made if
// they are not there. leases are all that there are, n's own among them.
func (g *ground) prepare(n *Network, leases []*lease) (b bridge, warnings []string, err error) {
	if b, err = g.find(n, leases); err != nil {
		return nil, nil, err
	}
	made := b == nil
	if made {
		if b, err = g.makeBridge(n, leases); err != nil {
			return nil, nil, fmt.Errorf("make bridge %s for network %s: %w", n.Bridge, n.Name, err)
		}
	}
	if made {
		err = g.gather(b, n, leases)
	}
	if err == nil {
		warnings, err = g.provide(n, leases, made)
	}
	if err == nil && made {
		err = g.links.LinkSetAlias(b, mark(n))
	}
	if err != nil && made {
		err = errors.Join(err, g.removeBridge(b))
	}
	if !made {
		return b, nil, err // the first container has had the warnings
	}
	_ = within(g.ns, func() error {
		warnings = append(warnings, warnOfLegacy(n)...)
		return nil
	})
	return b, warnings, err
}

// provide has nft tables have what n needs, ours and others'. new says that its bridge
// is. Reloading the host's firewall may have removed either.
func (g *ground) provide(n *Network, leases []*lease, new bool) (warnings []string, err error) {
	chains, err := g.table.conn.ListChains()
	if err != nil {
		return nil, fmt.Errorf("list nft chains: %w", err)
	}
	switch {
	case !slices.ContainsFunc(chains, g.table.has):
		if err := g.table.make(g.localhost(), leases); err != nil {
			return nil, err
		}
	case new:
		g.table.addNetwork(n)
		if err := g.table.flush("add network to nft table"); err != nil {
			return nil, err
		}
	}
	return g.table.passForeign(n, chains)
}

// gather connects the links of containers that are on the network already: somebody
// has removed its bridge.
func (g *ground) gather(b bridge, n *Network, leases []*lease) error {
	for _, l := range leases {
		for i := range l.Places {
			if p := &l.Places[i]; p.Network.ID == n.ID {
				if err := g.attach(b, p); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// attach connects the link of a place with its network's bridge, unless it is or there
// is none yet.
func (g *ground) attach(b bridge, p *place) error {
	link, err := g.links.LinkByName(p.Link)
	if errors.As(err, new(netlink.LinkNotFoundError)) || err == nil && link.Attrs().MasterIndex == b.Attrs().Index {
		return nil
	}
	if err == nil {
		err = g.links.LinkSetMasterByIndex(link, b.Attrs().Index)
	}
	if err == nil && g.bridgesCallChains() {
		err = g.links.LinkSetHairpin(link, true)
	}
	if err != nil {
		return fmt.Errorf("connect to bridge %s: %w", p.Network.Bridge, err)
	}
	hurry(g.links, p.Link, p.Network.Bridge)
	return nil
}

// find returns n's bridge, or nil. What an earlier network of that name left is
// removed.
func (g *ground) find(n *Network, leases []*lease) (bridge, error) {
	for _, l := range leases {
		for _, p := range l.Places {
			if p.Network.Bridge == n.Bridge && mark(&p.Network) != mark(n) {
				return nil, fmt.Errorf("bridge %s of network %s is in use for another network, %s, by container %s: stop that first", n.Bridge, n.Name, p.Network.Name, l.Name)
			}
		}
	}
	link, err := g.links.LinkByName(n.Bridge)
	switch {
	case errors.As(err, new(netlink.LinkNotFoundError)):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("look for bridge %s: %w", n.Bridge, err)
	case link.Attrs().Alias == mark(n):
		return link, nil
	case isOurs(link):
		return nil, g.removeBridge(link)
	}
	return nil, fmt.Errorf("interface %s, which network %s needs, belongs to somebody else: rename or remove that, or make the network with another --interface-name", n.Bridge, n.Name)
}

// isOurs reports whether link is a network's bridge, or one whose maker was killed
// before it could mark it.
func isOurs(link netlink.Link) bool {
	a := link.Attrs()
	return link.Type() == "bridge" && (strings.HasPrefix(a.Alias, markPrefix) || a.Alias == "" && bytes.HasPrefix(a.HardwareAddr, macPrefix) && strings.HasPrefix(a.Name, "cooper"))
}

// makeBridge makes n's bridge, but for its mark.
func (g *ground) makeBridge(n *Network, leases []*lease) (_ bridge, err error) {
	if err := g.makeRoom(n, leases); err != nil {
		return nil, err
	}
	mac, err := net.ParseMAC(macOf(n.Gateway))
	if err != nil {
		return nil, err
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU, attrs.HardwareAddr = n.Bridge, g.mtu(n), mac
	b := &netlink.Bridge{LinkAttrs: attrs}
	if err := g.links.LinkAdd(b); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, g.links.LinkDel(b))
		}
	}()
	if err := within(g.ns, func() error { return setBridge(n) }); err != nil {
		return nil, err
	}
	if err := addAddress(g.links, b, netip.PrefixFrom(n.Gateway, n.Subnet.Bits())); err != nil {
		return nil, err
	}
	if n.Subnet6.IsValid() {
		if err := addAddress(g.links, b, netip.PrefixFrom(n.Gateway6, n.Subnet6.Bits())); err != nil {
			return nil, err
		}
	}
	return b, g.links.LinkSetUp(b)
}

// localhost reports whether the machine's 127.0.0.1 can be led to containers.
func (g *ground) localhost() bool {
	return within(g.ns, func() error { return unix.Access(sysctlDir+"ipv4/conf/all/route_localnet", unix.W_OK) }) == nil
}

// removeBridge removes a network's bridge and what nft tables have for it.
func (g *ground) removeBridge(link netlink.Link) error {
	name := link.Attrs().Name
	n := &Network{Bridge: name, Internal: true} // it is tried, at least
	n.Subnet, n.Subnet6 = subnetsOf(link.Attrs().Alias)
	return errors.Join(g.table.removeNetwork(n), g.table.forgetForeign(name), g.unplug(name))
}

// unplug removes an interface. It is no error when it is not there.
func (g *ground) unplug(name string) error {
	link, err := g.links.LinkByName(name)
	if errors.As(err, new(netlink.LinkNotFoundError)) {
		return nil
	}
	if err == nil {
		err = g.links.LinkDel(link)
	}
	if err == nil || errors.Is(err, unix.ENODEV) {
		return nil
	}
	return fmt.Errorf("remove interface %s: %w", name, err)
}

// setBridge sets what is the bridge's alone below /proc/sys/net, and that the machine
// forwards packets at all.
func setBridge(n *Network) error {
	if err := forwardPackets("ipv4/ip_forward"); err != nil && !forwardToUplink(n.Bridge) {
		return err
	}
	// The rules for the machine's 127.0.0.1 need it; without it they are left out.
	_ = setSysctl("ipv4/conf/"+n.Bridge+"/route_localnet", "1")
	if !n.Subnet6.IsValid() {
		_ = setSysctl("ipv6/conf/"+n.Bridge+"/disable_ipv6", "1") // there may be no IPv6
		return nil
	}
	if err := keepRouters(); err != nil {
		return err
	}
	if err := forwardPackets("ipv6/conf/all/forwarding"); err != nil {
		return err
	}
	if err := setSysctl("ipv6/conf/"+n.Bridge+"/accept_ra", "0"); err != nil {
		return err
	}
	return setIPv6(n.Bridge)
}

// forwardPackets sets a switch of the machine that has to be 1.
func forwardPackets(name string) error {
	if b, err := os.ReadFile(sysctlDir + name); err == nil && strings.TrimSpace(string(b)) == "1" {
		return nil
	}
	if err := setSysctl(name, "1"); err != nil {
		return fmt.Errorf("this machine does not forward packets (sysctl net.%s), which networks of containers need: %w; have it set, or use --network host", strings.ReplaceAll(name, "/", "."), err)
	}
	return nil
}

// keepRouters has interfaces that learn their IPv6 routes from routers go on with
// that when the machine becomes a router itself.
func keepRouters() error {
	if b, err := os.ReadFile(sysctlDir + "ipv6/conf/all/forwarding"); err != nil || strings.TrimSpace(string(b)) == "1" {
		return err
	}
	interfaces, err := os.ReadDir(sysctlDir + "ipv6/conf")
	if err != nil {
		return err
	}
	for _, i := range interfaces {
		name := "ipv6/conf/" + i.Name() + "/accept_ra"
		if b, err := os.ReadFile(sysctlDir + name); err != nil || strings.TrimSpace(string(b)) != "1" {
			continue
		}
		if err := setSysctl(name, "2"); err != nil {
			return err
		}
	}
	return nil
}

const sysctlDir = "/proc/sys/net/"

func setSysctl(name, value string) error {
	return os.WriteFile(sysctlDir+name, []byte(value), 0)
}

// makeRoom refuses a subnet in which the machine has addresses already, except on
// the bridge of a network that nobody is on: that one it removes.
func (g *ground) makeRoom(n *Network, leases []*lease) error {
	addresses, err := g.links.AddrList(nil, netlink.FAMILY_ALL)
	if err != nil {
		return err
	}
	for _, a := range addresses {
		p, ok := prefixOf(a.IPNet)
		if !ok || !p.Overlaps(n.Subnet) && !(n.Subnet6.IsValid() && p.Overlaps(n.Subnet6)) {
			continue
		}
		link, err := g.links.LinkByIndex(a.LinkIndex)
		if err != nil {
			return err
		}
		if !isOurs(link) || bridgesOf(leases)[link.Attrs().Name] {
			return fmt.Errorf("subnet %s overlaps with %s of this machine's interface %s: create the network with another --subnet", n.Subnet, p, link.Attrs().Name)
		}
		if err := g.removeBridge(link); err != nil {
			return err
		}
	}
	return nil
}

// bridgesOf returns the bridges that somebody is on.
func bridgesOf(leases []*lease) map[string]bool {
	all := map[string]bool{}
	for _, l := range leases {
		for _, p := range l.Places {
			all[p.Network.Bridge] = true
		}
	}
	return all
}

// prefixOf is n as a Prefix.
func prefixOf(n *net.IPNet) (netip.Prefix, bool) {
	if n == nil {
		return netip.Prefix{}, false
	}
	a, ok := netip.AddrFromSlice(n.IP)
	bits, _ := n.Mask.Size()
	return netip.PrefixFrom(a.Unmap(), bits), ok
}

// ipNet is p as package net has it.
func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// addAddress gives link an address. Nobody else has it: addresses are leased.
func addAddress(links *netlink.Handle, link netlink.Link, p netip.Prefix) error {
	a := &netlink.Addr{IPNet: ipNet(p)}
	if p.Addr().Is6() {
		a.Flags = unix.IFA_F_NODAD
	}
	if err := links.AddrAdd(link, a); err != nil {
		return fmt.Errorf("address %s: %w", p, err)
	}
	return nil
}

// mtu is the size of packets on n's interfaces, 0 for the kernel's default.
func (g *ground) mtu(n *Network) int {
	if n.MTU > 0 {
		return n.MTU
	}
	routes, err := g.links.RouteGet(net.IPv4(1, 1, 1, 1)) // anywhere outside
	if err != nil || len(routes) == 0 {
		return 0
	}
	link, err := g.links.LinkByIndex(routes[0].LinkIndex)
	if err != nil {
		return 0
	}
	return link.Attrs().MTU
}
