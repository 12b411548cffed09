package network

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// A user's proxies connect to containers from the addresses of their clients, so that
// the container sees who it speaks with. In the namespace of the bridges, where the
// user is root, a socket may have any address (IP_TRANSPARENT). The container's
// answers go to the client by way of its gateway, and there they have to be kept: in
// nft's language and that of ip,
//
//	table inet cooper-clients {
//		chain answers {
//			type filter hook prerouting priority mangle
//			socket transparent 1 meta mark set MARK
//		}
//	}
//	ip rule add fwmark MARK lookup TABLE
//	ip route add local default dev lo table TABLE
//
// and the same for IPv6. Nobody else uses that namespace, and all of it ends with it.
const (
	clientsTable = "cooper-clients"
	clientsMark  = 0xc00be7
	clientsRoute = 1105
)

// keepAnswers prepares the namespace of the calling thread. It may be done again, and
// by several processes at once.
func keepAnswers() error {
	if answersKept() {
		return nil
	}
	if err := markAnswers(); err != nil {
		return err
	}
	var errs []error
	for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
		errs = append(errs, routeAnswers(family))
	}
	if errs[0] != nil {
		return fmt.Errorf("keep answers to clients: %w", errs[0])
	}
	return nil // there may be no IPv6
}

// answersKept reports whether the last step has been done.
func answersKept() bool {
	rules, err := netlink.RuleList(unix.AF_INET)
	for _, r := range rules {
		if r.Mark == clientsMark {
			return err == nil
		}
	}
	return false
}

func markAnswers() error {
	conn, err := nftables.New(nftables.AsLasting())
	if err != nil {
		return fmt.Errorf("nftables: %w", err)
	}
	defer conn.CloseLasting()
	t := conn.AddTable(&nftables.Table{Name: clientsTable, Family: nftables.TableFamilyINet})
	chain := conn.AddChain(&nftables.Chain{
		Table: t, Name: "answers", Type: nftables.ChainTypeFilter,
		Hooknum: nftables.ChainHookPrerouting, Priority: nftables.ChainPriorityMangle,
	})
	conn.FlushChain(chain)
	conn.AddRule(&nftables.Rule{Table: t, Chain: chain, Exprs: []expr.Any{
		&expr.Socket{Key: expr.SocketKeyTransparent, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{1}},
		&expr.Immediate{Register: 1, Data: binary.NativeEndian.AppendUint32(nil, clientsMark)},
		&expr.Meta{Key: expr.MetaKeyMARK, SourceRegister: true, Register: 1},
	}})
	if err := conn.Flush(); err != nil {
		return fmt.Errorf("mark answers to clients: %w", err)
	}
	return nil
}

// routeAnswers has marked packets delivered here, whoever they are for.
func routeAnswers(family int) error {
	everywhere := netip.PrefixFrom(netip.IPv4Unspecified(), 0)
	if family == unix.AF_INET6 {
		everywhere = netip.PrefixFrom(netip.IPv6Unspecified(), 0)
	}
	const loopback = 1
	err := netlink.RouteReplace(&netlink.Route{
		LinkIndex: loopback, Table: clientsRoute, Type: unix.RTN_LOCAL, Scope: netlink.SCOPE_HOST, Dst: ipNet(everywhere),
	})
	if err != nil {
		return err
	}
	r := netlink.NewRule()
	r.Family, r.Mark, r.Table = family, clientsMark, clientsRoute
	if err := netlink.RuleAdd(r); !errors.Is(err, unix.EEXIST) {
		return err
	}
	return nil
}

// forClients lets sockets of s have the addresses of clients that near does not
// report: those that the container reaches without its gateway, or not at all.
func (s *sockets) forClients(ns *os.File, near func(netip.Addr) bool) {
	if within(ns, keepAnswers) == nil { // else the container sees its gateway
		s.near = near
	}
}

// canSpeakFor reports whether a socket to a container can have the client's address.
func (s *sockets) canSpeakFor(client, container netip.Addr) bool {
	return s != nil && s.near != nil && client.IsGlobalUnicast() && client.Is4() == container.Is4() && !s.near(client)
}

// speakFor gives a socket that is not connected the address of a client. Port 0 is
// any free one.
func speakFor(fd, kind int, client netip.AddrPort) error {
	level, transparent := unix.IPPROTO_IP, unix.IP_TRANSPARENT
	if client.Addr().Is6() {
		level, transparent = unix.IPPROTO_IPV6, unix.IPV6_TRANSPARENT
	}
	if err := unix.SetsockoptInt(fd, level, transparent, 1); err != nil {
		return os.NewSyscallError("setsockopt(IP_TRANSPARENT)", err)
	}
	if kind == unix.SOCK_STREAM {
		// The client may have several connections from one port, to several ports of
		// ours: what tells them apart is known when they are connected. Datagrams
		// would all go to one socket.
		for _, o := range [][2]int{{unix.SOL_SOCKET, unix.SO_REUSEADDR}, {unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT}} {
			if err := unix.SetsockoptInt(fd, o[0], o[1], 1); err != nil {
				return os.NewSyscallError("setsockopt", err)
			}
		}
	}
	_, address := socketAddress(client)
	return os.NewSyscallError("bind", unix.Bind(fd, address))
}
