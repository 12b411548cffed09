package process

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/checksum"

	"cooper/run/internal/network/uplink"
)

// TestMain runs the tests in a network namespace of their own: a machine with one
// interface and a way to the world that leads nowhere.
func TestMain(m *testing.M) {
	const again = "COOPER_TEST_MACHINE"
	if slices.Contains(os.Args, "-test.fuzzworker") {
		os.Exit(m.Run())
	}
	if os.Getenv(again) != "" {
		if err := makeMachine(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(m.Run())
	}
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), again+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET, Pdeathsig: unix.SIGKILL}
	if os.Geteuid() != 0 {
		cmd.SysProcAttr.Cloneflags |= unix.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{HostID: os.Geteuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{HostID: os.Getegid(), Size: 1}}
	}
	runtime.LockOSThread()
	err := cmd.Run()
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		os.Exit(exit.ExitCode())
	case err != nil:
		fmt.Fprintln(os.Stderr, "no namespaces can be made here:", err)
		os.Exit(1)
	}
}

// machine4 and machine6 are the machine's addresses.
var machine4, machine6 = netip.MustParseAddr("192.0.2.10"), netip.MustParseAddr("2001:db8::10")

func makeMachine() error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "eth0"
	if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "cable"}); err != nil {
		return err
	}
	for name, addresses := range map[string][]string{"lo": nil, "cable": nil, "eth0": {machine4.String() + "/24", machine6.String() + "/64"}} {
		l, err := netlink.LinkByName(name)
		if err != nil {
			return err
		}
		for _, a := range addresses {
			a, err := netlink.ParseAddr(a)
			if err != nil {
				return err
			}
			a.Flags = unix.IFA_F_NODAD
			if err := netlink.AddrAdd(l, a); err != nil {
				return err
			}
		}
		if err := netlink.LinkSetUp(l); err != nil {
			return err
		}
	}
	if err := netlink.RouteAdd(&netlink.Route{Gw: net.ParseIP("192.0.2.1")}); err != nil {
		return err
	}
	return os.WriteFile("/proc/sys/net/ipv4/ping_group_range", []byte("0 0"), 0)
}

// inside is a namespace whose way out is a stack of this process.
type inside struct {
	t  testing.TB
	ns *os.File
}

// eachDevice runs a test with a namespace for every kind of interface.
func eachDevice(t *testing.T, f func(t *testing.T, in *inside)) {
	for name, open := range map[string]func(*os.File) (int, error){"tap": openTap, "veth": openVeth} {
		t.Run(name, func(t *testing.T) { f(t, newInside(t, open)) })
	}
}

func newInside(t testing.TB, open func(*os.File) (int, error)) *inside {
	t.Helper()
	ns, l, err := newNamespace(open)
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, os.ErrPermission) {
		t.Skip(err) // no /dev/net/tun, or not for users
	}
	if err != nil {
		t.Fatal(err)
	}
	s, err := newStack(l)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		l.file.Close()
		s.Close()
		ns.Close()
	})
	return &inside{t: t, ns: ns}
}

// do calls f on a thread in the namespace.
func (in *inside) do(f func()) {
	var done sync.WaitGroup
	done.Go(func() {
		runtime.LockOSThread()
		if err := unix.Setns(int(in.ns.Fd()), unix.CLONE_NEWNET); err != nil {
			in.t.Error(err)
			return
		}
		f()
	})
	done.Wait()
}

// dial connects from within.
func (in *inside) dial(network, address string) (c net.Conn, err error) {
	in.do(func() { c, err = net.DialTimeout(network, address, 10*time.Second) })
	if err == nil {
		in.t.Cleanup(func() { c.Close() })
		c.SetDeadline(time.Now().Add(30 * time.Second))
	}
	return c, err
}

// serveTCP answers each TCP connection to an address with f.
func serveTCP(t testing.TB, address netip.Addr, f func(*net.TCPConn)) netip.AddrPort {
	t.Helper()
	l, err := net.Listen("tcp", netip.AddrPortFrom(address, 0).String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				f(c.(*net.TCPConn))
			}()
		}
	}()
	return l.Addr().(*net.TCPAddr).AddrPort()
}

func TestTCPBothWays(t *testing.T) {
	eachDevice(t, func(t *testing.T, in *inside) {
		for _, address := range []netip.Addr{machine4, machine6} {
			testTCPBothWays(t, in, address)
		}
	})
}

