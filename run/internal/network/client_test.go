package network

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// visitors makes a machine, whose ports are proxied, and one beside it, and returns
// their namespaces. The bridges are here, in a third one, as with an ordinary user.
func visitors(t *testing.T) (machine, visitor *os.File) {
	t.Helper()
	var ends []*inside
	for range 2 {
		in, err := newInside(nil, func() error { return nil })
		must(t, err)
		t.Cleanup(func() { in.Close() })
		ends = append(ends, in)
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "eth0"
	must(t, ends[0].links.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "eth0", PeerNamespace: netlink.NsFd(ends[1].ns.Fd())}))
	for i, in := range ends {
		link, err := in.links.LinkByName("eth0")
		must(t, err)
		must(t, within(in.ns, func() error { return setIPv6("eth0") }))
		for _, a := range []string{"198.51.100.%d/24", "2001:db8:1::%d/64", "10.77.1.20%d/24"} {
			must(t, addAddress(in.links, link, netip.MustParsePrefix(fmt.Sprintf(a, i+1))))
		}
		must(t, in.links.LinkSetUp(link))
	}
	for i, in := range ends {
		await(in.links, netip.MustParseAddr(fmt.Sprintf("2001:db8:1::%d", i+1)))
	}
	return ends[0].ns, ends[1].ns
}

// here is this process's network namespace, in which answers to clients are kept
// until the test ends.
func here(t *testing.T) *os.File {
	t.Helper()
	ns, err := os.Open(ownNamespace)
	must(t, err)
	t.Cleanup(func() {
		ns.Close()
		conn, err := nftables.New()
		must(t, err)
		conn.DelTable(&nftables.Table{Name: clientsTable, Family: nftables.TableFamilyINet})
		must(t, conn.Flush())
		for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
			r := netlink.NewRule()
			r.Family, r.Mark, r.Table = family, clientsMark, clientsRoute
			must(t, netlink.RuleDel(r))
		}
		if answersKept() {
			t.Error("the rule is left")
		}
	})
	return ns
}

// visit says something from one address and port to another, and returns the answer.
func visit(t *testing.T, ns *os.File, network, from, to string) string {
	t.Helper()
	var answer []byte
	must(t, within(ns, func() error {
		d := net.Dialer{Timeout: 2 * time.Second, Control: func(_, _ string, c syscall.RawConn) error {
			return c.Control(func(fd uintptr) { unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, 1) })
		}}
		switch network {
		case "tcp":
			a, err := net.ResolveTCPAddr(network, from)
			d.LocalAddr = a
			must(t, err)
		default:
			a, err := net.ResolveUDPAddr(network, from)
			d.LocalAddr = a
			must(t, err)
		}
		c, err := d.Dial(network, to)
		if err != nil {
			return err
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(2 * time.Second))
		io.WriteString(c, "hello")
		answer = make([]byte, 100)
		n, err := c.Read(answer)
		answer = answer[:n]
		return err
	}))
	return string(answer)
}

// tellFrom has a container tell everybody where it sees them, by TCP and UDP.
func tellFrom(t *testing.T, s *Sandbox) {
	t.Helper()
	must(t, within(s.in.ns, func() error {
		l, err := net.Listen("tcp", ":80")
		p, e := net.ListenPacket("udp", ":80")
		if err := errors.Join(err, e); err != nil {
			return err
		}
		t.Cleanup(func() { l.Close(); p.Close() })
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				io.WriteString(c, c.RemoteAddr().String())
				go func() {
					defer c.Close()
					c.Read(make([]byte, 100))
					time.Sleep(time.Second) // others come meanwhile
				}()
			}
		}()
		go func() {
			b := make([]byte, 100)
			for {
				_, from, err := p.ReadFrom(b)
				if err != nil {
					return
				}
				p.WriteTo([]byte(from.String()), from)
			}
		}()
		return nil
	}))
}

var lastPort = 5000

// nextPort is a port that no test has used.
func nextPort() string {
	lastPort++
	return fmt.Sprint(lastPort)
}

