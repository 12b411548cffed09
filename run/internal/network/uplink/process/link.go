package process

import (
	"encoding/binary"
	"errors"
	"os"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// link is the interface's other end, a tap or a packet socket, as a link endpoint
// of the stack. Frames of both have a virtio_net_hdr in front, through which the
// kernel hands over TCP segments of up to 64 KiB, with checksums left to whoever
// puts them on a wire: here nobody does.
type link struct {
	file *os.File
	raw  syscall.RawConn
	// intercept sees each packet first and reports whether it has dealt with it.
	intercept func(protocol tcpip.NetworkProtocolNumber, packet []byte) bool

	attached atomic.Bool
}

func newLink(fd int) (*link, error) {
	f := os.NewFile(uintptr(fd), "interface")
	raw, err := f.SyscallConn()
	return &link{file: f, raw: raw}, err
}

const (
	// vnetSize is the length of struct virtio_net_hdr.
	vnetSize     = 10
	ethernetSize = header.EthernetMinimumSize
	frameHeader  = vnetSize + ethernetSize
	// frameSize is the longest frame.
	frameSize = frameHeader + 64<<10
	// gsoSize is how much of a TCP stream the kernel takes in one segment,
	// headers included.
	gsoSize = 65000
)

// Fields of struct virtio_net_hdr, from linux/virtio_net.h.
const (
	vnetNeedsChecksum = 1
	vnetTCP4          = 1
	vnetTCP6          = 4
	vnetUDP           = 5
)

// Attach starts to hand packets to the stack.
func (l *link) Attach(d stack.NetworkDispatcher) {
	l.attached.Store(d != nil)
	if d != nil {
		go l.receive(d)
	}
}

func (l *link) receive(d stack.NetworkDispatcher) {
	frame := make([]byte, frameSize)
	for {
		n, err := l.file.Read(frame)
		if err != nil {
			return // the namespace's end is this process's
		}
		if n < frameHeader {
			continue
		}
		ethernet := header.Ethernet(frame[vnetSize:frameHeader])
		for packet := range datagrams(frame[:vnetSize], frame[frameHeader:n]) {
			l.deliver(d, ethernet.Type(), packet)
		}
	}
}

func (l *link) deliver(d stack.NetworkDispatcher, protocol tcpip.NetworkProtocolNumber, packet []byte) {
	if l.intercept != nil && l.intercept(protocol, packet) {
		return
	}
	p := stack.NewPacketBuffer(stack.PacketBufferOptions{
		Payload: buffer.MakeWithView(buffer.NewViewWithData(packet)),
	})
	defer p.DecRef()
	p.RXChecksumValidated = true // the kernel's side of the link loses nothing
	d.DeliverNetworkPacket(protocol, p)
}

// datagrams yields the packets of a frame: one, unless it holds several datagrams of
// a UDP flow that the sender handed to its kernel at once (UDP_SEGMENT).
func datagrams(vnet, packet []byte) func(func([]byte) bool) {
	return func(yield func([]byte) bool) {
		size := int(binary.NativeEndian.Uint16(vnet[4:]))
		ip, udp := udpHeaders(packet)
		if vnet[1]&^0x80 != vnetUDP || size == 0 || udp == 0 {
			yield(packet)
			return
		}
		for data := packet[udp+header.UDPMinimumSize:]; len(data) > 0; {
			n := min(size, len(data))
			one := make([]byte, 0, udp+header.UDPMinimumSize+n)
			one = append(append(one, packet[:udp+header.UDPMinimumSize]...), data[:n]...)
			header.UDP(one[udp:]).SetLength(uint16(header.UDPMinimumSize + n))
			if ip == header.IPv4Version {
				h := header.IPv4(one)
				h.SetTotalLength(uint16(len(one)))
				h.SetChecksum(0)
				h.SetChecksum(^h.CalculateChecksum())
			} else {
				header.IPv6(one).SetPayloadLength(uint16(len(one) - header.IPv6MinimumSize))
			}
			if !yield(one) {
				return
			}
			data = data[n:]
		}
	}
}

// udpHeaders returns the IP version of a UDP packet and where its UDP header is; 0
// if it is something else.
func udpHeaders(packet []byte) (version, offset int) {
	switch version = header.IPVersion(packet); version {
	case header.IPv4Version:
		if h := header.IPv4(packet); h.IsValid(len(packet)) && h.TransportProtocol() == header.UDPProtocolNumber {
			offset = int(h.HeaderLength())
		}
	case header.IPv6Version:
		if h := header.IPv6(packet); h.IsValid(len(packet)) && h.TransportProtocol() == header.UDPProtocolNumber {
			offset = header.IPv6MinimumSize
		}
	}
	if offset+header.UDPMinimumSize > len(packet) {
		offset = 0
	}
	return version, offset
}

// WritePackets hands packets of the stack to the interface.
func (l *link) WritePackets(packets stack.PacketBufferList) (int, tcpip.Error) {
	for i, p := range packets.AsSlice() {
		var h [frameHeader]byte
		describe(&h, p)
		if err := l.write(append([][]byte{h[:]}, p.AsSlices()...)); err != nil {
			return i, &tcpip.ErrAborted{}
		}
	}
	return packets.Len(), nil
}

// describe fills the headers of the frame that p goes in.
func describe(h *[frameHeader]byte, p *stack.PacketBuffer) {
	if g := p.GSOOptions; g.Type != stack.GSONone {
		if g.NeedsCsum {
			h[0] = vnetNeedsChecksum
			binary.NativeEndian.PutUint16(h[6:], ethernetSize+g.L3HdrLen)
			binary.NativeEndian.PutUint16(h[8:], g.CsumOffset)
		}
		if p.Data().Size() > int(g.MSS) {
			h[1] = vnetTCP4
			if g.Type == stack.GSOTCPv6 {
				h[1] = vnetTCP6
			}
			binary.NativeEndian.PutUint16(h[2:], uint16(ethernetSize+p.HeaderSize()))
			binary.NativeEndian.PutUint16(h[4:], g.MSS)
		}
	}
	address(h[vnetSize:], p.NetworkProtocolNumber)
}

func address(b []byte, protocol tcpip.NetworkProtocolNumber) {
	header.Ethernet(b).Encode(&header.EthernetFields{
		SrcAddr: tcpip.LinkAddress(stackMAC),
		DstAddr: tcpip.LinkAddress(interfaceMAC),
		Type:    protocol,
	})
}

// send hands one packet, not of the stack, to the interface.
func (l *link) send(protocol tcpip.NetworkProtocolNumber, packet []byte) {
	var h [frameHeader]byte
	address(h[vnetSize:], protocol)
	l.write([][]byte{h[:], packet}) // as on any network it may be lost
}

func (l *link) write(parts [][]byte) error {
	var failure error
	err := l.raw.Write(func(fd uintptr) bool {
		_, failure = unix.Writev(int(fd), parts)
		for failure == unix.EINTR {
			_, failure = unix.Writev(int(fd), parts)
		}
		return failure != unix.EAGAIN // the socket's buffer is full
	})
	if failure == unix.ENOBUFS {
		failure = nil // lost
	}
	return errors.Join(err, failure)
}

// The rest describes the link to the stack.

func (l *link) MTU() uint32             { return mtu }
func (l *link) SetMTU(uint32)           {}
func (l *link) MaxHeaderLength() uint16 { return 0 }

func (l *link) LinkAddress() tcpip.LinkAddress       { return tcpip.LinkAddress(stackMAC) }
func (l *link) SetLinkAddress(tcpip.LinkAddress)     {}
func (l *link) IsAttached() bool                     { return l.attached.Load() }
func (l *link) Wait()                                {}
func (l *link) Close()                               {}
func (l *link) SetOnCloseAction(func())              {}
func (l *link) AddHeader(*stack.PacketBuffer)        {}
func (l *link) ParseHeader(*stack.PacketBuffer) bool { return true }

func (l *link) ARPHardwareType() header.ARPHardwareType { return header.ARPHardwareNone }

// Capabilities says that received checksums are right. It does not say the same of
// sent ones: the stack would then leave those of unsegmented packets out, and not
// mark them.
func (l *link) Capabilities() stack.LinkEndpointCapabilities {
	return stack.CapabilityRXChecksumOffload
}

// GSOMaxSize and SupportedGSO make the stack send long TCP segments.
func (l *link) GSOMaxSize() uint32               { return gsoSize }
func (l *link) SupportedGSO() stack.SupportedGSO { return stack.HostGSOSupported }
