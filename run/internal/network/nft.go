package network

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"golang.org/x/sys/unix"
)

// The table is made whole, with all chains and rules, see rules.go. What differs
// from one network and container to the next are elements of its sets:
//
//	bridges             the networks' bridges
//	inner               bridges of internal networks
//	pairs               each bridge with itself
//	subnets4, 6         the networks' subnets
//	anywhere4, 6        protocol and port -> container's address and port
//	address4, 6         host address, protocol and port -> the same
//
// so that a container with published ports costs one small transaction, and one
// without none.
const tableName = "cooper"

// table is the nft table of one network namespace.
type table struct {
	conn  *nftables.Conn
	table *nftables.Table

	bridges, inner, pairs, subnets4, subnets6 *nftables.Set
	anywhere4, anywhere6, address4, address6  *nftables.Set
}

// openTable prepares to work on the table of namespace ns, nil meaning the caller's
// own. Nothing is sent yet.
func openTable(ns *os.File) (*table, error) {
	var conn *nftables.Conn
	// Not with the library's way into a namespace: it returns, and a user may not
	// return to the machine's.
	err := within(ns, func() (err error) {
		conn, err = nftables.New(nftables.AsLasting())
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("nftables: %w", err)
	}
	t := &table{conn: conn, table: &nftables.Table{Name: tableName, Family: nftables.TableFamilyINet}}
	to4 := nftables.MustConcatSetType(nftables.TypeIPAddr, nftables.TypeInetService)
	to6 := nftables.MustConcatSetType(nftables.TypeIP6Addr, nftables.TypeInetService)
	set := func(name string, key nftables.SetDatatype) *nftables.Set {
		return &nftables.Set{Table: t.table, Name: name, KeyType: key, KeyByteOrder: binaryutil.BigEndian}
	}
	mapping := func(name string, to nftables.SetDatatype, key ...nftables.SetDatatype) *nftables.Set {
		s := set(name, nftables.MustConcatSetType(key...))
		s.IsMap, s.Concatenation, s.DataType = true, true, to
		return s
	}
	t.bridges, t.inner = set("bridges", nftables.TypeIFName), set("inner", nftables.TypeIFName)
	t.bridges.KeyByteOrder, t.inner.KeyByteOrder = binaryutil.NativeEndian, binaryutil.NativeEndian
	t.pairs = set("pairs", nftables.MustConcatSetType(nftables.TypeIFName, nftables.TypeIFName))
	t.pairs.Concatenation = true
	t.subnets4, t.subnets6 = set("subnets4", nftables.TypeIPAddr), set("subnets6", nftables.TypeIP6Addr)
	t.subnets4.Interval, t.subnets6.Interval = true, true
	t.anywhere4 = mapping("anywhere4", to4, nftables.TypeInetProto, nftables.TypeInetService)
	t.anywhere6 = mapping("anywhere6", to6, nftables.TypeInetProto, nftables.TypeInetService)
	t.address4 = mapping("address4", to4, nftables.TypeIPAddr, nftables.TypeInetProto, nftables.TypeInetService)
	t.address6 = mapping("address6", to6, nftables.TypeIP6Addr, nftables.TypeInetProto, nftables.TypeInetService)
	return t, nil
}

func (t *table) sets() []*nftables.Set {
	return []*nftables.Set{t.bridges, t.inner, t.pairs, t.subnets4, t.subnets6, t.anywhere4, t.anywhere6, t.address4, t.address6}
}

func (t *table) Close() error { return t.conn.CloseLasting() }

// exists reports whether the table is there: reloading the host's firewall may have
// removed it.
func (t *table) exists() (bool, error) {
	tables, err := t.conn.ListTablesOfFamily(nftables.TableFamilyINet)
	if err != nil {
		return false, fmt.Errorf("list nft tables: %w", err)
	}
	return slices.ContainsFunc(tables, func(o *nftables.Table) bool { return o.Name == tableName }), nil
}

// has reports whether a chain is in the table.
func (t *table) has(c *nftables.Chain) bool {
	return c.Table.Name == tableName && c.Table.Family == nftables.TableFamilyINet
}

// make makes the table with what the leases need. localhost says whether the machine's
// 127.0.0.1 can be led to containers.
func (t *table) make(localhost bool, leases []*lease) error {
	t.conn.AddTable(t.table)
	for _, s := range t.sets() {
		if err := t.conn.AddSet(s, nil); err != nil {
			return fmt.Errorf("nft set %s: %w", s.Name, err)
		}
	}
	t.addRules(localhost)
	seen := map[string]bool{}
	for _, l := range leases {
		for _, p := range l.Places {
			if !seen[p.Network.Bridge] {
				seen[p.Network.Bridge] = true
				t.addNetwork(&p.Network)
			}
		}
		t.gatherPorts(l.Ports, l.target())
	}
	return t.flush("make nft table cooper")
}

// remove removes the table. It is no error when it is not there.
func (t *table) remove() error {
	t.conn.DelTable(t.table)
	err := t.flush("remove nft table cooper")
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	return err
}

// flush sends what has been gathered as one transaction.
func (t *table) flush(what string) error {
	if err := t.conn.Flush(); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

// addNetwork gathers the elements of a network.
func (t *table) addNetwork(n *Network) {
	for _, e := range t.networkElements(n) {
		t.conn.SetAddElements(e.set, e.elements) // fails for anonymous sets only
	}
}

// removeNetwork removes the elements of a network. It is no error when they are not
// there.
func (t *table) removeNetwork(n *Network) error {
	return t.removeElements(t.networkElements(n))
}

func (t *table) networkElements(n *Network) []element {
	name := ifname(n.Bridge)
	all := []element{
		{t.bridges, []nftables.SetElement{{Key: name}}},
		{t.pairs, []nftables.SetElement{{Key: append(slices.Clone(name), name...)}}},
	}
	if n.Internal {
		all = append(all, element{t.inner, []nftables.SetElement{{Key: name}}})
	}
	for s, p := range map[*nftables.Set]netip.Prefix{t.subnets4: n.Subnet, t.subnets6: n.Subnet6} {
		if p.IsValid() {
			all = append(all, element{s, []nftables.SetElement{
				{Key: p.Masked().Addr().AsSlice()},
				{Key: lastAddress(p).Next().AsSlice(), IntervalEnd: true},
			}})
		}
	}
	return all
}

// element is an element, or the two ends of an interval, and the set it is in.
type element struct {
	set      *nftables.Set
	elements []nftables.SetElement
}

// removeElements removes those elements that are there.
func (t *table) removeElements(all []element) error {
	if len(all) == 0 {
		return nil
	}
	for _, e := range all {
		t.conn.SetDeleteElements(e.set, e.elements) // fails for anonymous sets only
	}
	err := t.flush("remove from nft table")
	if !errors.Is(err, unix.ENOENT) {
		return err
	}
	if len(all) == 1 {
		return nil
	}
	// The kernel does all or nothing: one by one then.
	var errs []error
	for _, e := range all {
		errs = append(errs, t.removeElements([]element{e}))
	}
	return errors.Join(errs...)
}

// ifname is an interface's name as nft compares it.
func ifname(name string) []byte {
	b := make([]byte, unix.IFNAMSIZ)
	copy(b, name)
	return b
}

// addPorts leads ports to a container.
func (t *table) addPorts(ports []Port, to target) error {
	t.gatherPorts(ports, to)
	err := t.flush("publish ports")
	if !errors.Is(err, unix.EBUSY) && !errors.Is(err, unix.EEXIST) { // which one depends on the kernel
		return err
	}
	// Some key leads elsewhere. Who can take a port knows that nobody has it: a
	// killed monitor's container had.
	if err := t.removePorts(ports, to); err != nil {
		return err
	}
	t.gatherPorts(ports, to)
	return t.flush("publish ports")
}

// gatherPorts gathers the elements that lead ports to a container.
func (t *table) gatherPorts(ports []Port, to target) {
	for _, p := range ports {
		for _, e := range t.portElements(p, to) {
			t.conn.SetAddElements(e.set, e.elements) // fails for anonymous sets only
		}
	}
}

// removePorts ends what addPorts does. It is no error when it has ended.
func (t *table) removePorts(ports []Port, to target) error {
	var all []element
	for _, p := range ports {
		all = append(all, t.portElements(p, to)...)
	}
	return t.removeElements(all)
}

// protocols are the numbers of those that can be published.
var protocols = map[string]byte{"tcp": unix.IPPROTO_TCP, "udp": unix.IPPROTO_UDP, "sctp": unix.IPPROTO_SCTP}

// portElements returns what leads p to the container: at most one element for IPv4
// and one for IPv6. What has none, IPv6 to a container without it, is proxied.
func (t *table) portElements(p Port, to target) []element {
	var all []element
	key := append(field([]byte{protocols[p.Protocol]}), field(bigEndian(p.HostPort))...)
	add := func(s *nftables.Set, a netip.Addr, host ...byte) {
		if a.IsValid() {
			value := append(a.AsSlice(), field(bigEndian(p.ContainerPort))...)
			all = append(all, element{s, []nftables.SetElement{{Key: append(host, key...), Val: value}}})
		}
	}
	host := p.HostIP.Unmap()
	switch {
	case !host.IsValid():
		add(t.anywhere4, to.IP4)
		add(t.anywhere6, to.IP6)
	case host.Is4() && host.IsUnspecified():
		add(t.anywhere4, to.IP4)
	case host.Is6() && host.IsUnspecified():
		add(t.anywhere6, to.IP6)
	case host.Is4():
		add(t.address4, to.IP4, host.AsSlice()...)
	default:
		add(t.address6, to.IP6, host.AsSlice()...)
	}
	return all
}

// field pads a part of a concatenated key to whole registers.
func field(b []byte) []byte {
	return append(b, make([]byte, (4-len(b)%4)%4)...)
}

func bigEndian(port uint16) []byte { return []byte{byte(port >> 8), byte(port)} }
