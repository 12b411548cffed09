package network

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// inside is a container's network namespace.
type inside struct {
	ns    *os.File
	links *netlink.Handle
}

// newInside makes a network namespace, unless there is one, with the loopback interface
// up, and calls also there. Interfaces that are put there have no IPv6 unless they are given addresses.
func newInside(there *os.File, also func() error) (*inside, error) {
	in := new(inside)
	err := onThread(func() (err error) {
		if there != nil {
			err = os.NewSyscallError("setns", unix.Setns(int(there.Fd()), unix.CLONE_NEWNET))
		} else {
			err = os.NewSyscallError("unshare", unix.Unshare(unix.CLONE_NEWNET))
		}
		if err != nil {
			return fmt.Errorf("make network namespace: %w", err)
		}
		if in.ns, err = os.Open(ownNamespace); err != nil {
			return err
		}
		if in.links, err = netlink.NewHandle(unix.NETLINK_ROUTE); err != nil {
			return fmt.Errorf("open netlink: %w", err)
		}
		_ = setSysctl("ipv6/conf/default/disable_ipv6", "1") // there may be no IPv6
		// Bridges learn where a MAC address is that was elsewhere just now. Inside
		// of a container nothing can be set, and they learn it a little later.
		if err := setSysctl("ipv4/conf/default/arp_notify", "1"); err != nil && !errors.Is(err, unix.EROFS) {
			return err
		}
		lo := &netlink.GenericLink{LinkAttrs: netlink.LinkAttrs{Index: 1}}
		if err := in.links.LinkSetUp(lo); err != nil {
			return err
		}
		return also()
	})
	if err != nil {
		return nil, errors.Join(err, in.Close())
	}
	return in, nil
}

// Close lets go of the namespace.
func (in *inside) Close() error {
	if in.links != nil {
		in.links.Close()
	}
	if in.ns == nil {
		return nil
	}
	return in.ns.Close()
}

// plug connects the namespace with a bridge as p says.
func (in *inside) plug(g *ground, b bridge, p *place) error {
	mac, err := net.ParseMAC(p.MAC)
	if err != nil {
		return err
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU, attrs.MasterIndex, attrs.Flags = p.Link, b.Attrs().MTU, b.Attrs().Index, net.FlagUp
	veth := &netlink.Veth{LinkAttrs: attrs, PeerName: p.Interface, PeerHardwareAddr: mac, PeerNamespace: netlink.NsFd(in.ns.Fd())}
	if err := g.links.LinkAdd(veth); err != nil {
		return fmt.Errorf("connect to bridge %s: %w", p.Network.Bridge, err)
	}
	err = in.configure(p)
	if err == nil && g.bridgesCallChains() {
		// Then a published port is led to the container before its packet is
		// routed, and its own packets go back by the port they came from.
		err = g.links.LinkSetHairpin(veth, true)
	}
	if err != nil {
		return errors.Join(err, g.links.LinkDel(veth))
	}
	hurry(in.links, p.Interface)
	hurry(g.links, p.Link, p.Network.Bridge)
	if p.IP6.IsValid() {
		await(in.links, p.IP6)
		await(g.links, p.Network.Gateway6)
	}
	return nil
}

// await waits until the kernel takes packets to an IPv6 address that was added, which
// it prepares in the background. Before that answers get lost, and are missed for a
// second.
func await(links *netlink.Handle, a netip.Addr) {
	for range 100 {
		routes, err := links.RouteGet(a.AsSlice())
		if err == nil && len(routes) > 0 && routes[0].Type == unix.RTN_LOCAL {
			return
		}
		time.Sleep(time.Millisecond)
	}
}

// bridgesCallChains reports whether packets that bridges hand on pass the chains of
// nft: that is so where the module br_netfilter is loaded.
func (g *ground) bridgesCallChains() bool {
	var b []byte
	err := within(g.ns, func() (err error) {
		b, err = os.ReadFile(sysctlDir + "bridge/bridge-nf-call-iptables")
		return err
	})
	return err == nil && strings.TrimSpace(string(b)) == "1"
}

// configure sets the container's end up.
func (in *inside) configure(p *place) error {
	link, err := in.links.LinkByName(p.Interface)
	if err != nil {
		return fmt.Errorf("interface %s: %w", p.Interface, err)
	}
	if p.IP6.IsValid() {
		if err := within(in.ns, func() error { return setIPv6(p.Interface) }); err != nil {
			return err
		}
	}
	s := p.status()
	for _, a := range []netip.Prefix{s.IP, s.IP6} {
		if !a.IsValid() {
			continue
		}
		if err := addAddress(in.links, link, a); err != nil {
			return err
		}
	}
	if err := in.links.LinkSetUp(link); err != nil {
		return fmt.Errorf("interface %s: %w", p.Interface, err)
	}
	return nil
}

// setIPv6 lets an interface have IPv6 addresses, and use them at once: those that it
// gets are nobody else's.
func setIPv6(name string) error {
	if err := setSysctl("ipv6/conf/"+name+"/accept_dad", "0"); err != nil {
		return err
	}
	return setSysctl("ipv6/conf/"+name+"/disable_ipv6", "0")
}

// hurry has the kernel notice now that links are up, as it does when they are looked
// at. Otherwise it can take a second, in which packets are dropped.
func hurry(links *netlink.Handle, names ...string) {
	for _, name := range names {
		_, _ = links.LinkByName(name) // looks, and that is enough
	}
}

// route makes p's network the way to everywhere else.
func (in *inside) route(p *place) error {
	link, err := in.links.LinkByName(p.Interface)
	if err != nil {
		return fmt.Errorf("interface %s: %w", p.Interface, err)
	}
	for _, gateway := range []netip.Addr{p.Network.Gateway, p.Network.Gateway6} {
		if !gateway.IsValid() {
			continue
		}
		err := in.links.RouteReplace(&netlink.Route{LinkIndex: link.Attrs().Index, Gw: gateway.AsSlice()})
		if err != nil {
			return fmt.Errorf("default route by %s: %w", gateway, err)
		}
	}
	return nil
}
