package network

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// process is a monitor in a process of its own.
type process struct {
	cmd   *exec.Cmd
	stdin io.Closer
}

// startMonitor starts a monitor and waits until its container's network is there.
func startMonitor(t *testing.T, r Request) *process {
	t.Helper()
	text, err := json.Marshal(r)
	must(t, err)
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), envMonitor+"="+string(text))
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: unix.SIGKILL}
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	must(t, err)
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	line, err := bufio.NewReader(out).ReadString('\n')
	if line != "ready\n" {
		t.Errorf("monitor: %q, %v", line, err)
	}
	p := &process{cmd: cmd, stdin: in}
	t.Cleanup(func() { in.Close(); cmd.Wait() })
	return p
}

func (p *process) kill() {
	p.cmd.Process.Kill()
	p.cmd.Wait()
}

// TestLingerEndsWithASweep: nobody waits for what is done.
func TestLingerEndsWithASweep(t *testing.T) {
	dir := runDirectory(t)
	must(t, setup(t, request(dir, "a", testNetwork(1))).Close())
	start := time.Now()
	time.AfterFunc(50*time.Millisecond, func() { Sweep(dir) })
	must(t, Linger(t.Context(), &Request{RunDir: dir}))
	if d := time.Since(start); d > lingering*9/10 {
		t.Errorf("it lingered for %v", d)
	}
	checkNothingLeft(t)
}

// TestLingerLeavesWhatIsUsed: a container may have come meanwhile, and others linger.
func TestLingerLeavesWhatIsUsed(t *testing.T) {
	dir := runDirectory(t)
	must(t, setup(t, request(dir, "a", testNetwork(1))).Close())
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() { must(t, Linger(t.Context(), &Request{RunDir: dir})) })
	}
	b, c := setup(t, request(dir, "b", testNetwork(1))), setup(t, request(dir, "c", testNetwork(1)))
	wg.Wait()
	serve(t, b.in.ns, "b", ":80")
	wantAnswer(t, c.in.ns, "10.77.1.2:80", "b 10.77.1.3")
}

func TestKilledMonitorIsCleanedUp(t *testing.T) {
	dir := runDirectory(t)
	r := request(dir, "a", testNetwork(1), testNetwork(2))
	r.Ports = []Port{{HostPort: 8080, ContainerPort: 80, Protocol: "tcp"}, {HostPort: 8080, ContainerPort: 80, Protocol: "udp"}}
	p := startMonitor(t, r)
	must(t, Clean(dir, r.ID, false))
	if !runDir(dir).alive(r.ID) {
		t.Fatal("a living monitor's lease was removed")
	}
	p.kill()
	must(t, Clean(dir, r.ID, false))
	checkNothingLeft(t)
	must(t, Clean(dir, r.ID, false))
}

func TestKilledMonitorIsReplaced(t *testing.T) {
	dir := runDirectory(t)
	other := setup(t, request(dir, "other", testNetwork(1)))
	r := request(dir, "a", testNetwork(1))
	r.Ports = []Port{{HostPort: 8080, ContainerPort: 80, Protocol: "tcp"}}
	startMonitor(t, r).kill()
	if got := ask(t, other.in.ns, "udp", query(t, "a", 1)); got == "10.77.1.3" {
		t.Error("a dead container's name is answered")
	}
	r = request(dir, "b", testNetwork(1))
	r.Ports = []Port{{HostPort: 8080, ContainerPort: 81, Protocol: "tcp"}}
	b := setup(t, r)
	serve(t, b.in.ns, "b", ":81")
	wantAnswer(t, other.in.ns, "10.77.1.1:8080", "b 10.77.1.1")
	if got := b.Result().Networks["net1"].IP.Addr().String(); got != "10.77.1.3" {
		t.Errorf("address is %s, want that of the killed one", got)
	}
	startMonitor(t, request(dir, "a", testNetwork(1))).kill() // and once more the same id
	startMonitor(t, request(dir, "a", testNetwork(1)))
}