func testTCPBothWays(t *testing.T, in *inside, address netip.Addr) {
	at := serveTCP(t, address, func(c *net.TCPConn) {
		io.Copy(c, c)
		io.WriteString(c, "end")
	})
	data := make([]byte, 20<<20)
	rand.Read(data)
	c, err := in.dial("tcp", at.String())
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		c.Write(data)
		c.(*net.TCPConn).CloseWrite()
	}()
	got, err := io.ReadAll(c)
	if err != nil || !bytes.Equal(got, append(data, "end"...)) {
		t.Errorf("%d bytes, %v; want %d and \"end\"", len(got), err, len(data))
	}
}

func TestTCPAbrupt(t *testing.T) { eachDevice(t, testTCPAbrupt) }

func testTCPAbrupt(t *testing.T, in *inside) {
	at := serveTCP(t, machine4, func(c *net.TCPConn) {
		c.Read(make([]byte, 1))
		c.SetLinger(0)
	})
	c, err := in.dial("tcp", at.String())
	if err != nil {
		t.Fatal(err)
	}
	c.Write([]byte("x"))
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("after the other end's reset: %v", err)
	}
	l, err := net.Listen("tcp", netip.AddrPortFrom(machine4, 0).String())
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	if _, err := in.dial("tcp", l.Addr().String()); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("to a port where nobody listens: %v", err)
	}
}

func TestTCPManyConnections(t *testing.T) { eachDevice(t, testTCPManyConnections) }

func testTCPManyConnections(t *testing.T, in *inside) {
	at := serveTCP(t, machine4, func(c *net.TCPConn) { io.Copy(c, c) })
	const n = 500
	var conns []net.Conn
	in.do(func() {
		for range n {
			c, err := net.DialTimeout("tcp", at.String(), 10*time.Second)
			if err != nil {
				t.Error(err)
				return
			}
			conns = append(conns, c)
		}
	})
	for i, c := range conns {
		defer c.Close()
		c.SetDeadline(time.Now().Add(20 * time.Second))
		fmt.Fprintf(c, "%8d", i)
	}
	for i, c := range conns {
		var b [8]byte
		if _, err := io.ReadFull(c, b[:]); err != nil || string(b[:]) != fmt.Sprintf("%8d", i) {
			t.Fatalf("connection %d: %q, %v", i, b[:], err)
		}
	}
}

// TestMachine: the gateway's address leads to the machine, but not to what listens
// on its loopback interface only.
func TestMachine(t *testing.T) { eachDevice(t, testMachine) }

func testMachine(t *testing.T, in *inside) {
	local, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer local.Close()
	port := local.Addr().(*net.TCPAddr).Port
	if c, err := in.dial("tcp", fmt.Sprintf("%s:%d", uplink.Gateway, port)); err == nil {
		t.Errorf("connected to %s, which listens on the loopback interface", c.RemoteAddr())
	}
	every, err := net.Listen("tcp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	defer every.Close()
	port = every.Addr().(*net.TCPAddr).Port
	if _, err := in.dial("tcp", fmt.Sprintf("%s:%d", uplink.Gateway, port)); err != nil {
		t.Errorf("to the machine: %v", err)
	}
}

func TestUDP(t *testing.T) { eachDevice(t, testUDP) }

func testUDP(t *testing.T, in *inside) {
	server, err := net.ListenPacket("udp", netip.AddrPortFrom(machine4, 0).String())
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	go func() {
		b := make([]byte, 64<<10)
		for {
			n, from, err := server.ReadFrom(b)
			if err != nil {
				return
			}
			server.WriteTo(b[:n], from)
		}
	}()
	for _, size := range []int{1, 1400, 20000, 65000} {
		c, err := in.dial("udp", server.LocalAddr().String())
		if err != nil {
			t.Fatal(err)
		}
		data := make([]byte, size)
		rand.Read(data)
		c.Write(data)
		got := make([]byte, 64<<10)
		n, err := c.Read(got)
		if err != nil || !bytes.Equal(got[:n], data) {
			t.Errorf("datagram of %d bytes: %d came back, %v", size, n, err)
		}
	}
	// Several datagrams handed to the kernel at once stay several.
	c, err := in.dial("udp", server.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	raw, _ := c.(*net.UDPConn).SyscallConn()
	raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_UDP, unix.UDP_SEGMENT, 1000) })
	if err != nil {
		t.Skip("no UDP_SEGMENT:", err)
	}
	c.Write(make([]byte, 2500))
	for _, want := range []int{1000, 1000, 500} {
		if n, err := c.Read(make([]byte, 64<<10)); n != want || err != nil {
			t.Errorf("segment of %d bytes, %v; want %d", n, err, want)
		}
	}
}

