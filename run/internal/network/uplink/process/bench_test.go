package process

import (
	"io"
	"net"
	"os"
	"testing"
	"time"
)

// benchmarkDevices runs a benchmark with a namespace for every kind of interface.
func benchmarkDevices(b *testing.B, f func(b *testing.B, in *inside)) {
	for name, open := range map[string]func(*os.File) (int, error){"tap": openTap, "veth": openVeth} {
		b.Run(name, func(b *testing.B) { f(b, newInside(b, open)) })
	}
}

// piece is what is sent at once.
const piece = 128 << 10

func BenchmarkUp(b *testing.B) {
	benchmarkDevices(b, func(b *testing.B, in *inside) {
		received := make(chan int64)
		at := serveTCP(b, machine4, func(c *net.TCPConn) {
			n, _ := io.Copy(io.Discard, struct{ io.Reader }{c})
			received <- n
		})
		c, err := in.dial("tcp", at.String())
		if err != nil {
			b.Fatal(err)
		}
		c.SetDeadline(time.Time{})
		b.SetBytes(piece)
		data := make([]byte, piece)
		for b.Loop() {
			c.Write(data)
		}
		c.Close()
		if got, want := <-received, int64(b.N)*piece; got != want {
			b.Errorf("%d bytes arrived, want %d", got, want)
		}
	})
}

func BenchmarkDown(b *testing.B) {
	benchmarkDevices(b, func(b *testing.B, in *inside) {
		at := serveTCP(b, machine4, func(c *net.TCPConn) {
			data := make([]byte, piece)
			for {
				if _, err := c.Write(data); err != nil {
					return
				}
			}
		})
		c, err := in.dial("tcp", at.String())
		if err != nil {
			b.Fatal(err)
		}
		c.SetDeadline(time.Time{})
		b.SetBytes(piece)
		data := make([]byte, piece)
		for b.Loop() {
			if _, err := io.ReadFull(c, data); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkConnect(b *testing.B) {
	benchmarkDevices(b, func(b *testing.B, in *inside) {
		at := serveTCP(b, machine4, func(c *net.TCPConn) { io.WriteString(c, "x") })
		in.do(func() {
			for b.Loop() {
				c, err := net.Dial("tcp", at.String())
				if err != nil {
					b.Error(err)
					return
				}
				c.Read(make([]byte, 1))
				c.Close()
			}
		})
	})
}