// TestManyAtOnce starts and ends many containers side by side in processes of their
// own, some of which are killed.
func TestManyAtOnce(t *testing.T) {
	dir := runDirectory(t)
	const count = 24
	var wg sync.WaitGroup
	all := make([]*process, count)
	for i := range all {
		wg.Go(func() {
			r := request(dir, fmt.Sprint("c", i), testNetwork(1+i%2))
			r.Ports = []Port{{ContainerPort: 80, Protocol: "tcp"}}
			all[i] = startMonitor(t, r)
		})
	}
	wg.Wait()
	leases, err := runDir(dir).list()
	must(t, err)
	seen := map[netip.Addr]bool{}
	for _, l := range leases {
		seen[l.Places[0].IP] = true
	}
	if len(seen) != count {
		t.Errorf("%d containers have %d addresses", count, len(seen))
	}
	for i, p := range all {
		wg.Go(func() {
			if i%3 == 0 {
				p.kill()
				return
			}
			p.stdin.Close()
			p.cmd.Wait()
		})
	}
	wg.Wait()
}

func TestLostTableIsMadeAgain(t *testing.T) {
	dir := runDirectory(t)
	outer := world(t)
	r := request(dir, "a", testNetwork(1))
	r.Ports = []Port{{HostPort: 8080, ContainerPort: 80, Protocol: "tcp"}}
	a := setup(t, r)
	serve(t, a.in.ns, "a", ":80")
	table, err := openTable(nil)
	must(t, err)
	defer table.Close()
	must(t, table.remove())
	must(t, table.remove()) // no error when it is not there
	setup(t, request(dir, "b", testNetwork(2)))
	wantAnswer(t, outer, "203.0.113.1:8080", "a 203.0.113.2")
}

// awaitAnswer waits until neighbours that could not be found are looked for again.
func awaitAnswer(ns *os.File, address string) {
	for range 8 {
		if _, err := call(ns, address); err == nil {
			return
		}
	}
}

// TestRemovedBridgeIsMadeAgain: a network manager has taken it for a leftover.
func TestRemovedBridgeIsMadeAgain(t *testing.T) {
	dir := runDirectory(t)
	outer := world(t)
	serve(t, outer, "world", "203.0.113.2:80")
	r := request(dir, "a", testNetwork(1))
	r.Ports = []Port{{HostPort: 8080, ContainerPort: 80, Protocol: "tcp"}}
	a, b := setup(t, r), setup(t, request(dir, "b", testNetwork(1)))
	serve(t, a.in.ns, "a", ":80")
	for name, mend := range map[string]func(){
		"the next start": func() { setup(t, request(dir, "c", testNetwork(1))) },
		"a restart":      func() { must(t, b.Mend()) },
	} {
		bridge, err := netlink.LinkByName(testNetwork(1).Bridge)
		must(t, err)
		must(t, netlink.LinkDel(bridge))
		wantNoAnswer(t, a.in.ns, "203.0.113.2:80")
		mend()
		t.Log(name)
		awaitAnswer(a.in.ns, "203.0.113.2:80")
		wantAnswer(t, a.in.ns, "203.0.113.2:80", "world 203.0.113.1")
		wantAnswer(t, b.in.ns, "10.77.1.2:80", "a 10.77.1.3")
		wantAnswer(t, b.in.ns, "10.77.1.1:8080", "a 10.77.1.1")
		wantAnswer(t, outer, "203.0.113.1:8080", "a 203.0.113.2")
	}
	// One link was taken off the bridge.
	link, err := netlink.LinkByName(a.places()[0].Link)
	must(t, err)
	must(t, netlink.LinkSetNoMaster(link))
	wantNoAnswer(t, a.in.ns, "203.0.113.2:80")
	must(t, a.Mend())
	awaitAnswer(a.in.ns, "203.0.113.2:80")
	wantAnswer(t, a.in.ns, "203.0.113.2:80", "world 203.0.113.1")
	must(t, setup(t, request(dir, "lonely")).Mend())
}

