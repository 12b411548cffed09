package process

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"unsafe"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"cooper/run/internal/network/uplink"
)

// Link addresses of the interface and of the stack. They are known to both, so that
// nobody has to ask.
var (
	interfaceMAC = net.HardwareAddr{0x02, 'c', 'o', 'o', 'p', 1}
	stackMAC     = net.HardwareAddr{0x02, 'c', 'o', 'o', 'p', 2}
)

// newNamespace makes the network namespace for bridges with an interface towards
// the outside, and returns the other end of that, a descriptor from open.
func newNamespace(open func(ns *os.File) (int, error)) (ns *os.File, l *link, err error) {
	err = onThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("make network namespace: %w", os.NewSyscallError("unshare", err))
		}
		if ns, err = os.Open("/proc/thread-self/ns/net"); err != nil {
			return err
		}
		l, err = connect(ns, open)
		return err
	})
	return ns, l, err
}

// adoptNamespace does the same in a namespace that an earlier process has made.
func adoptNamespace(ns *os.File, open func(ns *os.File) (int, error)) (l *link, err error) {
	err = onThread(func() error {
		if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("enter network namespace: %w", os.NewSyscallError("setns", err))
		}
		// The kernel may not have come round to it yet.
		if old, err := netlink.LinkByName(uplink.Interface); err == nil {
			_ = netlink.LinkDel(old)
		}
		l, err = connect(ns, open)
		return err
	})
	return l, err
}

// onThread calls f on a thread that ends with the call.
func onThread(f func() error) (err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // for ever: the runtime ends the thread
		err = f()
	}()
	<-done
	return err
}

// connect makes the interface in the calling thread's namespace ns.
func connect(ns *os.File, open func(ns *os.File) (int, error)) (*link, error) {
	fd, err := open(ns)
	if err != nil {
		return nil, err
	}
	l, err := newLink(fd)
	if err != nil {
		return nil, err
	}
	return l, configure()
}

// openDevice makes the interface in the calling thread's namespace ns: a tap, or a
// veth where /dev/net/tun is not for users. The tap is faster towards containers and
// needs no second namespace.
func openDevice(ns *os.File) (int, error) {
	fd, tapErr := openTap(ns)
	if tapErr == nil {
		return fd, nil
	}
	fd, err := openVeth(ns)
	if err != nil {
		return -1, fmt.Errorf("connect network namespace: %w (and a tap: %w)", err, tapErr)
	}
	return fd, nil
}

// tapRequest is struct ifreq for TUNSETIFF.
type tapRequest struct {
	name  [unix.IFNAMSIZ]byte
	flags uint16
	_     [22]byte
}

func openTap(*os.File) (int, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return -1, fmt.Errorf("open /dev/net/tun: %w", err)
	}
	r := tapRequest{flags: unix.IFF_TAP | unix.IFF_NO_PI | unix.IFF_VNET_HDR}
	copy(r.name[:], uplink.Interface)
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.TUNSETIFF, uintptr(unsafe.Pointer(&r))); errno != 0 {
		unix.Close(fd)
		return -1, os.NewSyscallError("ioctl(TUNSETIFF)", errno)
	}
	// The kernel may leave checksums and segmentation of TCP to us.
	if err := unix.IoctlSetInt(fd, unix.TUNSETOFFLOAD, unix.TUN_F_CSUM|unix.TUN_F_TSO4|unix.TUN_F_TSO6); err != nil {
		unix.Close(fd)
		return -1, os.NewSyscallError("ioctl(TUNSETOFFLOAD)", err)
	}
	return fd, nil
}

