package network

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

var localhost = netip.MustParseAddr("127.0.0.1")

// echoServer answers on a TCP port of the loopback interface with f.
func echoServer(t *testing.T, f func(*net.TCPConn)) uint16 {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	t.Cleanup(func() { l.Close(); wg.Wait() })
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer c.Close()
				f(c.(*net.TCPConn))
			})
		}
	})
	return uint16(l.Addr().(*net.TCPAddr).Port)
}

// publish makes a proxy to a port of the loopback interface.
func publish(t *testing.T, p Port) (Port, *proxy) {
	t.Helper()
	x, p, err := newProxy(context.Background(), p, localhost, nil)
	if err != nil {
		t.Fatal(err)
	}
	return p, x
}

func connect(t *testing.T, p Port) *net.TCPConn {
	t.Helper()
	c, err := net.Dial("tcp", netip.AddrPortFrom(p.HostIP, p.HostPort).String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(30 * time.Second))
	return c.(*net.TCPConn)
}

func TestProxyCarriesBothWays(t *testing.T) {
	port := echoServer(t, func(c *net.TCPConn) {
		io.Copy(c, c)
		io.WriteString(c, "end") // after the client's end: half-close
	})
	p, x := publish(t, Port{HostIP: localhost, ContainerPort: port})
	defer x.Close()
	data := make([]byte, 5<<20)
	rand.Read(data)
	c := connect(t, p)
	go func() {
		c.Write(data)
		c.CloseWrite()
	}()
	got, err := io.ReadAll(c)
	if err != nil || !bytes.Equal(got, append(data, "end"...)) {
		t.Errorf("echo: %d bytes, %v; want %d bytes and \"end\"", len(got), err, len(data))
	}
}

func TestProxyManyConnections(t *testing.T) {
	port := echoServer(t, func(c *net.TCPConn) {
		io.Copy(struct{ io.Writer }{c}, struct{ io.Reader }{c}) // without pipes
	})
	p, x := publish(t, Port{HostIP: localhost, ContainerPort: port})
	const n = 1000
	var conns []*net.TCPConn
	for range n {
		conns = append(conns, connect(t, p))
	}
	for i, c := range conns {
		fmt.Fprintf(c, "%8d", i)
	}
	for i, c := range conns {
		var b [8]byte
		if _, err := io.ReadFull(c, b[:]); err != nil || string(b[:]) != fmt.Sprintf("%8d", i) {
			t.Fatalf("connection %d: %q, %v", i, b[:], err)
		}
	}
	if pipes := openPipes(t); pipes > 2*cap(freePipes)+8 {
		t.Errorf("%d idle connections keep %d pipe ends", n, pipes)
	}
	x.Close()
	if _, err := conns[0].Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("connection after Close: %v", err)
	}
	if len(x.conns) != 0 {
		t.Errorf("%d connections are left", len(x.conns))
	}
}

// openPipes counts the descriptors of this process that are pipes.
func openPipes(t *testing.T) (n int) {
	t.Helper()
	files, err := filepath.Glob("/proc/self/fd/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if to, _ := os.Readlink(f); strings.HasPrefix(to, "pipe:") {
			n++
		}
	}
	return n
}

func TestProxyPassesResetOn(t *testing.T) {
	port := echoServer(t, func(c *net.TCPConn) {
		c.Read(make([]byte, 1))
		c.SetLinger(0)
	})
	p, x := publish(t, Port{HostIP: localhost, ContainerPort: port})
	defer x.Close()
	c := connect(t, p)
	c.Write([]byte("x"))
	if n, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("read after the container's reset: %d, %v", n, err)
	}
}

func TestProxyWithNobodyThere(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := uint16(l.Addr().(*net.TCPAddr).Port)
	l.Close()
	p, x := publish(t, Port{HostIP: localhost, ContainerPort: port})
	defer x.Close()
	c, err := net.Dial("tcp", netip.AddrPortFrom(p.HostIP, p.HostPort).String())
	if err == nil {
		defer c.Close()
		_, err = c.Read(make([]byte, 1))
	}
	if !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("read: %v, want a reset", err)
	}
}