func TestConnectAndDisconnect(t *testing.T) {
	dir := runDirectory(t)
	outer := world(t)
	serve(t, outer, "world", "203.0.113.2:80")
	internal := testNetwork(3)
	internal.Internal = true
	r := request(dir, "a", internal)
	r.Ports = []Port{{HostPort: 8080, ContainerPort: 80, Protocol: "tcp"}}
	a, b := setup(t, r), setup(t, request(dir, "b", testNetwork(1)))
	serve(t, a.in.ns, "a", ":80")
	serve(t, b.in.ns, "b", ":80")
	wantNoAnswer(t, a.in.ns, "203.0.113.2:80")

	must(t, a.Connect(t.Context(), Attachment{Network: testNetwork(1), Aliases: []string{"web"}}))
	wantAnswer(t, a.in.ns, "203.0.113.2:80", "world 203.0.113.1")
	wantAnswer(t, b.in.ns, "10.77.1.3:80", "a 10.77.1.2")
	if got := ask(t, b.in.ns, "udp", query(t, "web", 1)); got != "10.77.1.3" {
		t.Errorf("web is %s", got)
	}
	if got := a.Result().Networks["net1"].Interface; got != "eth1" {
		t.Errorf("interface is %s", got)
	}
	must(t, a.Rename("renamed"))
	if got := ask(t, b.in.ns, "udp", query(t, "renamed", 1)); got != "10.77.1.3" {
		t.Errorf("renamed is %s", got)
	}
	if err := a.Connect(t.Context(), Attachment{Network: testNetwork(1)}); err == nil {
		t.Error("connected twice")
	}
	must(t, a.Disconnect(t.Context(), "net3"))
	wantAnswer(t, outer, "203.0.113.1:8080", "a 203.0.113.2")
	must(t, a.Disconnect(t.Context(), "net1"))
	wantNoAnswer(t, a.in.ns, "203.0.113.2:80")
	if err := a.Disconnect(t.Context(), "net1"); err == nil {
		t.Error("disconnected twice")
	}
	wantNoAnswer(t, outer, "203.0.113.1:8080")
	must(t, a.Connect(t.Context(), Attachment{Network: testNetwork(1)})) // with the same address
	wantAnswer(t, a.in.ns, "203.0.113.2:80", "world 203.0.113.1")
	wantAnswer(t, outer, "203.0.113.1:8080", "a 203.0.113.2")

	foreign := testNetwork(2)
	foreign.Bridge = "outside"
	if err := a.Connect(t.Context(), Attachment{Network: foreign}); err == nil {
		t.Error("a foreign interface was taken for the bridge")
	}
	if got := len(a.Result().Networks); got != 1 {
		t.Errorf("on %d networks after an error", got)
	}
	wantAnswer(t, a.in.ns, "203.0.113.2:80", "world 203.0.113.1")

	lonely := setup(t, request(dir, "lonely"))
	if got := lonely.Result(); len(got.Nameservers) != 0 || len(got.Networks) != 0 {
		t.Errorf("result without networks is %+v", got)
	}
	must(t, lonely.Connect(t.Context(), Attachment{Network: testNetwork(1)}))
	wantAnswer(t, lonely.in.ns, "203.0.113.2:80", "world 203.0.113.1")
}

// TestWithoutBridgeNetfilter: where bridges do not call nft's chains, answers have to
// come back through the host all the same.
func TestWithoutBridgeNetfilter(t *testing.T) {
	const name = "bridge/bridge-nf-call-iptables"
	if err := setSysctl(name, "0"); err != nil {
		t.Skip("bridges cannot call nft's chains here:", err)
	}
	defer setSysctl(name, "1")
	dir := runDirectory(t)
	r := request(dir, "web", testNetwork(1))
	r.Ports = []Port{{HostPort: 8080, ContainerPort: 80, Protocol: "tcp"}}
	web, other := setup(t, r), setup(t, request(dir, "other", testNetwork(1)))
	serve(t, web.in.ns, "web", ":80")
	wantAnswer(t, web.in.ns, "10.77.1.1:8080", "web 10.77.1.1")
	wantAnswer(t, other.in.ns, "10.77.1.1:8080", "web 10.77.1.1")
	wantAnswer(t, nil, "127.0.0.1:8080", "web 10.77.1.1")
}

