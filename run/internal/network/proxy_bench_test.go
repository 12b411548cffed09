package network

import (
	"io"
	"net"
	"os"
	"testing"
)

// benchProxy publishes a server that answers with f, by way of sockets that are made
// elsewhere, as for an ordinary user's containers.
func benchProxy(b *testing.B, f func(net.Conn)) Port {
	b.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				f(c)
			}()
		}
	}()
	var inner *sockets
	err = onThread(func() error {
		ns, err := os.Open(ownNamespace)
		if err != nil {
			return err
		}
		defer ns.Close()
		inner, err = newSockets(ns)
		return err
	})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { inner.Close() })
	x, p, err := newProxy(b.Context(), Port{HostIP: localhost, ContainerPort: uint16(l.Addr().(*net.TCPAddr).Port)}, localhost, inner)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { x.Close() })
	return p
}

func dialPort(b *testing.B, p Port) net.Conn {
	c, err := net.DialTCP("tcp", nil, &net.TCPAddr{IP: p.HostIP.AsSlice(), Port: int(p.HostPort)})
	if err != nil {
		b.Fatal(err)
	}
	return c
}

func BenchmarkProxyConnect(b *testing.B) {
	p := benchProxy(b, func(c net.Conn) { io.WriteString(c, "x") })
	b.ReportAllocs()
	for b.Loop() {
		c := dialPort(b, p)
		io.ReadAll(c)
		c.Close()
	}
}

func BenchmarkProxyThroughput(b *testing.B) {
	data := make([]byte, 256<<10)
	p := benchProxy(b, func(c net.Conn) {
		for {
			if _, err := c.Write(data); err != nil {
				return
			}
		}
	})
	c := dialPort(b, p)
	defer c.Close()
	b.SetBytes(int64(len(data)))
	got := make([]byte, len(data))
	for b.Loop() {
		if _, err := io.ReadFull(c, got); err != nil {
			b.Fatal(err)
		}
	}
}
