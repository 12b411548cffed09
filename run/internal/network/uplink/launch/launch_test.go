package launch

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"cooper/run/internal/network"
	"cooper/run/internal/network/uplink"
	"cooper/run/internal/network/uplink/process"
	"cooper/run/internal/spawn"
)

const envPlace = "COOPER_TEST_PLACE"

// machineAddress is where the machine of the tests is.
const machineAddress = "192.0.2.10"

// TestMain runs the tests as an ordinary user of a machine of their own: in a user
// namespace without rights over the network namespace that it is in.
func TestMain(m *testing.M) {
	process.Init()
	var err error
	switch os.Getenv(envPlace) {
	case "":
		err = again("machine", unix.CLONE_NEWUSER|unix.CLONE_NEWNS|unix.CLONE_NEWNET)
	case "machine":
		if err = makeMachine(); err == nil {
			err = again("user", unix.CLONE_NEWUSER|unix.CLONE_NEWNS)
		}
	case "user":
		os.Exit(m.Run())
	}
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		os.Exit(exit.ExitCode())
	case err != nil:
		fmt.Fprintln(os.Stderr, "no namespaces can be made here:", err)
		os.Exit(1)
	}
}

// again runs this program in new namespaces.
func again(place string, flags uintptr) error {
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), envPlace+"="+place)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  flags,
		UidMappings: []syscall.SysProcIDMap{{HostID: os.Geteuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{HostID: os.Getegid(), Size: 1}},
		Pdeathsig:   unix.SIGKILL,
	}
	runtime.LockOSThread()
	return cmd.Run()
}

func makeMachine() error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "eth0"
	if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "cable"}); err != nil {
		return err
	}
	for _, name := range []string{"lo", "cable", "eth0"} {
		l, err := netlink.LinkByName(name)
		if err != nil {
			return err
		}
		if name == "eth0" {
			a, err := netlink.ParseAddr(machineAddress + "/24")
			if err != nil {
				return err
			}
			if err := netlink.AddrAdd(l, a); err != nil {
				return err
			}
		}
		if err := netlink.LinkSetUp(l); err != nil {
			return err
		}
	}
	return netlink.RouteAdd(&netlink.Route{Gw: net.ParseIP("192.0.2.1")})
}

// runDir is a directory for leases, with a network process whose end is waited for.
func runDir(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), strings.Repeat("a-long-path/", 12))
	hold, err := Start(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { hold.Close() })
	return dir
}

// container is a container's network namespace.
type container struct {
	t *testing.T
	*network.Sandbox
}

func newContainer(t *testing.T, dir, name string, n network.Network, ports ...network.Port) *container {
	t.Helper()
	id := sha256.Sum256([]byte(name))
	s, err := network.Setup(t.Context(), network.Request{
		ID: hex.EncodeToString(id[:]), Name: name, RunDir: dir, Rootless: true, Ports: ports,
		Attachments: []network.Attachment{{Network: n}},
	})
	if err != nil {
		t.Fatal(err)
	}
	var once sync.Once
	t.Cleanup(func() {
		once.Do(func() {
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
	})
	return &container{t, s}
}

// do calls f on a thread in the container's namespace.
func (c *container) do(f func()) {
	c.t.Helper()
	ns, err := os.Open(c.Path())
	if err != nil {
		c.t.Error(err)
		return
	}
	defer ns.Close()
	within(c.t, ns, f)
}

// within calls f on a thread in a network namespace.
func within(t *testing.T, ns *os.File, f func()) {
	t.Helper()
	var done sync.WaitGroup
	done.Go(func() {
		runtime.LockOSThread()
		if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
			t.Error(err)
			return
		}
		f()
	})
	done.Wait()
}

func (c *container) address() netip.Addr {
	for _, n := range c.Result().Networks {
		return n.IP.Addr()
	}
	return netip.Addr{}
}

// serve answers connections to a port of the container, or of the machine if c is
// nil, with the client's address.
func serve(t *testing.T, c *container, address string) netip.AddrPort {
	t.Helper()
	var l net.Listener
	var err error
	listen := func() { l, err = net.Listen("tcp", address) }
	if c == nil {
		listen()
	} else {
		c.do(listen)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			fmt.Fprint(conn, conn.RemoteAddr().(*net.TCPAddr).IP)
			conn.Close()
		}
	}()
	return l.Addr().(*net.TCPAddr).AddrPort()
}