func TestIPv6(t *testing.T) {
	dir := runDirectory(t)
	outer := world(t)
	link, err := netlink.LinkByName("outside")
	must(t, err)
	must(t, netlink.AddrAdd(link, &netlink.Addr{IPNet: ipNet(netip.MustParsePrefix("2001:db8::1/64")), Flags: unix.IFA_F_NODAD}))
	must(t, within(outer, func() error {
		link, err := netlink.LinkByName("eth0")
		if err != nil {
			return err
		}
		if err := setSysctl("ipv6/conf/eth0/disable_ipv6", "0"); err != nil {
			return err
		}
		return netlink.AddrAdd(link, &netlink.Addr{IPNet: ipNet(netip.MustParsePrefix("2001:db8::2/64")), Flags: unix.IFA_F_NODAD})
	}))
	serve(t, outer, "world", "[2001:db8::2]:80")
	n := testNetwork(6)
	n.Subnet6, n.Gateway6 = netip.MustParsePrefix("fd77::/64"), netip.MustParseAddr("fd77::1")
	r := request(dir, "a", n)
	r.Ports = []Port{{HostPort: 8080, ContainerPort: 80, Protocol: "tcp"}}
	a, b := setup(t, r), setup(t, request(dir, "b", n))
	serve(t, a.in.ns, "a", ":80")
	wantAnswer(t, b.in.ns, "[fd77::2]:80", "a fd77::3")
	wantAnswer(t, outer, "[2001:db8::1]:8080", "a 2001:db8::2")
	wantAnswer(t, nil, "[::1]:8080", "a 10.77.6.1") // proxied
	wantAnswer(t, b.in.ns, "[fd77::1]:8080", "a fd77::1")
	must(t, within(a.in.ns, func() error { // the world has no route to fd77::, so it must not see that
		_, err := net.DialTimeout("tcp", "[2001:db8::2]:80", time.Second)
		return err
	}))
}

func TestUDP(t *testing.T) {
	dir := runDirectory(t)
	outer := world(t)
	r := request(dir, "a", testNetwork(1))
	r.Ports = []Port{{HostPort: 8080, ContainerPort: 80, Protocol: "udp"}}
	var client net.Conn
	must(t, within(outer, func() (err error) {
		client, err = net.Dial("udp", "203.0.113.1:8080")
		return err
	}))
	for _, name := range []string{"first", "second"} { // the flow to the first must not last
		r.Name, r.ID = name, request(dir, name).ID
		s := setup(t, r)
		if name == "second" {
			must(t, s.Connect(t.Context(), Attachment{Network: testNetwork(2)}))
		}
		var server net.PacketConn
		must(t, within(s.in.ns, func() (err error) {
			server, err = net.ListenPacket("udp", ":80")
			return err
		}))
		client.Write([]byte("hello"))
		server.SetDeadline(time.Now().Add(time.Second))
		b := make([]byte, 100)
		n, from, err := server.ReadFrom(b)
		if err != nil || string(b[:n]) != "hello" || from.(*net.UDPAddr).IP.String() != "203.0.113.2" {
			t.Errorf("%s container received %q from %v, %v", name, b[:n], from, err)
		}
		server.WriteTo([]byte(name), from)
		client.SetDeadline(time.Now().Add(time.Second))
		if n, err = client.Read(b); err != nil || string(b[:n]) != name {
			t.Errorf("answer of the %s container: %q, %v", name, b[:n], err)
		}
		server.Close()
		must(t, s.Close())
		setup(t, request(dir, "in-between-"+name, testNetwork(1))) // has the address now
	}
}

