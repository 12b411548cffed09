package process

import (
	"testing"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
)

// FuzzPacket: containers may send whatever they like.
func FuzzPacket(f *testing.F) {
	ping := echo{
		protocol: header.IPv4ProtocolNumber, id: 1, seq: 2, data: []byte("data"),
		src: tcpip.AddrFrom4([4]byte{10, 0, 0, 1}), dst: tcpip.AddrFrom4([4]byte{10, 0, 0, 2}),
	}
	f.Add(make([]byte, vnetSize), toContainer(ping, echoMessage(byte(header.ICMPv4Echo), ping)))
	udp := make([]byte, header.IPv4MinimumSize+header.UDPMinimumSize+5)
	header.IPv4(udp).Encode(&header.IPv4Fields{TotalLength: uint16(len(udp)), Protocol: uint8(header.UDPProtocolNumber)})
	header.UDP(udp[header.IPv4MinimumSize:]).SetLength(header.UDPMinimumSize + 5)
	f.Add([]byte{0, vnetUDP, 0, 0, 2, 0, 0, 0, 0, 0}, udp)
	f.Add([]byte{0, vnetUDP | 0x80, 0, 0, 1, 0, 0, 0, 0, 0}, udp)
	f.Add(make([]byte, vnetSize), []byte{})
	f.Fuzz(func(t *testing.T, vnet, packet []byte) {
		if len(vnet) < vnetSize || len(packet) > 64<<10 {
			return
		}
		total, n := 0, 0
		for p := range datagrams(vnet, packet) {
			total, n = total+len(p), n+1
			for _, protocol := range []tcpip.NetworkProtocolNumber{header.IPv4ProtocolNumber, header.IPv6ProtocolNumber} {
				e, ok := parseEcho(protocol, p)
				if !ok {
					continue
				}
				if answer := prohibited(e, p); len(answer) > header.IPv6MinimumMTU {
					t.Errorf("answer of %d bytes", len(answer))
				}
				toContainer(e, echoMessage(0, e))
			}
		}
		if n == 1 && total != len(packet) {
			t.Errorf("a packet of %d bytes became one of %d", len(packet), total)
		}
	})
}
