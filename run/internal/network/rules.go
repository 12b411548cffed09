package network

import (
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// addRules gathers the chains and rules of the table. In nft's language:
//
//	chain forward {
//		type filter hook forward priority filter
//		ct state established,related accept
//		iifname . oifname @pairs accept
//		iifname @inner drop
//		oifname @inner drop
//		oifname @bridges ct status dnat accept
//		oifname @bridges drop
//	}
//	chain martians {
//		type filter hook prerouting priority raw
//		iifname @bridges ip daddr 127.0.0.0/8 drop
//	}
//	chain prerouting {
//		type nat hook prerouting priority dstnat
//		ip daddr 127.0.0.0/8 return
//		fib daddr type local jump published
//	}
//	chain output {
//		type nat hook output priority dstnat
//		ip6 daddr ::1 return
//		fib daddr type local jump published
//	}
//	chain published {
//		dnat ip to ip daddr . meta l4proto . th dport map @address4
//		dnat ip to meta l4proto . th dport map @anywhere4
//		and the same for ip6
//	}
//	chain postrouting {
//		type nat hook postrouting priority srcnat
//		iifname @bridges oifname != @bridges masquerade
//		oifname @bridges ct status dnat ip saddr @subnets4 masquerade, the same for ip6
//		oifname @bridges ip saddr 127.0.0.0/8 masquerade
//	}
//
// Networks are kept apart by the forward chain, which also keeps strangers from
// ports that are not published. A published port may be reached from everywhere,
// other networks and the container itself included; so that the answer comes back
// through the host, connections of containers to it are masqueraded. (Their interface
// is not known there when br_netfilter has the bridge call these chains.) The machine's 127.0.0.1 is
// forwarded to containers (route_localnet is set on their bridges), which must not
// work in the other direction, nor for the machine's neighbours. There is no such
// thing for ::1, and where it could not be set output leaves 127.0.0.0/8 alone too:
// there the proxies serve.
func (t *table) addRules(localhost bool) {
	t.addForward()
	published := t.chain("published")
	for _, f := range []family{ip4, ip6} {
		one, any := t.address4, t.anywhere4
		if f == ip6 {
			one, any = t.address6, t.anywhere6
		}
		t.rule(published, isFamily(f), destination(f, 1), protocolAndPort(f.words()), leadTo(f, one))
		t.rule(published, isFamily(f), protocolAndPort(0), leadTo(f, any))
	}
	prerouting := t.base("prerouting", nftables.ChainTypeNAT, nftables.ChainHookPrerouting, nftables.ChainPriorityNATDest)
	t.rule(prerouting, isFamily(ip4), loopback(destination(ip4, 1)), verdict(expr.VerdictReturn))
	t.rule(prerouting, toThisHost(), jump(published))
	output := t.base("output", nftables.ChainTypeNAT, nftables.ChainHookOutput, nftables.ChainPriorityNATDest)
	t.rule(output, isFamily(ip6), destination(ip6, 1), exprs{&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: netip.IPv6Loopback().AsSlice()}}, verdict(expr.VerdictReturn))
	if !localhost {
		t.rule(output, isFamily(ip4), loopback(destination(ip4, 1)), verdict(expr.VerdictReturn))
	}
	t.rule(output, toThisHost(), jump(published))

	postrouting := t.base("postrouting", nftables.ChainTypeNAT, nftables.ChainHookPostrouting, nftables.ChainPriorityNATSource)
	masquerade := exprs{&expr.Masq{}}
	t.rule(postrouting, from(t.bridges), notTo(t.bridges), masquerade)
	t.rule(postrouting, to(t.bridges), isDNAT(), isFamily(ip4), source(ip4), in(t.subnets4), masquerade)
	t.rule(postrouting, to(t.bridges), isDNAT(), isFamily(ip6), source(ip6), in(t.subnets6), masquerade)
	t.rule(postrouting, to(t.bridges), isFamily(ip4), loopback(source(ip4)), masquerade)
}

func (t *table) addForward() {
	forward := t.base("forward", nftables.ChainTypeFilter, nftables.ChainHookForward, nftables.ChainPriorityFilter)
	accept, drop := verdict(expr.VerdictAccept), verdict(expr.VerdictDrop)
	t.rule(forward, isEstablished(), accept)
	t.rule(forward, exprs{
		&expr.Meta{Key: expr.MetaKeyIIFNAME, Register: 1},
		&expr.Meta{Key: expr.MetaKeyOIFNAME, Register: 2},
		&expr.Lookup{SourceRegister: 1, SetName: t.pairs.Name, SetID: t.pairs.ID},
	}, accept)
	t.rule(forward, from(t.inner), drop)
	t.rule(forward, to(t.inner), drop)
	t.rule(forward, to(t.bridges), isDNAT(), accept)
	t.rule(forward, to(t.bridges), drop)
	martians := t.base("martians", nftables.ChainTypeFilter, nftables.ChainHookPrerouting, nftables.ChainPriorityRaw)
	t.rule(martians, from(t.bridges), isFamily(ip4), loopback(destination(ip4, 1)), drop)
}