// ask connects from the container, or the machine, and returns what is said.
func ask(c *container, address string) (string, error) {
	var conn net.Conn
	var err error
	dial := func() { conn, err = net.DialTimeout("tcp", address, 5*time.Second) }
	if c == nil {
		dial()
	} else {
		c.do(dial)
	}
	if err != nil {
		return "", err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(5 * time.Second))
	b, err := io.ReadAll(conn)
	return string(b), err
}

func testNetwork(i byte) network.Network {
	id := sha256.Sum256([]byte{i})
	gateway := netip.AddrFrom4([4]byte{10, 77, i, 1})
	return network.Network{
		Name: fmt.Sprintf("net%d", i), ID: hex.EncodeToString(id[:]), Driver: "bridge",
		Bridge: fmt.Sprintf("cooper-t%d", i), Subnet: netip.PrefixFrom(gateway, 24).Masked(), Gateway: gateway,
	}
}

func TestContainers(t *testing.T) {
	dir := runDir(t)
	n := testNetwork(1)
	a := newContainer(t, dir, "a", n, network.Port{HostIP: netip.MustParseAddr("127.0.0.1"), ContainerPort: 8080, Protocol: "tcp"})
	b := newContainer(t, dir, "b", n)
	port := serve(t, a, ":8080").Port()
	elsewhere := serve(t, nil, machineAddress+":0")
	local := serve(t, nil, "127.0.0.1:0")

	published := a.Result().Ports
	if len(published) != 1 || published[0].HostPort == 0 {
		t.Fatalf("published ports %+v", published)
	}
	for _, c := range []struct {
		name    string
		from    *container
		address string
		want    string // "" says that it must not work
	}{
		{"machine to published port", nil, fmt.Sprintf("127.0.0.1:%d", published[0].HostPort), n.Gateway.String()},
		{"container to container", b, netip.AddrPortFrom(a.address(), port).String(), b.address().String()},
		{"container to elsewhere", a, elsewhere.String(), machineAddress},
		{"container to machine", a, netip.AddrPortFrom(a.Result().HostGateway, elsewhere.Port()).String(), machineAddress},
		{"container to the machine's loopback interface", a, netip.AddrPortFrom(a.Result().HostGateway, local.Port()).String(), ""},
	} {
		got, err := ask(c.from, c.address)
		if got != c.want || (err == nil) != (c.want != "") {
			t.Errorf("%s (%s): %q, %v; want %q", c.name, c.address, got, err, c.want)
		}
	}
	found, err := b.resolver().LookupHost(t.Context(), "a")
	if err != nil || len(found) != 1 || found[0] != a.address().String() {
		t.Errorf("b finds a at %q, %v; want %s", found, err, a.address())
	}
}

// resolver asks the container's name server.
func (c *container) resolver() *net.Resolver {
	return &net.Resolver{PreferGo: true, Dial: func(_ context.Context, network, _ string) (conn net.Conn, err error) {
		c.do(func() { conn, err = net.Dial(network, net.JoinHostPort(c.Result().Nameservers[0], "53")) })
		return conn, err
	}}
}