// TestForeignFirewall: docker has iptables drop forwarded packets.
func TestForeignFirewall(t *testing.T) {
	dir := runDirectory(t)
	outer := world(t)
	serve(t, outer, "world", "203.0.113.2:80")
	conn, err := nftables.New()
	must(t, err)
	drop := nftables.ChainPolicyDrop
	chains := map[string]*nftables.Chain{}
	for name, family := range map[string]nftables.TableFamily{"filter": nftables.TableFamilyIPv4, "mine": nftables.TableFamilyINet} {
		table := conn.AddTable(&nftables.Table{Name: name, Family: family})
		defer func() { conn.DelTable(table); must(t, conn.Flush()) }()
		if name == "mine" {
			continue
		}
		chains[name] = conn.AddChain(&nftables.Chain{
			Name: "FORWARD", Table: table, Type: nftables.ChainTypeFilter, Policy: &drop,
			Hooknum: nftables.ChainHookForward, Priority: nftables.ChainPriorityFilter,
		})
	}
	must(t, conn.Flush())
	a := setup(t, request(dir, "a", testNetwork(1)))
	wantAnswer(t, a.in.ns, "203.0.113.2:80", "world 203.0.113.1")
	if w := a.Result().Warnings; len(w) > 0 {
		t.Errorf("warnings: %q", w)
	}
	// A firewall that was loaded anew has lost the rules; the next start sees to that, and
	// once is enough.
	conn.FlushChain(chains["filter"])
	must(t, conn.Flush())
	wantNoAnswer(t, a.in.ns, "203.0.113.2:80")
	for _, name := range []string{"next", "one more"} {
		must(t, setup(t, request(dir, name, testNetwork(1))).Close())
		wantAnswer(t, a.in.ns, "203.0.113.2:80", "world 203.0.113.1")
		if rules, err := conn.GetRules(chains["filter"].Table, chains["filter"]); err != nil || len(rules) != len(bothWays) {
			t.Errorf("%d rules in iptables' chain, %v", len(rules), err)
		}
	}
	must(t, a.Close())
	must(t, Sweep(dir))
	rules, err := conn.GetRules(chains["filter"].Table, chains["filter"])
	if err != nil || len(rules) > 0 {
		t.Errorf("%d rules are left in iptables' chain, %v", len(rules), err)
	}
	conn.AddChain(&nftables.Chain{
		Name: "f", Table: &nftables.Table{Name: "mine", Family: nftables.TableFamilyINet}, Type: nftables.ChainTypeFilter, Policy: &drop,
		Hooknum: nftables.ChainHookForward, Priority: nftables.ChainPriorityFilter,
	})
	must(t, conn.Flush())
	b := setup(t, request(dir, "b", testNetwork(1)))
	if w := b.Result().Warnings; len(w) != 1 || !strings.Contains(w[0], "mine") {
		t.Errorf("warnings: %q", w)
	}
}

// TestLegacyFirewall: of the older iptables nft knows nothing.
func TestLegacyFirewall(t *testing.T) {
	if _, err := exec.LookPath("iptables-legacy"); err != nil {
		t.Skip(err)
	}
	iptables := func(args ...string) {
		t.Helper()
		if out, err := exec.Command("iptables-legacy", args...).CombinedOutput(); err != nil {
			t.Skipf("iptables-legacy %q: %v: %s", args, err, out) // not in every kernel
		}
	}
	dir := runDirectory(t)
	warnings := func(name string) []string {
		s := setup(t, request(dir, name, testNetwork(1)))
		w := s.Result().Warnings
		must(t, s.Close())
		must(t, Sweep(dir))
		return w
	}
	if w := warnings("without"); len(w) > 0 {
		t.Errorf("warnings: %q", w)
	}
	iptables("-A", "FORWARD", "-i", "lo", "-p", "tcp", "--dport", "1", "-j", "ACCEPT")
	defer iptables("-F", "FORWARD")
	if w := warnings("accepting"); len(w) > 0 {
		t.Errorf("warnings: %q", w)
	}
	iptables("-P", "FORWARD", "DROP")
	defer iptables("-P", "FORWARD", "ACCEPT")
	if w := warnings("dropping"); len(w) != 1 || !strings.Contains(w[0], "iptables-legacy -I FORWARD -i cooper-t1 -j ACCEPT") {
		t.Errorf("warnings: %q", w)
	}
}