// TestForward: an interface forwards though the namespace as a whole does not.
func TestForward(t *testing.T) {
	in := newInside(t, openVeth)
	in.do(func() {
		const all, one = "/proc/sys/net/ipv4/ip_forward", "/proc/sys/net/ipv4/conf/" + uplink.Interface + "/forwarding"
		if err := os.WriteFile(all, []byte("0"), 0); err != nil {
			t.Error(err)
			return
		}
		l, err := netlink.LinkByName(uplink.Interface)
		if err == nil {
			err = uplink.Forward(l.Attrs().Index)
		}
		if err != nil {
			t.Error(err)
			return
		}
		if b, err := os.ReadFile(one); string(b) != "1\n" {
			t.Errorf("%s is %q, %v; want 1", one, b, err)
		}
	})
}

func TestDestination(t *testing.T) {
	for a, want := range map[string]bool{
		"192.0.2.7": true, "2001:db8::7": true, "169.254.169.254": true,
		"127.0.0.1": false, "::1": false, "::ffff:127.0.0.1": false, "0.0.0.0": false, "224.0.0.1": false,
		"255.255.255.255": false, "fe80::1": false, "ff02::1": false, uplink.Address.Addr().String(): false,
	} {
		ip := netip.MustParseAddr(a)
		if _, got := destination(tcpip.AddrFromSlice(ip.AsSlice())); got != want {
			t.Errorf("destination(%s) = %v, want %v", a, got, want)
		}
	}
}

// TestPing: whoever answers is asked; who does not, does not.
func TestPing(t *testing.T) { eachDevice(t, testPing) }

func testPing(t *testing.T, in *inside) {
	for a, want := range map[netip.Addr]bool{
		machine4: true, machine6: true, uplink.Gateway: true, uplink.Gateway6: true,
		netip.MustParseAddr("192.0.2.99"): false,
	} {
		// An IPv6 address is deaf until the kernel has come round to it.
		if got := in.ping(a) || want && in.ping(a); got != want {
			t.Errorf("ping %s is answered: %v, want %v", a, got, want)
		}
	}
}

// ping sends two echo requests and reports whether both are answered.
func (in *inside) ping(a netip.Addr) bool {
	in.t.Helper()
	network, protocol, request := "ip4:icmp", 1, byte(8)
	if a.Is6() {
		network, protocol, request = "ip6:ipv6-icmp", 58, 128
	}
	c, err := in.dial(network, a.String())
	if err != nil {
		in.t.Fatal(err)
	}
	c.SetDeadline(time.Now().Add(time.Second))
	for seq := byte(1); seq <= 2; seq++ {
		b := []byte{request, 0, 0, 0, 0x12, 0x34, 0, seq, 'd', 'a', 't', 'a'}
		if protocol == 1 { // the kernel does it for IPv6
			sum := ^checksum.Checksum(b, 0)
			b[2], b[3] = byte(sum>>8), byte(sum)
		}
		if _, err := c.Write(b); err != nil {
			in.t.Fatal(err)
		}
		reply := make([]byte, 100)
		for {
			n, err := c.Read(reply)
			if err != nil {
				return false
			}
			// An answer has the kind 0 or 129; neighbour discovery is heard too.
			answer := reply[:n]
			if protocol == 1 {
				answer = answer[20:] // behind the IP header
			}
			if len(answer) == len(b) && (answer[0] == 0 || answer[0] == 129) && bytes.Equal(answer[4:], b[4:]) {
				break
			}
		}
	}
	return true
}

// TestPingNotAllowed: where users have no ping sockets, the container hears at once.
func TestPingNotAllowed(t *testing.T) {
	in := newInside(t, openVeth)
	const setting = "/proc/sys/net/ipv4/ping_group_range"
	if err := os.WriteFile(setting, []byte("1 0"), 0); err != nil {
		t.Skip(err) // there is no second group
	}
	defer os.WriteFile(setting, []byte("0 0"), 0)
	c, err := in.dial("ip4:icmp", machine4.String())
	if err != nil {
		t.Fatal(err)
	}
	b := []byte{8, 0, 0, 0, 0, 1, 0, 1}
	sum := ^checksum.Checksum(b, 0)
	b[2], b[3] = byte(sum>>8), byte(sum)
	c.Write(b)
	// That is what the kernel makes of "administratively prohibited".
	if n, err := c.Read(make([]byte, 100)); !errors.Is(err, syscall.EHOSTUNREACH) {
		t.Errorf("answer of %d bytes, %v; want %v", n, err, syscall.EHOSTUNREACH)
	}
}
