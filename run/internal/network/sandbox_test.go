package network

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"cooper/run/internal/idmap"
)

// outsideAddress is a machine on the other side of the router.
var (
	hostAddress    = netip.MustParsePrefix("203.0.113.1/24")
	outsideAddress = netip.MustParsePrefix("203.0.113.2/24")
)

// world makes another machine that this one has its default route to, and returns
// that one's namespace.
func world(t *testing.T) *os.File {
	t.Helper()
	in, err := newInside(nil, func() error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "outside"
	veth := &netlink.Veth{LinkAttrs: attrs, PeerName: "eth0", PeerNamespace: netlink.NsFd(in.ns.Fd())}
	must(t, netlink.LinkAdd(veth))
	must(t, netlink.AddrAdd(veth, &netlink.Addr{IPNet: ipNet(hostAddress)}))
	must(t, netlink.LinkSetUp(veth))
	must(t, netlink.RouteAdd(&netlink.Route{LinkIndex: veth.Index, Gw: outsideAddress.Addr().AsSlice()}))
	peer, err := in.links.LinkByName("eth0")
	must(t, err)
	must(t, addAddress(in.links, peer, outsideAddress))
	must(t, in.links.LinkSetUp(peer))
	t.Cleanup(func() {
		must(t, netlink.LinkDel(veth))
		must(t, in.Close())
	})
	return in.ns
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestSandboxNamespace: a namespace that belongs to another user namespace becomes the
// container's, and stays its maker's.
func TestSandboxNamespace(t *testing.T) {
	ids := []specs.LinuxIDMapping{{ContainerID: 3, HostID: 0, Size: 1}}
	own, err := idmap.Make(ids, ids, true)
	must(t, err)
	defer own.Close()
	r := request(t.TempDir(), "own", testNetwork(1))
	r.Namespace = own.Net
	s, err := Setup(t.Context(), r)
	must(t, err)
	var given, used unix.Stat_t
	must(t, unix.Fstat(int(own.Net.Fd()), &given))
	must(t, unix.Stat(s.Path(), &used))
	if given.Ino != used.Ino {
		t.Errorf("the namespace is %d, want %d", used.Ino, given.Ino)
	}
	owner, err := unix.IoctlRetInt(int(own.Net.Fd()), unix.NS_GET_USERNS)
	must(t, err)
	defer unix.Close(owner)
	var user, want unix.Stat_t
	must(t, unix.Fstat(owner, &user))
	must(t, unix.Fstat(int(own.User.Fd()), &want))
	if user.Ino != want.Ino {
		t.Errorf("the namespace is of user namespace %d, want %d", user.Ino, want.Ino)
	}
	if _, err := s.in.links.LinkByName("eth0"); err != nil {
		t.Error(err)
	}
	must(t, s.Close())
	must(t, unix.Fstat(int(own.Net.Fd()), &used))
	must(t, Leave(&r))
}

// testNetwork is a network of the given number.
func testNetwork(i int) Network {
	id := sha256.Sum256([]byte{byte(i)})
	subnet := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 77, byte(i), 0}), 24)
	return Network{
		Name: fmt.Sprintf("net%d", i), ID: hex.EncodeToString(id[:]), Driver: "bridge",
		Bridge: fmt.Sprintf("cooper-t%d", i), Subnet: subnet, Gateway: offset(subnet, 1),
	}
}

// request asks for a container on networks.
func request(dir, name string, networks ...Network) Request {
	id := sha256.Sum256([]byte(name))
	r := Request{ID: hex.EncodeToString(id[:]), Name: name, RunDir: dir}
	for _, n := range networks {
		r.Attachments = append(r.Attachments, Attachment{Network: n})
	}
	return r
}

