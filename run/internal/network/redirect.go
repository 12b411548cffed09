package network

import (
	"encoding/binary"
	"fmt"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// redirect leads 127.0.0.11:53 of the calling thread's network namespace to the ports
// where a container's name server really is, so that the container can have port 53
// itself. In nft's language:
//
//	table ip cooper {
//		chain names {
//			type filter hook output priority mangle
//			ip daddr 127.0.0.11 udp dport 53 udp dport set UDP
//			ip saddr 127.0.0.11 udp sport UDP udp sport set 53
//			and the same for tcp
//		}
//	}
//
// No connection is tracked for that: tracking would cost every packet of the
// container something.
func redirect(udp, tcp uint16) error {
	conn, err := nftables.New(nftables.AsLasting())
	if err != nil {
		return fmt.Errorf("nftables: %w", err)
	}
	defer conn.CloseLasting()
	t := conn.AddTable(&nftables.Table{Name: tableName, Family: nftables.TableFamilyIPv4})
	chain := conn.AddChain(&nftables.Chain{
		Table: t, Name: "names", Type: nftables.ChainTypeFilter,
		Hooknum: nftables.ChainHookOutput, Priority: nftables.ChainPriorityMangle,
	})
	const dns = 53
	for _, r := range []rewrite{
		{unix.IPPROTO_UDP, destinationSide, dns, udp},
		{unix.IPPROTO_UDP, sourceSide, udp, dns},
		{unix.IPPROTO_TCP, destinationSide, dns, tcp},
		{unix.IPPROTO_TCP, sourceSide, tcp, dns},
	} {
		conn.AddRule(&nftables.Rule{Table: t, Chain: chain, Exprs: r.exprs()})
	}
	if err := conn.Flush(); err != nil {
		return fmt.Errorf("redirect name server's port: %w", err)
	}
	return nil
}

// side is the source or the destination of a packet.
type side struct {
	// address and port are offsets in the network and transport headers.
	address, port uint32
}

var (
	sourceSide      = side{address: 12, port: 0}
	destinationSide = side{address: 16, port: 2}
)

// rewrite changes one port of the name server's packets.
type rewrite struct {
	protocol byte
	side     side
	from, to uint16
}

func (r rewrite) exprs() []expr.Any {
	checksum := uint32(6) // where it is in the header
	if r.protocol == unix.IPPROTO_TCP {
		checksum = 16
	}
	server := nameServerAddress.As4()
	return []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: r.side.address, Len: 4},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: server[:]},
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{r.protocol}},
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: r.side.port, Len: 2},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binary.BigEndian.AppendUint16(nil, r.from)},
		&expr.Immediate{Register: 1, Data: binary.BigEndian.AppendUint16(nil, r.to)},
		&expr.Payload{
			OperationType: expr.PayloadWrite, SourceRegister: 1, Base: expr.PayloadBaseTransportHeader,
			Offset: r.side.port, Len: 2, CsumType: expr.CsumTypeInet, CsumOffset: checksum,
		},
	}
}