// TestReadOnlySysctls: inside of a container no file below /proc/sys can be written,
// and the machine may not forward packets, which new namespaces inherit.
func TestReadOnlySysctls(t *testing.T) {
	dir := runDir(t)
	h, err := Start(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	within(t, h.Namespace, func() {
		err = os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("0"), 0)
		if l, linkErr := netlink.LinkByName(uplink.Interface); err == nil && linkErr == nil {
			err = uplink.Forward(l.Attrs().Index)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	const sys = "/proc/sys"
	flags := uintptr(unix.MS_BIND | unix.MS_REMOUNT | unix.MS_RDONLY | unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC)
	if err := errors.Join(unix.Mount(sys, sys, "", unix.MS_BIND, ""), unix.Mount("", sys, "", flags, "")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount(sys, unix.MNT_DETACH) })
	elsewhere := serve(t, nil, machineAddress+":0")
	for _, dir := range []string{dir, runDir(t)} {
		a := newContainer(t, dir, "a", testNetwork(3))
		if got, err := ask(a, elsewhere.String()); got != machineAddress {
			t.Errorf("container to elsewhere: %q, %v", got, err)
		}
	}
}

// TestProcessIsShared: all who use a run directory have one namespace, and it is
// gone some time after the last.
func TestProcessIsShared(t *testing.T) {
	dir := t.TempDir()
	if _, err := uplink.Join(dir); !errors.Is(err, uplink.ErrNotRunning) {
		t.Fatalf("Join before Start: %v", err)
	}
	var holds [8]*uplink.Hold
	var wg sync.WaitGroup
	for i := range holds {
		wg.Go(func() {
			var err error
			if holds[i], err = Start(dir); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if t.Failed() {
		return
	}
	inodes := map[uint64]bool{}
	for _, h := range holds {
		var st unix.Stat_t
		if err := unix.Fstat(int(h.Namespace.Fd()), &st); err != nil {
			t.Error(err)
		}
		inodes[st.Ino] = true
		h.Close()
	}
	if len(inodes) != 1 {
		t.Errorf("%d namespaces, want 1", len(inodes))
	}
	if testing.Short() {
		t.Skip("the process's end takes ten seconds")
	}
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(200 * time.Millisecond) {
		_, err := os.Stat(filepath.Join(dir, uplink.SocketName))
		if errors.Is(err, os.ErrNotExist) {
			break
		}
		if time.Now().After(end) {
			t.Fatal("the network process goes on though nobody uses it")
		}
	}
	h, err := Start(dir)
	if err != nil {
		t.Fatalf("Start after the end: %v", err)
	}
	h.Close()
}

// TestProcessWasKilled: where nobody has its namespace, another is made.
func TestProcessWasKilled(t *testing.T) {
	dir := t.TempDir()
	l, err := uplink.Listen(dir) // a socket that nobody listens to
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	h, err := Start(dir)
	if err != nil {
		t.Fatal(err)
	}
	h.Close()
}

// TestDirectoryOfOthers: nothing is believed that others may have put there.
func TestDirectoryOfOthers(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "dir")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(t.TempDir(), link); err != nil {
		t.Fatal(err)
	}
	for _, d := range []string{dir, link} {
		if h, err := Start(d); err == nil || !strings.Contains(err.Error(), "can be written to by others") {
			t.Errorf("Start(%s) = %v, %v", d, h, err)
		}
	}
}

// TestProcessIsReplaced: containers that run keep their network.
func TestProcessIsReplaced(t *testing.T) {
	dir, pid := t.TempDir(), 0
	h, err := uplink.Start(dir, uplink.StartOptions{
		Program: func() (*os.File, error) { return spawn.InMemory("cooper-network", openProgram) },
		Started: func(p int) error { pid = p; return nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	n := testNetwork(2)
	a, b := newContainer(t, dir, "a", n), newContainer(t, dir, "b", n)
	elsewhere := serve(t, nil, machineAddress+":0")
	for range 3 {
		if got, err := ask(a, elsewhere.String()); got != machineAddress {
			t.Fatalf("before: %q, %v", got, err)
		}
		if err := unix.Kill(pid, unix.SIGKILL); err != nil {
			t.Fatal(err)
		}
		next, err := Start(dir)
		if err != nil {
			t.Fatal(err)
		}
		defer next.Close()
		var was, is unix.Stat_t
		if err := errors.Join(unix.Fstat(int(h.Namespace.Fd()), &was), unix.Fstat(int(next.Namespace.Fd()), &is)); err != nil {
			t.Fatal(err)
		}
		if was.Ino != is.Ino {
			t.Error("the next process has made a namespace of its own")
		}
		for _, c := range []*container{a, b} {
			if got, err := ask(c, elsewhere.String()); got != machineAddress {
				t.Errorf("after: %q, %v", got, err)
			}
		}
		pid = child(t)
	}
}

// child is a network process that is this process's sibling, which lives.
func child(t *testing.T) int {
	t.Helper()
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range stats {
		var pid, parent int
		var comm, state string
		b, _ := os.ReadFile(name)
		fmt.Sscan(string(b), &pid, &comm, &state, &parent)
		if comm == "(cooper-network)" && parent == os.Getppid() && state != "Z" {
			return pid
		}
	}
	t.Fatal("there is no network process")
	return 0
}