func TestAddresses(t *testing.T) {
	dir := runDirectory(t)
	n := testNetwork(1)
	n.Subnet = netip.MustParsePrefix("10.77.1.0/29")
	n.IPRange = netip.MustParsePrefix("10.77.1.4/30")
	first := setup(t, request(dir, "first", n))
	if got := first.Result().Networks["net1"]; got.IP.String() != "10.77.1.4/29" || got.MAC != "02:42:0a:4d:01:04" {
		t.Errorf("first has %+v", got)
	}
	r := request(dir, "second", n)
	r.Attachments[0].IP, r.Attachments[0].MAC = netip.MustParseAddr("10.77.1.2"), "02:00:00:00:00:07"
	second := setup(t, r)
	if got := second.Result().Networks["net1"]; got.IP.String() != "10.77.1.2/29" || got.MAC != "02:00:00:00:00:07" {
		t.Errorf("second has %+v", got)
	}
	for address, want := range map[string]string{
		"10.77.1.2": "in use by container second", "10.77.1.1": "is the gateway", "10.77.2.1": "is not in subnet",
	} {
		r := request(dir, "third", n)
		r.Attachments[0].IP = netip.MustParseAddr(address)
		if _, err := Setup(t.Context(), r); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("address %s: %v; want %q", address, err, want)
		}
	}
	setup(t, request(dir, "fourth", n))
	setup(t, request(dir, "fifth", n))
	if _, err := Setup(t.Context(), request(dir, "sixth", n)); err == nil || !strings.Contains(err.Error(), "no free address") {
		t.Errorf("the range is used up: %v", err)
	}
	taken := testNetwork(2)
	taken.Subnet, taken.Gateway = netip.MustParsePrefix("10.77.1.0/24"), netip.MustParseAddr("10.77.1.254")
	if _, err := Setup(t.Context(), request(dir, "sixth", taken)); err == nil || !strings.Contains(err.Error(), "overlaps") {
		t.Errorf("a subnet that is in use: %v", err)
	}
}

func TestErrorsLeaveNothing(t *testing.T) {
	dir := runDirectory(t)
	l, err := net.Listen("tcp", ":8080")
	must(t, err)
	defer l.Close()
	r := request(dir, "a", testNetwork(1))
	r.Ports = []Port{{HostPort: 8080, ContainerPort: 80, Protocol: "tcp"}}
	if _, err := Setup(t.Context(), r); !errors.Is(err, ErrPortInUse) {
		t.Errorf("Setup = %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Setup(ctx, request(dir, "b", testNetwork(1))); !errors.Is(err, context.Canceled) {
		t.Errorf("Setup = %v", err)
	}
	leases, err := runDir(dir).list()
	if err != nil || len(leases) > 0 {
		t.Errorf("%d leases are left, %v", len(leases), err)
	}
}

// BenchmarkSetup times a container's network on a bridge that others are on, and
// first that of the first container.
func BenchmarkSetup(b *testing.B) {
	for _, first := range []bool{false, true} {
		b.Run(fmt.Sprintf("first=%v", first), func(b *testing.B) {
			dir := b.TempDir()
			if !first {
				s, err := Setup(b.Context(), request(dir, "other", testNetwork(1)))
				if err != nil {
					b.Fatal(err)
				}
				defer Sweep(dir)
				defer s.Close()
			}
			for b.Loop() {
				s, err := Setup(b.Context(), request(dir, "a", testNetwork(1)))
				if err != nil {
					b.Fatal(err)
				}
				b.StopTimer()
				if err := s.Close(); err != nil {
					b.Fatal(err)
				}
				if first {
					if err := Sweep(dir); err != nil {
						b.Fatal(err)
					}
				}
				b.StartTimer()
			}
		})
	}
}

// TestHalfMadeBridge: its maker was killed before the bridge was complete.
func TestHalfMadeBridge(t *testing.T) {
	dir := runDirectory(t)
	n := testNetwork(1)
	mac, err := net.ParseMAC(macOf(n.Gateway))
	must(t, err)
	must(t, netlink.LinkAdd(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: n.Bridge, HardwareAddr: mac, TxQLen: -1}}))
	a, b := setup(t, request(dir, "a", n)), setup(t, request(dir, "b", n))
	serve(t, b.in.ns, "b", ":80")
	wantAnswer(t, a.in.ns, "10.77.1.3:80", "b 10.77.1.2")
	must(t, netlink.LinkAdd(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "cooper-half", HardwareAddr: mac, TxQLen: -1}}))
	must(t, a.Close())
	must(t, b.Close())
	must(t, Sweep(dir))
	checkNothingLeft(t)
}