// TestContainersSeeClients: a user's proxies stand in for those who come.
func TestContainersSeeClients(t *testing.T) {
	dir := runDirectory(t)
	n := testNetwork(1)
	n.Subnet6, n.Gateway6 = netip.MustParsePrefix("fd77::/64"), netip.MustParseAddr("fd77::1")
	r := request(dir, "a", n)
	a := setup(t, r)
	tellFrom(t, a)
	machine, visitor := visitors(t)
	bridges := here(t)
	inner, err := newSockets(bridges)
	must(t, err)
	t.Cleanup(func() { inner.Close() })
	for range 2 { // again does no harm
		inner.forClients(bridges, a.near)
	}
	publish := func(host netip.Addr, port uint16, protocol string) {
		t.Helper()
		must(t, within(machine, func() error {
			p := Port{HostPort: port, ContainerPort: 80, Protocol: protocol}
			x, _, err := newProxy(t.Context(), p, a.leased().target().address(host), inner)
			if err == nil {
				t.Cleanup(func() { x.Close() })
			}
			return err
		}))
	}
	for _, protocol := range []string{"tcp", "udp"} {
		publish(netip.Addr{}, 8080, protocol)
		publish(netip.Addr{}, 8081, protocol)
		publish(netip.IPv6Unspecified(), 8086, protocol)
	}
	// Each from a port of its own: the kernel remembers what was connected a while ago.
	check := func(t *testing.T) {
		for _, c := range []struct{ from, to, want string }{
			{"198.51.100.2", "198.51.100.1:8080", "198.51.100.2"},
			{"2001:db8:1::2", "[2001:db8:1::1]:8086", "2001:db8:1::2"},
			// The container would not send the answer to its gateway, or to another family.
			{"10.77.1.202", "10.77.1.201:8080", "10.77.1.1"},
			{"2001:db8:1::2", "[2001:db8:1::1]:8080", "10.77.1.1"},
		} {
			for _, network := range []string{"tcp", "udp"} {
				port := nextPort()
				host, seen, err := net.SplitHostPort(visit(t, visitor, network, net.JoinHostPort(c.from, port), c.to))
				if err != nil || host != c.want || host == c.from && seen != port {
					t.Errorf("%s from %s, port %s, to %s: the container sees %s, port %s", network, c.from, port, c.to, host, seen)
				}
			}
		}
	}
	t.Run("", check)
	const callChains = "bridge/bridge-nf-call-iptables"
	if setSysctl(callChains, "0") == nil {
		defer setSysctl(callChains, "1")
		t.Run("without bridge netfilter", check)
	}
	// From one port to two that lead to the same: the second comes from another.
	for _, network := range []string{"tcp", "udp"} {
		own := nextPort()
		first := visit(t, visitor, network, "198.51.100.2:"+own, "198.51.100.1:8080")
		second := visit(t, visitor, network, "198.51.100.2:"+own, "198.51.100.1:8081")
		host, port, err := net.SplitHostPort(second)
		if first != "198.51.100.2:"+own || err != nil || host != "198.51.100.2" || port == own {
			t.Errorf("%s from one port: the container sees %s and %s", network, first, second)
		}
	}
}

func TestNear(t *testing.T) {
	inward := testNetwork(2)
	inward.Internal = true
	for _, c := range []struct {
		networks []Network
		near     []string
		far      []string
	}{
		{[]Network{testNetwork(1), inward}, []string{"10.77.1.9", "10.77.2.9"}, []string{"10.77.3.9", "192.0.2.1", "2001:db8::1"}},
		{[]Network{inward}, []string{"10.77.2.9", "10.77.1.9", "192.0.2.1"}, nil},
	} {
		s := &Sandbox{lease: &lease{}}
		for _, n := range c.networks {
			s.lease.Places = append(s.lease.Places, place{Network: n})
		}
		for _, a := range c.near {
			if !s.near(netip.MustParseAddr(a)) {
				t.Errorf("%s is not near", a)
			}
		}
		for _, a := range c.far {
			if s.near(netip.MustParseAddr(a)) {
				t.Errorf("%s is near", a)
			}
		}
	}
}