func TestProxyUDP(t *testing.T) {
	server, err := net.ListenPacket("udp", "127.0.0.1:0")
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
			server.WriteTo(append([]byte(from.String()+" "), b[:n]...), from)
		}
	}()
	p, x := publish(t, Port{HostIP: localhost, ContainerPort: uint16(server.LocalAddr().(*net.UDPAddr).Port), Protocol: "udp"})
	defer x.Close()
	seen := map[string]bool{}
	for range 3 {
		c, err := net.Dial("udp", netip.AddrPortFrom(localhost, p.HostPort).String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(10 * time.Second))
		for _, text := range []string{"one", "two"} {
			fmt.Fprint(c, text)
			b := make([]byte, 100)
			n, err := c.Read(b)
			from, got, _ := strings.Cut(string(b[:n]), " ")
			if err != nil || got != text {
				t.Fatalf("answer %q, %v, want %q", got, err, text)
			}
			seen[from] = true
		}
	}
	if len(seen) != 3 {
		t.Errorf("the server saw %d clients, want 3", len(seen))
	}
}

// TestProxyUDPAnswersFromWhereItWasAsked: clients take no answer from another address.
func TestProxyUDPAnswersFromWhereItWasAsked(t *testing.T) {
	server, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	go func() {
		b := make([]byte, 100)
		for {
			n, from, err := server.ReadFrom(b)
			if err != nil {
				return
			}
			server.WriteTo(b[:n], from)
		}
	}()
	to := uint16(server.LocalAddr().(*net.UDPAddr).Port)
	for _, host := range []netip.Addr{{}, netip.IPv4Unspecified()} {
		p, x := publish(t, Port{HostIP: host, ContainerPort: to, Protocol: "udp"})
		defer x.Close()
		for _, address := range []string{"127.0.0.1", "127.0.0.2"} {
			c, err := net.Dial("udp", netip.AddrPortFrom(netip.MustParseAddr(address), p.HostPort).String())
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			c.SetDeadline(time.Now().Add(5 * time.Second))
			fmt.Fprint(c, "question")
			if n, err := c.Read(make([]byte, 100)); n != len("question") || err != nil {
				t.Errorf("port on %q asked at %s: %d bytes, %v", host, address, n, err)
			}
		}
	}
}

func TestProxyPorts(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	port := uint16(taken.Addr().(*net.TCPAddr).Port)
	_, _, err = newProxy(context.Background(), Port{HostIP: localhost, HostPort: port, ContainerPort: 1}, localhost, nil)
	want := fmt.Sprintf("publish port 1: Bind for 127.0.0.1:%d failed: port is already allocated", port)
	if !errors.Is(err, ErrPortInUse) || err.Error() != want {
		t.Errorf("taken port: %v, want %s", err, want)
	}
	_, _, err = newProxy(context.Background(), Port{HostPort: port, ContainerPort: 1}, localhost, nil)
	if !errors.Is(err, ErrPortInUse) {
		t.Errorf("taken port on all addresses: %v", err)
	}
	p, x := publish(t, Port{HostIP: localhost, HostPort: port, HostPortLast: port + 20, ContainerPort: 1})
	defer x.Close()
	if p.HostPort <= port || p.HostPort > port+20 || p.HostPortLast != 0 {
		t.Errorf("port of the range %d-%d: %+v", port, port+20, p)
	}
	_, _, err = newProxy(context.Background(), Port{HostIP: netip.MustParseAddr("192.0.2.1"), ContainerPort: 1}, localhost, nil)
	if err == nil || !strings.Contains(err.Error(), "no address of this machine") {
		t.Errorf("strange address: %v", err)
	}
	_, _, err = newProxy(context.Background(), Port{ContainerPort: 1, Protocol: "sctp"}, localhost, nil)
	if err == nil || !strings.Contains(err.Error(), "sctp") {
		t.Errorf("sctp: %v", err)
	}
}
