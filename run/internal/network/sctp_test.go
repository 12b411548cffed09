package network

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"net"
	"net/netip"
	"os"
	"slices"
	"testing"
	"time"
)

func TestReserveSCTP(t *testing.T) {
	one, two := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	sctp := func(host netip.Addr, port, last uint16) Port {
		return Port{HostIP: host, HostPort: port, HostPortLast: last, ContainerPort: 9, Protocol: "sctp"}
	}
	others := []*lease{
		{Ports: []Port{sctp(netip.Addr{}, 5000, 0), sctp(one, 5001, 0), {HostPort: 5002, Protocol: "tcp"}}},
		{Ports: []Port{sctp(netip.IPv6Unspecified(), 5003, 0)}},
	}
	for _, c := range []struct {
		name  string
		ports []Port
		want  []uint16 // none is an error
	}{
		{"another protocol", []Port{sctp(netip.Addr{}, 5002, 0)}, []uint16{5002}},
		{"taken", []Port{sctp(netip.Addr{}, 5000, 0)}, nil},
		{"taken everywhere", []Port{sctp(one, 5000, 0)}, nil},
		{"taken somewhere", []Port{sctp(netip.IPv4Unspecified(), 5001, 0)}, nil},
		{"taken elsewhere", []Port{sctp(two, 5001, 0)}, []uint16{5001}},
		{"another family", []Port{sctp(netip.IPv4Unspecified(), 5003, 0)}, []uint16{5003}},
		{"the same family", []Port{sctp(netip.MustParseAddr("2001:db8::1"), 5003, 0)}, nil},
		{"a range", []Port{sctp(netip.Addr{}, 5000, 5004)}, []uint16{5002}},
		{"a full range", []Port{sctp(netip.Addr{}, 5000, 5001)}, nil},
		{"twice the same", []Port{sctp(one, 6000, 0), sctp(one, 6000, 0)}, nil},
		{"a range for two", []Port{sctp(one, 6000, 6001), sctp(one, 6000, 6001)}, []uint16{6000, 6001}},
		{"not ours", []Port{{HostPort: 5002, Protocol: "tcp"}, {Protocol: "udp"}}, []uint16{5002, 0}},
	} {
		got, err := reserveSCTP(c.ports, others)
		var ports []uint16
		for _, p := range got {
			ports = append(ports, p.HostPort)
		}
		if !slices.Equal(ports, c.want) || (c.want == nil) != errors.Is(err, ErrPortInUse) {
			t.Errorf("%s: %v, %v; want %v", c.name, ports, err, c.want)
		}
	}
	any, err := reserveSCTP([]Port{sctp(one, 0, 0), sctp(one, 0, 0)}, nil)
	if err != nil || any[0].HostPort < firstFree || any[0].HostPort > lastFree || any[0].HostPort == any[1].HostPort {
		t.Errorf("any free ports: %v, %v", any, err)
	}
}

// initChunk is an SCTP packet that asks for an association: a common header and
// an INIT chunk.
func initChunk(to uint16) []byte {
	b := make([]byte, 12+20)
	binary.BigEndian.PutUint16(b[0:], 4444)
	binary.BigEndian.PutUint16(b[2:], to)
	b[12], b[15] = 1, 20
	b[19], b[24], b[25], b[27], b[31] = 1, 1, 1, 1, 1
	crc := crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli))
	binary.LittleEndian.PutUint32(b[8:], crc)
	return b
}

// sends checks that what ns sends to a port of this machine comes to the container.
func sends(t *testing.T, ns *os.File, s *Sandbox, port uint16) {
	t.Helper()
	var server *net.IPConn
	must(t, within(s.in.ns, func() (err error) {
		server, err = net.ListenIP("ip4:132", nil)
		return err
	}))
	defer server.Close()
	must(t, within(ns, func() error {
		c, err := net.Dial("ip4:132", "203.0.113.1")
		if err != nil {
			return err
		}
		defer c.Close()
		_, err = c.Write(initChunk(port))
		return err
	}))
	packet := make([]byte, 100)
	server.SetReadDeadline(time.Now().Add(2 * time.Second))
	n, from, err := server.ReadFrom(packet)
	if err != nil || n != 32 || from.String() != "203.0.113.2" || binary.BigEndian.Uint16(packet[2:]) != 5001 {
		t.Errorf("to port %d: %d bytes from %v, %v: % x", port, n, from, err, packet[:n])
	}
}

// TestSCTP: packets come from the world to the container. The kernel need not know
// the protocol.
func TestSCTP(t *testing.T) {
	dir := runDirectory(t)
	outer := world(t)
	r := request(dir, "a", testNetwork(1))
	r.Ports = []Port{{HostPort: 5000, ContainerPort: 5001, Protocol: "sctp"}}
	a := setup(t, r)
	r = request(dir, "b", testNetwork(1))
	r.Ports = []Port{{HostPort: 5000, ContainerPort: 5001, Protocol: "sctp"}}
	if _, err := Setup(t.Context(), r); !errors.Is(err, ErrPortInUse) {
		t.Errorf("the same port again: %v", err)
	}
	r.Ports[0].HostPortLast = 5002
	b := setup(t, r)
	if got := b.Result().Ports[0].HostPort; got != 5001 {
		t.Errorf("the second of the range is %d", got)
	}
	sends(t, outer, a, 5000)
	sends(t, outer, b, 5001)
	// It follows the container, as others do.
	must(t, a.Connect(t.Context(), Attachment{Network: testNetwork(2)}))
	must(t, a.Disconnect(t.Context(), "net1"))
	if got := a.Result().Ports[0].HostPort; got != 5000 {
		t.Errorf("after a move the port is %d", got)
	}
	sends(t, outer, a, 5000)
	// Chosen late.
	r = request(dir, "lonely")
	r.Ports = []Port{{ContainerPort: 5001, Protocol: "sctp"}}
	lonely := setup(t, r)
	must(t, lonely.Connect(t.Context(), Attachment{Network: testNetwork(1)}))
	if got := lonely.Result().Ports; len(got) != 1 || got[0].HostPort < firstFree {
		t.Errorf("ports of a late one: %+v", got)
	}
}