// setup makes a container, which ends with the test.
func setup(t *testing.T, r Request) *Sandbox {
	t.Helper()
	s, err := Setup(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// runDirectory is swept at the end of the test, which fails if something is left.
func runDirectory(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	t.Cleanup(func() {
		must(t, Clean(dir, "nobody", false))
		checkNothingLeft(t)
		if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("the run directory is left: %v", err)
		}
	})
	return dir
}

func checkNothingLeft(t *testing.T) {
	t.Helper()
	links, err := netlink.LinkList()
	must(t, err)
	for _, l := range links {
		if isOurs(l) || isLinkName(l.Attrs().Name) {
			t.Errorf("interface %s is left", l.Attrs().Name)
		}
	}
	table, err := openTable(nil)
	must(t, err)
	defer table.Close()
	if there, err := table.exists(); err != nil || there {
		t.Errorf("nft table is left: %v, %v", there, err)
	}
}

// serve has a server in namespace ns tell everybody who connects where from it sees
// them, after its own name.
func serve(t *testing.T, ns *os.File, name, address string) {
	t.Helper()
	var l net.Listener
	must(t, within(ns, func() (err error) {
		l, err = net.Listen("tcp", address)
		return err
	}))
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			fmt.Fprintf(c, "%s %s\n", name, c.RemoteAddr().(*net.TCPAddr).IP)
			c.Close()
		}
	}()
}

// call connects from namespace ns and returns what the server says.
func call(ns *os.File, address string) (answer string, err error) {
	err = within(ns, func() error {
		c, err := net.DialTimeout("tcp", address, 500*time.Millisecond)
		if err != nil {
			return err
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(time.Second))
		answer, err = bufio.NewReader(c).ReadString('\n')
		return err
	})
	return answer, err
}

func wantAnswer(t *testing.T, ns *os.File, address, want string) {
	t.Helper()
	if got, err := call(ns, address); err != nil || got != want+"\n" {
		t.Errorf("connection to %s: %q, %v; want %q", address, got, err, want)
	}
}

func wantNoAnswer(t *testing.T, ns *os.File, address string) {
	t.Helper()
	if got, err := call(ns, address); err == nil {
		t.Errorf("connection to %s: %q, want none", address, got)
	}
}

func TestContainersReachEachOtherAndTheWorld(t *testing.T) {
	dir := runDirectory(t)
	outer := world(t)
	serve(t, outer, "world", "203.0.113.2:80")
	a, b := setup(t, request(dir, "a", testNetwork(1))), setup(t, request(dir, "b", testNetwork(1)))
	serve(t, b.in.ns, "b", ":80")
	serve(t, nil, "host", "203.0.113.1:81")
	if got := a.Result().Networks["net1"].IP.String(); got != "10.77.1.2/24" {
		t.Errorf("address of a is %s", got)
	}
	wantAnswer(t, a.in.ns, "10.77.1.3:80", "b 10.77.1.2")
	wantAnswer(t, a.in.ns, "203.0.113.2:80", "world 203.0.113.1")
	wantAnswer(t, a.in.ns, "203.0.113.1:81", "host 10.77.1.2")
	wantAnswer(t, nil, "10.77.1.3:80", "b 10.77.1.1")
}

func TestNetworksAreApart(t *testing.T) {
	dir := runDirectory(t)
	outer := world(t)
	serve(t, outer, "world", "203.0.113.2:80")
	internal := testNetwork(3)
	internal.Internal = true
	a, b := setup(t, request(dir, "a", testNetwork(1))), setup(t, request(dir, "b", testNetwork(2)))
	c, d := setup(t, request(dir, "c", internal)), setup(t, request(dir, "d", internal))
	both := setup(t, request(dir, "both", testNetwork(1), internal))
	serve(t, b.in.ns, "b", ":80")
	serve(t, d.in.ns, "d", ":80")
	wantNoAnswer(t, a.in.ns, "10.77.2.2:80")
	wantNoAnswer(t, a.in.ns, "10.77.3.3:80")
	wantNoAnswer(t, c.in.ns, "203.0.113.2:80")
	wantAnswer(t, c.in.ns, "10.77.3.3:80", "d 10.77.3.2")
	wantAnswer(t, both.in.ns, "10.77.3.3:80", "d 10.77.3.4")
	wantAnswer(t, both.in.ns, "203.0.113.2:80", "world 203.0.113.1")
	// From outside, containers are reached by published ports only.
	must(t, within(outer, func() error {
		link, err := netlink.LinkByName("eth0")
		if err != nil {
			return err
		}
		return netlink.RouteAdd(&netlink.Route{LinkIndex: link.Attrs().Index, Gw: hostAddress.Addr().AsSlice()})
	}))
	wantNoAnswer(t, outer, "10.77.2.2:80")
}