// TestKilledAtAnyMoment: whatever a monitor was at when it was killed stands in
// nobody's way.
func TestKilledAtAnyMoment(t *testing.T) {
	dir := runDirectory(t)
	r := request(dir, "a", testNetwork(1))
	r.Ports = []Port{{HostPort: 8080, ContainerPort: 80, Protocol: "tcp"}, {HostPort: 8080, ContainerPort: 80, Protocol: "udp"}}
	text, err := json.Marshal(r)
	must(t, err)
	for i := range 15 {
		cmd := exec.Command("/proc/self/exe")
		cmd.Env = append(os.Environ(), envMonitor+"="+string(text))
		must(t, cmd.Start())
		time.Sleep(time.Duration(2*i) * time.Millisecond)
		cmd.Process.Kill()
		cmd.Wait()
		next := request(dir, fmt.Sprint("b", i), testNetwork(1))
		next.Ports = r.Ports
		s, err := Setup(t.Context(), next)
		if err != nil {
			t.Fatalf("after a kill in millisecond %d: %v", 2*i, err)
		}
		serve(t, s.in.ns, "b", ":80")
		wantAnswer(t, nil, "127.0.0.1:8080", "b 10.77.1.1")
		must(t, s.Close())
		if i%2 == 0 {
			must(t, Sweep(dir))
			checkNothingLeft(t)
		}
	}
}

// TestLoopbackIsOurs: that 127.0.0.1 leads to containers opens it neither to them nor
// to the machine's neighbours.
func TestLoopbackIsOurs(t *testing.T) {
	dir := runDirectory(t)
	outer := world(t)
	r := request(dir, "a", testNetwork(1))
	r.Ports = []Port{{HostIP: netip.MustParseAddr("127.0.0.1"), HostPort: 8080, ContainerPort: 80, Protocol: "tcp"}}
	a := setup(t, r)
	serve(t, a.in.ns, "a", ":80")
	serve(t, nil, "host", "127.0.0.1:81")
	wantAnswer(t, nil, "127.0.0.1:8080", "a 10.77.1.1")
	stranger := setup(t, request(dir, "stranger", testNetwork(2)))
	for _, who := range []struct {
		ns      *os.File
		gateway netip.Addr
	}{{outer, hostAddress.Addr()}, {stranger.in.ns, testNetwork(2).Gateway}} {
		must(t, within(who.ns, func() error { return routeLoopback(who.gateway) }))
		wantNoAnswer(t, who.ns, "127.0.0.1:8080")
		wantNoAnswer(t, who.ns, "127.0.0.1:81")
	}
}

// routeLoopback sends packets to 127.0.0.0/8 to a gateway, as an attacker would.
func routeLoopback(gateway netip.Addr) error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	eth, err := netlink.LinkByName("eth0")
	if err != nil {
		return err
	}
	return errors.Join(
		netlink.AddrDel(lo, &netlink.Addr{IPNet: ipNet(netip.MustParsePrefix("127.0.0.1/8"))}), setSysctl("ipv4/conf/eth0/route_localnet", "1"),
		netlink.RouteReplace(&netlink.Route{LinkIndex: eth.Attrs().Index, Gw: gateway.AsSlice(), Dst: ipNet(netip.MustParsePrefix("127.0.0.0/8"))}))
}
