package network

import (
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
)

// Check refuses addresses that a container cannot have on the network, whoever else
// is there.
func (a *Attachment) Check() error {
	n := &a.Network
	for _, wanted := range []struct {
		address, gateway netip.Addr
		subnet           netip.Prefix
	}{{a.IP, n.Gateway, n.Subnet}, {a.IP6, n.Gateway6, n.Subnet6}} {
		switch {
		case !wanted.address.IsValid():
		case !wanted.subnet.IsValid():
			return fmt.Errorf("address %s: network %s has no IPv6 addresses (network create --ipv6)", wanted.address, n.Name)
		case !wanted.subnet.Contains(wanted.address):
			return fmt.Errorf("address %s is not in subnet %s of network %s", wanted.address, wanted.subnet, n.Name)
		case wanted.address == wanted.gateway:
			return fmt.Errorf("address %s is the gateway of network %s: choose another", wanted.address, n.Name)
		}
	}
	if mac, err := net.ParseMAC(a.MAC); a.MAC != "" && (err != nil || len(mac) != 6) {
		return fmt.Errorf("invalid MAC address %q: want six bytes as 02:42:0a:57:00:02", a.MAC)
	}
	return nil
}

// choose gives a an address, MAC and interface names. used are the places on all
// networks of all other containers, own those that the container has already.
func choose(a Attachment, used []*lease, own []place) (place, error) {
	if err := a.Check(); err != nil {
		return place{}, err
	}
	p := place{Network: a.Network, Aliases: a.Aliases, IP: a.IP, IP6: a.IP6, MAC: a.MAC}
	n := &a.Network
	taken := map[netip.Addr]string{n.Gateway: "", n.Gateway6: ""}
	for _, l := range used {
		for _, other := range l.Places {
			if other.Network.ID == n.ID {
				taken[other.IP], taken[other.IP6] = l.Name, l.Name
			}
		}
	}
	var err error
	if p.IP, err = address(n, a.IP, n.Subnet, n.IPRange, taken); err != nil {
		return place{}, err
	}
	if n.Subnet6.IsValid() {
		if p.IP6, err = address(n, a.IP6, n.Subnet6, netip.Prefix{}, taken); err != nil {
			return place{}, err
		}
	}
	if p.MAC == "" {
		p.MAC = macOf(p.IP)
	}
	p.Interface = freeInterface(own)
	p.Link = newLinkName()
	return p, nil
}

// address is wanted, if it can be had, or the first free address of within (or,
// without that, of subnet).
func address(n *Network, wanted netip.Addr, subnet, within netip.Prefix, taken map[netip.Addr]string) (netip.Addr, error) {
	if wanted.IsValid() {
		if name, has := taken[wanted]; has {
			return wanted, fmt.Errorf("address %s is in use by container %s: choose another or stop that", wanted, name)
		}
		return wanted, nil
	}
	if !within.IsValid() {
		within = subnet
	}
	last := lastAddress(subnet) // the broadcast address
	for a := within.Masked().Addr(); within.Contains(a); a = a.Next() {
		if _, has := taken[a]; !has && a != subnet.Masked().Addr() && a != last {
			return a, nil
		}
	}
	return netip.Addr{}, fmt.Errorf("network %s has no free address left in %s: remove containers, or create one with a larger --subnet", n.Name, within)
}

// lastAddress is the highest address of p.
func lastAddress(p netip.Prefix) netip.Addr {
	b := p.Masked().Addr().AsSlice()
	for i := p.Bits(); i < len(b)*8; i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}

// macOf is a locally administered address made from ip: who gets the IP address
// next has the MAC address with it, and no neighbour's table is wrong.
func macOf(ip netip.Addr) string {
	b := ip.As4()
	return net.HardwareAddr(append(slices.Clone(macPrefix), b[:]...)).String()
}

// macPrefix begins the MAC addresses that we choose; docker's begin so too.
var macPrefix = []byte{0x02, 0x42}

// freeInterface is the first of eth0, eth1 ... that is not among own.
func freeInterface(own []place) string {
	for i := 0; ; i++ {
		name := fmt.Sprintf("eth%d", i)
		free := true
		for _, p := range own {
			free = free && p.Interface != name
		}
		if free {
			return name
		}
	}
}

// linkPrefix begins the names of our links on the host's side.
const linkPrefix = "co"

// newLinkName is a name for the host's end of a container's interface. A container
// that is started again does not wait until its former interface has gone.
func newLinkName() string {
	b := make([]byte, 5)
	rand.Read(b) // never fails
	return linkPrefix + hex.EncodeToString(b)
}

// offset returns the i-th address of p.
func offset(p netip.Prefix, i uint32) netip.Addr {
	a := p.Masked().Addr()
	if a.Is4() {
		b := a.As4()
		binary.BigEndian.PutUint32(b[:], binary.BigEndian.Uint32(b[:])+i)
		return netip.AddrFrom4(b)
	}
	b := a.As16()
	binary.BigEndian.PutUint32(b[12:], binary.BigEndian.Uint32(b[12:])+i)
	return netip.AddrFrom16(b)
}

// isLinkName reports whether name can be one that newLinkName made.
func isLinkName(name string) bool {
	rest, ok := strings.CutPrefix(name, linkPrefix)
	_, err := hex.DecodeString(rest)
	return ok && err == nil && len(rest) == 10
}