func TestPublishedPorts(t *testing.T) {
	dir := runDirectory(t)
	outer := world(t)
	r := request(dir, "web", testNetwork(1))
	r.Ports = []Port{
		{HostPort: 8080, ContainerPort: 80, Protocol: "tcp"},
		{HostIP: netip.MustParseAddr("127.0.0.1"), HostPort: 8081, ContainerPort: 80, Protocol: "tcp"},
		{ContainerPort: 80, Protocol: "tcp"},
		{HostPort: 8082, HostPortLast: 8085, ContainerPort: 80, Protocol: "tcp"},
	}
	web := setup(t, r)
	serve(t, web.in.ns, "web", ":80")
	other := setup(t, request(dir, "other", testNetwork(1)))
	stranger := setup(t, request(dir, "stranger", testNetwork(2)))
	wantAnswer(t, outer, "203.0.113.1:8080", "web 203.0.113.2")
	wantAnswer(t, nil, "127.0.0.1:8080", "web 10.77.1.1")
	wantAnswer(t, nil, "203.0.113.1:8080", "web 203.0.113.1")
	wantAnswer(t, nil, "[::1]:8080", "web 10.77.1.1")
	wantAnswer(t, other.in.ns, "10.77.1.1:8080", "web 10.77.1.1")
	wantAnswer(t, stranger.in.ns, "203.0.113.1:8080", "web 10.77.1.1")
	wantAnswer(t, web.in.ns, "203.0.113.1:8080", "web 10.77.1.1")
	wantAnswer(t, nil, "127.0.0.1:8081", "web 10.77.1.1")
	wantNoAnswer(t, outer, "203.0.113.1:8081")
	ports := web.Result().Ports
	wantAnswer(t, outer, fmt.Sprintf("203.0.113.1:%d", ports[2].HostPort), "web 203.0.113.2")
	if got := ports[3].HostPort; got != 8082 {
		t.Errorf("first port of the range is %d", got)
	}
}

func TestPortInUse(t *testing.T) {
	dir := runDirectory(t)
	r := request(dir, "a", testNetwork(1))
	r.Ports = []Port{{HostPort: 8080, ContainerPort: 80, Protocol: "tcp"}}
	a := setup(t, r)
	r = request(dir, "b", testNetwork(1))
	r.Ports = []Port{{HostPort: 9000, ContainerPort: 80, Protocol: "tcp"}, {HostPort: 8080, ContainerPort: 80, Protocol: "tcp"}}
	if _, err := Setup(t.Context(), r); err == nil {
		t.Fatal("two containers have one port")
	} else {
		t.Log(err)
	}
	must(t, a.Close())
	b := setup(t, r)
	serve(t, b.in.ns, "b", ":80")
	wantAnswer(t, nil, "127.0.0.1:8080", "b 10.77.1.1")
	if got := b.Result().Networks["net1"].IP.String(); got != "10.77.1.2/24" {
		t.Errorf("the address is %s: another container's was not given back", got)
	}
}

// TestLinger is about what is left by containers that end in the usual way.
func TestLinger(t *testing.T) {
	dir := runDirectory(t)
	s := setup(t, request(dir, "a", testNetwork(1)))
	must(t, s.Close())
	must(t, Linger(context.Background(), &Request{RunDir: dir}))
	checkNothingLeft(t)
}