// exprs are a part of a rule.
type exprs []expr.Any

// base adds a chain that the kernel calls.
func (t *table) base(name string, kind nftables.ChainType, hook *nftables.ChainHook, priority *nftables.ChainPriority) *nftables.Chain {
	return t.conn.AddChain(&nftables.Chain{Table: t.table, Name: name, Type: kind, Hooknum: hook, Priority: priority})
}

// chain adds a chain that other chains call.
func (t *table) chain(name string) *nftables.Chain {
	return t.conn.AddChain(&nftables.Chain{Table: t.table, Name: name})
}

func (t *table) rule(c *nftables.Chain, parts ...exprs) {
	var all exprs
	for _, p := range parts {
		all = append(all, p...)
	}
	t.conn.AddRule(&nftables.Rule{Table: t.table, Chain: c, Exprs: all})
}

// family is a version of the internet protocol.
type family byte

const (
	ip4 family = unix.NFPROTO_IPV4
	ip6 family = unix.NFPROTO_IPV6
)

// words is how many 32-bit registers an address takes.
func (f family) words() uint32 {
	if f == ip4 {
		return 1
	}
	return 4
}

// word is a 32-bit register: with concatenated keys, fields follow each other.
func word(i uint32) uint32 { return unix.NFT_REG32_00 + i }

func verdict(kind expr.VerdictKind) exprs { return exprs{&expr.Verdict{Kind: kind}} }

func jump(c *nftables.Chain) exprs {
	return exprs{&expr.Verdict{Kind: expr.VerdictJump, Chain: c.Name}}
}

func isFamily(f family) exprs {
	return exprs{
		&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{byte(f)}},
	}
}

// from matches what came in by an interface of s, to what leaves by one.
func from(s *nftables.Set) exprs  { return interfaceIn(expr.MetaKeyIIFNAME, s, false) }
func to(s *nftables.Set) exprs    { return interfaceIn(expr.MetaKeyOIFNAME, s, false) }
func notTo(s *nftables.Set) exprs { return interfaceIn(expr.MetaKeyOIFNAME, s, true) }

func interfaceIn(key expr.MetaKey, s *nftables.Set, not bool) exprs {
	return exprs{
		&expr.Meta{Key: key, Register: 1},
		&expr.Lookup{SourceRegister: 1, SetName: s.Name, SetID: s.ID, Invert: not},
	}
}

// destination loads the address that the packet goes to.
func destination(f family, register uint32) exprs {
	if f == ip4 {
		return exprs{&expr.Payload{DestRegister: register, Base: expr.PayloadBaseNetworkHeader, Offset: 16, Len: 4}}
	}
	return exprs{&expr.Payload{DestRegister: register, Base: expr.PayloadBaseNetworkHeader, Offset: 24, Len: 16}}
}

// source loads the address that the packet comes from.
func source(f family) exprs {
	if f == ip4 {
		return exprs{&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: 12, Len: 4}}
	}
	return exprs{&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: 8, Len: 16}}
}

// in matches what was loaded if it is in s.
func in(s *nftables.Set) exprs {
	return exprs{&expr.Lookup{SourceRegister: 1, SetName: s.Name, SetID: s.ID}}
}

// loopback matches a loaded IPv4 address in 127.0.0.0/8.
func loopback(load exprs) exprs {
	return append(load,
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: []byte{255, 0, 0, 0}, Xor: make([]byte, 4)},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{127, 0, 0, 0}})
}

func toThisHost() exprs {
	return exprs{
		&expr.Fib{Register: 1, FlagDADDR: true, ResultADDRTYPE: true},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binaryutil.NativeEndian.PutUint32(unix.RTN_LOCAL)},
	}
}

// protocolAndPort loads protocol and destination port after the words before them.
func protocolAndPort(words uint32) exprs {
	return exprs{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: word(words)},
		&expr.Payload{DestRegister: word(words + 1), Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
	}
}

// leadTo changes the destination to what s has for the key that was loaded.
func leadTo(f family, s *nftables.Set) exprs {
	return exprs{
		&expr.Lookup{SourceRegister: 1, DestRegister: 1, IsDestRegSet: true, SetName: s.Name, SetID: s.ID},
		&expr.NAT{Type: expr.NATTypeDestNAT, Family: uint32(f), RegAddrMin: 1, RegProtoMin: word(f.words())},
	}
}

// isEstablished matches packets of connections that have been accepted, and errors
// about them.
func isEstablished() exprs {
	return ctBits(expr.CtKeySTATE, expr.CtStateBitESTABLISHED|expr.CtStateBitRELATED)
}

// isDNAT matches connections whose destination was changed.
func isDNAT() exprs {
	const statusDNAT = 1 << 5 // IPS_DST_NAT
	return ctBits(expr.CtKeySTATUS, statusDNAT)
}

func ctBits(key expr.CtKey, bits uint32) exprs {
	return exprs{
		&expr.Ct{Key: key, Register: 1},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: binaryutil.NativeEndian.PutUint32(bits), Xor: make([]byte, 4)},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: make([]byte, 4)},
	}
}