// openVeth makes the interface one end of a veth pair and returns a packet socket on
// the other, which is alone in a namespace that lives as long as the socket.
func openVeth(ns *os.File) (int, error) {
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return -1, os.NewSyscallError("unshare", err)
	}
	const name = "packets"
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU = name, uplink.MTU
	veth := &netlink.Veth{LinkAttrs: attrs, PeerName: uplink.Interface, PeerNamespace: netlink.NsFd(ns.Fd())}
	if err := netlink.LinkAdd(veth); err != nil {
		return -1, fmt.Errorf("make veth: %w", err)
	}
	end, err := netlink.LinkByName(name)
	if err != nil {
		return -1, err
	}
	if err := netlink.LinkSetUp(end); err != nil {
		return -1, err
	}
	fd, err := openPackets(end.Attrs().Index)
	if err != nil {
		return -1, err
	}
	return fd, os.NewSyscallError("setns", unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET))
}

// openPackets opens a socket for all packets of an interface that speaks of
// checksums and segmentation as a tap does.
func openPackets(index int) (int, error) {
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return -1, os.NewSyscallError("socket(AF_PACKET)", err)
	}
	// The queue is passed by: it would drop packets until the kernel has come round
	// to noticing that the interface is up.
	for _, option := range []int{unix.PACKET_VNET_HDR, unix.PACKET_IGNORE_OUTGOING, unix.PACKET_QDISC_BYPASS} {
		if err := unix.SetsockoptInt(fd, unix.SOL_PACKET, option, 1); err != nil {
			unix.Close(fd)
			return -1, os.NewSyscallError("setsockopt(SOL_PACKET)", err)
		}
	}
	for _, option := range []int{unix.SO_RCVBUF, unix.SO_SNDBUF} {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, option, 8<<20) // as much as allowed
	}
	const all = uint16(unix.ETH_P_ALL)<<8&0xff00 | uint16(unix.ETH_P_ALL)>>8 // in network order
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: index}); err != nil {
		unix.Close(fd)
		return -1, os.NewSyscallError("bind(AF_PACKET)", err)
	}
	return fd, nil
}

// configure gives the interface in the calling thread's namespace its addresses,
// and lets packets be forwarded to it.
func configure() error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	out, err := netlink.LinkByName(uplink.Interface)
	if err != nil {
		return err
	}
	for _, err := range []error{
		netlink.LinkSetUp(lo),
		netlink.LinkSetHardwareAddr(out, interfaceMAC),
		netlink.LinkSetMTU(out, uplink.MTU),
		netlink.LinkSetUp(out),
		addRoute(out, uplink.Address, uplink.Gateway),
		forward(out),
	} {
		if err != nil {
			return fmt.Errorf("set up interface: %w", err)
		}
	}
	_ = addRoute(out, uplink.Address6, uplink.Gateway6) // there may be no IPv6
	return nil
}

// forward has packets that come in by the interface forwarded to bridges, and the
// other way round, as far as that can be said for all interfaces: see uplink.Forward.
func forward(out netlink.Link) error {
	err := os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0)
	if err != nil {
		err = uplink.Forward(out.Attrs().Index)
	}
	_ = os.WriteFile("/proc/sys/net/ipv6/conf/all/forwarding", []byte("1"), 0) // there may be no IPv6
	return err
}

// addRoute makes gateway, which is beside address on the interface, the default route.
func addRoute(out netlink.Link, address netip.Prefix, gateway netip.Addr) error {
	index := out.Attrs().Index
	ip := net.IP(gateway.AsSlice())
	onLink := &net.IPNet{IP: address.Addr().AsSlice(), Mask: net.CIDRMask(address.Bits(), address.Addr().BitLen())}
	flags := 0
	if gateway.Is6() {
		flags = unix.IFA_F_NODAD
	}
	if err := netlink.AddrAdd(out, &netlink.Addr{IPNet: onLink, Flags: flags}); err != nil {
		return err
	}
	neighbour := &netlink.Neigh{LinkIndex: index, IP: ip, HardwareAddr: stackMAC, State: netlink.NUD_PERMANENT}
	if err := netlink.NeighSet(neighbour); err != nil {
		return err
	}
	return netlink.RouteAdd(&netlink.Route{LinkIndex: index, Gw: ip})
}
