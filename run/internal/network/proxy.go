package network

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// proxy is a published port: it listens on the machine and carries what comes to a
// container. Its sockets towards the container are made in the namespace of the
// bridges. The container sees the client as the other end where that can be, see
// client.go, or else its gateway.
type proxy struct {
	inner  *sockets
	target netip.AddrPort

	// listener is a *net.TCPListener or a *net.UDPConn.
	listener io.Closer
	done     sync.WaitGroup

	mu     sync.Mutex
	closed bool
	conns  map[io.Closer]struct{}
}

// newProxy publishes p for the container with the given address, and returns p with
// the host port chosen. inner makes the sockets towards the container. The caller
// closes the proxy, which ends its connections.
func newProxy(ctx context.Context, p Port, to netip.Addr, inner *sockets) (*proxy, Port, error) {
	x := &proxy{
		inner:  inner,
		target: netip.AddrPortFrom(to, p.ContainerPort),
		conns:  map[io.Closer]struct{}{},
	}
	last := max(p.HostPort, p.HostPortLast)
	for {
		port, err := x.listen(ctx, p)
		if err == nil {
			p.HostPort, p.HostPortLast = port, 0
			return x, p, nil
		}
		if p.HostPort == last || !errors.Is(err, ErrPortInUse) {
			return nil, p, err
		}
		p.HostPort++
	}
}

// listen opens the listener, starts to serve it and returns its port.
func (x *proxy) listen(ctx context.Context, p Port) (uint16, error) {
	host := ""
	if p.HostIP.IsValid() {
		host = p.HostIP.String()
	}
	address := net.JoinHostPort(host, strconv.Itoa(int(p.HostPort)))
	var config net.ListenConfig
	switch p.Protocol {
	case "tcp", "":
		l, err := config.Listen(ctx, "tcp", address)
		if err != nil {
			return 0, listenError(p, err)
		}
		x.listener = l
		x.done.Go(func() { x.serveTCP(l.(*net.TCPListener)) })
		return uint16(l.Addr().(*net.TCPAddr).Port), nil
	case "udp":
		l, err := config.ListenPacket(ctx, "udp", address)
		if err != nil {
			return 0, listenError(p, err)
		}
		x.listener = l
		x.done.Go(func() { x.serveUDP(l.(*net.UDPConn)) })
		return uint16(l.LocalAddr().(*net.UDPAddr).Port), nil
	}
	return 0, fmt.Errorf("publish port %d/%s: an ordinary user can publish tcp and udp ports only", p.ContainerPort, p.Protocol)
}

// listenError says what err, from listening for p, means.
func listenError(p Port, err error) error {
	host := p.HostIP
	if !host.IsValid() {
		host = netip.IPv4Unspecified()
	}
	at := netip.AddrPortFrom(host, p.HostPort)
	switch {
	case errors.Is(err, unix.EADDRINUSE):
		return fmt.Errorf("publish port %d: Bind for %s failed: %w", p.ContainerPort, at, ErrPortInUse) // docker's words
	case errors.Is(err, unix.EACCES):
		first := "1024"
		if b, err := os.ReadFile("/proc/sys/net/ipv4/ip_unprivileged_port_start"); err == nil {
			first = strings.TrimSpace(string(b))
		}
		return fmt.Errorf("publish port %s: ordinary users may listen from port %s on: choose such a host port, or have net.ipv4.ip_unprivileged_port_start lowered with sysctl", at, first)
	case errors.Is(err, unix.EADDRNOTAVAIL):
		return fmt.Errorf("publish port %s: %s is no address of this machine", at, host)
	}
	return fmt.Errorf("publish port %s: %w", at, err)
}

// Close stops listening and ends all connections.
func (x *proxy) Close() error {
	err := x.listener.Close()
	x.mu.Lock()
	x.closed = true
	for c := range x.conns {
		c.Close()
	}
	x.mu.Unlock()
	x.done.Wait()
	return err
}

// keep has Close close c as well, and reports whether it is not too late for that.
func (x *proxy) keep(c io.Closer) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	if !x.closed {
		x.conns[c] = struct{}{}
	}
	return !x.closed
}

// release closes c, which was kept.
func (x *proxy) release(c io.Closer) {
	x.mu.Lock()
	delete(x.conns, c)
	x.mu.Unlock()
	c.Close()
}

// dial connects a socket of the given kind (unix.SOCK_STREAM or SOCK_DGRAM) to the
// container, in the client's name if that can be.
func (x *proxy) dial(kind int, client netip.AddrPort) (*os.File, error) {
	address := client.Addr().Unmap()
	if x.inner.canSpeakFor(address, x.target.Addr()) {
		for _, port := range []uint16{client.Port(), 0} { // another one if that is taken
			f, err := x.connect(kind, netip.AddrPortFrom(address, port))
			if !errors.Is(err, unix.EADDRINUSE) && !errors.Is(err, unix.EADDRNOTAVAIL) {
				return f, err
			}
		}
	}
	return x.connect(kind, netip.AddrPort{})
}

// connect connects a socket that has the address from, if that is one.
func (x *proxy) connect(kind int, from netip.AddrPort) (*os.File, error) {
	domain, address := socketAddress(x.target)
	fd, err := x.inner.open(domain, kind)
	if err != nil {
		return nil, err
	}
	if from.IsValid() {
		if err := speakFor(fd, kind, from); err != nil {
			unix.Close(fd)
			return nil, err
		}
	}
	if kind == unix.SOCK_STREAM {
		// Like the other end, which package net has made: no delay.
		unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	}
	err = unix.Connect(fd, address)
	f := os.NewFile(uintptr(fd), "connection to "+x.target.String())
	if err == unix.EINPROGRESS {
		err = connected(f)
	}
	if err != nil {
		f.Close()
		return nil, os.NewSyscallError("connect", err)
	}
	return f, nil
}

// socketAddress is a as the kernel has it, and its kind.
func socketAddress(a netip.AddrPort) (domain int, sa unix.Sockaddr) {
	if ip := a.Addr().Unmap(); ip.Is4() {
		return unix.AF_INET, &unix.SockaddrInet4{Port: int(a.Port()), Addr: ip.As4()}
	}
	return unix.AF_INET6, &unix.SockaddrInet6{Port: int(a.Port()), Addr: a.Addr().As16()}
}

// connected waits until a connect has ended.
func connected(f *os.File) error {
	c, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var failure error
	err = c.Write(func(fd uintptr) bool {
		var code int
		if code, failure = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_ERROR); failure != nil {
			return true
		}
		if code != 0 {
			failure = unix.Errno(code)
			return true
		}
		_, failure = unix.Getpeername(int(fd))
		return failure != unix.ENOTCONN
	})
	return errors.Join(err, failure)
}
