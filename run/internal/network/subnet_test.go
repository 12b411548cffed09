package network

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

func TestDefaultNetwork(t *testing.T) {
	dir := runDirectory(t)
	first, err := Default(dir)
	must(t, err)
	if first.Subnet.String() != "10.87.0.0/16" || first.Gateway.String() != "10.87.0.1" {
		t.Errorf("default network is %+v", first)
	}
	if _, err := os.Stat(filepath.Join(dir, "lock")); err == nil {
		t.Error("looking at it writes something")
	}
	link := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "vpn"}}
	must(t, netlink.LinkAdd(link))
	must(t, addAddress(must1(netlink.NewHandle(unix.NETLINK_ROUTE))(t), link, netip.MustParsePrefix("10.87.3.1/24")))
	must(t, netlink.LinkSetUp(link))
	second, err := Default(dir)
	must(t, err)
	if second.Subnet.String() != "10.86.0.0/16" {
		t.Errorf("with 10.87.3.0/24 in use it is %s", second.Subnet)
	}
	s := setup(t, request(dir, "a", second))
	must(t, netlink.LinkDel(link))
	if third, err := Default(dir); err != nil || third.Subnet != second.Subnet {
		t.Errorf("it changes while it is in use: %s, %v", third.Subnet, err)
	}
	must(t, s.Close())
	must(t, Sweep(dir))
	if fourth, err := Default(dir); err != nil || fourth.Subnet != first.Subnet {
		t.Errorf("it is %s, %v when nobody uses it any more", fourth.Subnet, err)
	}
}

// must1 returns what a call returned that must not fail.
func must1[T any](v T, err error) func(*testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		must(t, err)
		return v
	}
}

func TestDefine(t *testing.T) {
	dir, files := t.TempDir(), t.TempDir()
	define := func(name string, n Network, ipv6 bool) (Network, error) {
		file := filepath.Join(files, name)
		must(t, os.WriteFile(file, nil, 0o600))
		err := Define(dir, file, &n, ipv6)
		return n, err
	}
	for _, test := range []struct {
		name        string
		given       Network
		ipv6        bool
		subnet, end string // the subnet and the gateway, or the error's end
	}{
		{"a", Network{}, false, "10.90.0.0/24", "10.90.0.1"},
		{"b", Network{}, false, "10.90.1.0/24", "10.90.1.1"},
		{"c", Network{Subnet: netip.MustParsePrefix("10.90.2.0/23")}, false, "10.90.2.0/23", "10.90.2.1"},
		{"d", Network{Gateway: netip.MustParseAddr("10.90.4.254")}, false, "10.90.4.0/24", "10.90.4.254"},
		{"e", Network{Subnet: netip.MustParsePrefix("10.1.0.0/31")}, false, "", "such as 10.90.0.0/16"},
		{"f", Network{Subnet: netip.MustParsePrefix("10.1.0.7/24")}, false, "", "such as 10.90.0.0/16"},
		{"g", Network{Subnet: netip.MustParsePrefix("fd00::/64")}, false, "", "such as 10.90.0.0/16"},
		{"h", Network{Subnet6: netip.MustParsePrefix("10.1.0.0/24")}, false, "", "want an IPv6 network of at least four addresses"},
		{"i", Network{Subnet: netip.MustParsePrefix("10.1.0.0/24"), Gateway: netip.MustParseAddr("10.1.0.255")}, false, "", "it is no address of subnet 10.1.0.0/24"},
		{"j", Network{Subnet: netip.MustParsePrefix("10.1.0.0/24"), IPRange: netip.MustParsePrefix("10.2.0.0/25")}, false, "", "it is not within subnet 10.1.0.0/24"},
		{"k", Network{Subnet6: netip.MustParsePrefix("fd00::/64"), Gateway6: netip.MustParseAddr("fd01::1")}, false, "", "it is no address of subnet fd00::/64"},
	} {
		n, err := define(test.name, test.given, test.ipv6)
		if test.subnet == "" {
			if err == nil || !strings.HasSuffix(err.Error(), test.end) {
				t.Errorf("%s: %v; want ...%s", test.name, err, test.end)
			}
			continue
		}
		if err != nil || n.Subnet.String() != test.subnet || n.Gateway.String() != test.end || len(n.ID) != 64 || n.Created.IsZero() {
			t.Errorf("%s: %+v, %v; want %s, %s", test.name, n, err, test.subnet, test.end)
		}
	}
	n, err := define("six", Network{}, true)
	if err != nil || n.Subnet6.Bits() != 64 || !n.Subnet6.Addr().IsPrivate() || !n.Subnet6.Contains(n.Gateway6) {
		t.Errorf("with IPv6: %+v, %v", n, err)
	}
	must(t, os.Remove(filepath.Join(files, "b")))
	if n, err := define("again", Network{}, false); err != nil || n.Subnet.String() != "10.90.1.0/24" {
		t.Errorf("after a network was removed: %+v, %v", n, err)
	}
}

func TestAddressPlan(t *testing.T) {
	for prefix, want := range map[string]string{
		"10.1.2.0/24": "10.1.2.255", "10.0.0.0/8": "10.255.255.255", "10.1.2.4/30": "10.1.2.7", "fd00::/64": "fd00::ffff:ffff:ffff:ffff",
	} {
		if got := lastAddress(netip.MustParsePrefix(prefix)).String(); got != want {
			t.Errorf("lastAddress(%s) = %s, want %s", prefix, got, want)
		}
	}
	if got := offset(netip.MustParsePrefix("fd00::/64"), 1).String(); got != "fd00::1" {
		t.Errorf("offset = %s", got)
	}
	for name, want := range map[string]bool{
		newLinkName(): true, "co0123456789": true, "co012345678": false, "co012345678g": false, "cooper0": false, "cni-podman0": false,
	} {
		if isLinkName(name) != want {
			t.Errorf("isLinkName(%s) = %v", name, !want)
		}
	}
	if n := newLinkName(); len(n) > 15 {
		t.Errorf("%s has more than 15 bytes", n)
	}
}

func FuzzResolver(f *testing.F) {
	f.Add([]byte("nameserver 10.0.0.1\nsearch a b\noptions ndots:5 edns0\nnameserver fe80::1%eth0\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if c := parseResolver(b); len(c.servers) == 0 {
			t.Error("no servers")
		}
	})
}

func TestParseResolver(t *testing.T) {
	c := parseResolver([]byte("# comment\nnameserver 10.0.0.1\nnameserver nonsense\nnameserver\ndomain x\nsearch a b\noptions ndots:5\noptions edns0\nnameserver fe80::1%eth0\n"))
	if len(c.servers) != 2 || c.servers[1].String() != "[fe80::1%eth0]:53" || strings.Join(c.search, " ") != "a b" || strings.Join(c.options, " ") != "ndots:5 edns0" {
		t.Errorf("parseResolver = %+v", c)
	}
	if c := parseResolver(nil); len(c.servers) != 1 || c.servers[0].String() != "127.0.0.1:53" {
		t.Errorf("parseResolver(nothing) = %+v", c)
	}
	search, options := resolver(&Request{Search: []string{"."}, Options: []string{"ndots:3"}})
	if len(search) != 0 || strings.Join(options, " ") != "ndots:3" {
		t.Errorf("resolver = %q, %q", search, options)
	}
	_, options = resolver(&Request{Options: []string{"rotate"}})
	if strings.Join(options, " ") != "rotate ndots:0" {
		t.Errorf("options = %q", options)
	}
}
