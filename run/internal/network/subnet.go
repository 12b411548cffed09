package network

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
)

// The default network: there without having been made, and not in a file.
const (
	DefaultName   = "bridge"
	defaultBridge = "cooper0"
)

// Where subnets are chosen from: of the first pools there is one for the default
// network, of the others one for each network. Podman and docker choose theirs
// elsewhere.
var (
	defaultPools = []netip.Prefix{
		netip.MustParsePrefix("10.87.0.0/16"), netip.MustParsePrefix("10.86.0.0/16"),
		netip.MustParsePrefix("172.27.0.0/16"), netip.MustParsePrefix("192.168.216.0/21"),
	}
	pools = []netip.Prefix{
		netip.MustParsePrefix("10.90.0.0/16"), netip.MustParsePrefix("10.91.0.0/16"),
		netip.MustParsePrefix("172.28.0.0/16"), netip.MustParsePrefix("192.168.224.0/20"),
	}
)

// poolBits is the size of the subnets taken from pools.
const poolBits = 24

// Default returns the default network. Its subnet is one that the machine has no
// route to; it is kept from the first container to the last.
func Default(directory string) (Network, error) {
	d := runDir(directory)
	n := Network{Name: DefaultName, ID: BuiltInID(DefaultName), Driver: "bridge", Bridge: defaultBridge}
	if b, err := os.ReadFile(d.defaultFile()); err == nil && json.Unmarshal(b, &n.Subnet) == nil {
		n.Gateway = offset(n.Subnet, 1)
		return n, nil
	}
	taken, err := d.taken()
	if err != nil {
		return n, err
	}
	for _, p := range defaultPools {
		if !overlaps(p, taken) {
			n.Subnet, n.Gateway = p, offset(p, 1)
			return n, nil
		}
	}
	return n, errors.New("no subnet is free for the default network: make one with network create --subnet and use that")
}

// keepDefault keeps the subnet of n, if that is the default network.
func (d runDir) keepDefault(n *Network) error {
	if n.ID != BuiltInID(DefaultName) {
		return nil
	}
	if _, err := os.Stat(d.defaultFile()); err == nil {
		return nil
	}
	return writeJSON(d.defaultFile(), n.Subnet)
}

// BuiltInID is the ID of a network that is there without having been made.
func BuiltInID(name string) string {
	sum := sha256.Sum256([]byte("cooper network " + name))
	return hex.EncodeToString(sum[:])
}

func (d runDir) defaultFile() string { return filepath.Join(string(d), "default.json") }
func (d runDir) subnets() string     { return filepath.Join(string(d), "subnets") }

// Define fills in what is not given of a network: ID, bridge, subnets and gateways. A
// chosen subnet is one that nobody has: the machine has no route to it, and no
// network of ours, in whichever store, has it. file is where the network will be
// written to; as long as it is there the subnet is reserved.
func Define(directory, file string, n *Network, ipv6 bool) error {
	d := runDir(directory)
	lock, err := d.lock()
	if err != nil {
		return err
	}
	defer lock.Close()
	taken, err := d.taken()
	if err != nil {
		return err
	}
	if n.ID == "" {
		b := make([]byte, 32)
		rand.Read(b) // never fails
		n.ID = hex.EncodeToString(b)
	}
	if n.Bridge == "" {
		n.Bridge = "cooper-" + n.ID[:8]
	}
	if n.Created.IsZero() {
		n.Created = time.Now()
	}
	if !n.Subnet.IsValid() {
		if n.Subnet, err = freeSubnet(taken); err != nil {
			return err
		}
	}
	if ipv6 && !n.Subnet6.IsValid() {
		n.Subnet6 = localSubnet(n.ID)
	}
	if err := n.complete(); err != nil {
		return err
	}
	return d.reserve(file, n)
}

// complete checks the addresses of n, and chooses the gateways.
func (n *Network) complete() error {
	if n.Subnet != n.Subnet.Masked() || !n.Subnet.Addr().Is4() || n.Subnet.Bits() > 30 {
		return fmt.Errorf("invalid subnet %s: want an IPv4 network of at least four addresses, such as %s", n.Subnet, pools[0])
	}
	if n.Subnet6.IsValid() && (n.Subnet6 != n.Subnet6.Masked() || !n.Subnet6.Addr().Is6() || n.Subnet6.Bits() > 126) {
		return fmt.Errorf("invalid subnet %s: want an IPv6 network of at least four addresses", n.Subnet6)
	}
	if n.IPRange.IsValid() && (n.IPRange.Bits() < n.Subnet.Bits() || !n.Subnet.Contains(n.IPRange.Addr())) {
		return fmt.Errorf("invalid ip range %s: it is not within subnet %s", n.IPRange, n.Subnet)
	}
	if !n.Gateway.IsValid() {
		n.Gateway = offset(n.Subnet, 1)
	}
	if n.Subnet6.IsValid() && !n.Gateway6.IsValid() {
		n.Gateway6 = offset(n.Subnet6, 1)
	}
	if !n.Subnet.Contains(n.Gateway) || n.Gateway == n.Subnet.Addr() || n.Gateway == lastAddress(n.Subnet) {
		return fmt.Errorf("invalid gateway %s: it is no address of subnet %s", n.Gateway, n.Subnet)
	}
	if n.Subnet6.IsValid() && (!n.Subnet6.Contains(n.Gateway6) || n.Gateway6 == n.Subnet6.Addr()) {
		return fmt.Errorf("invalid gateway %s: it is no address of subnet %s", n.Gateway6, n.Subnet6)
	}
	return nil
}

// reserve notes that file has n's subnet.
func (d runDir) reserve(file string, n *Network) error {
	if err := os.MkdirAll(d.subnets(), 0o700); err != nil {
		return err
	}
	name := strings.ReplaceAll(n.Subnet.String(), "/", "_")
	return os.WriteFile(filepath.Join(d.subnets(), name), []byte(file), 0o600)
}

// reserved returns the subnets whose files are there, and forgets the others.
func (d runDir) reserved() ([]netip.Prefix, error) {
	entries, err := os.ReadDir(d.subnets())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var all []netip.Prefix
	for _, e := range entries {
		path := filepath.Join(d.subnets(), e.Name())
		file, err := os.ReadFile(path)
		if err == nil {
			_, err = os.Stat(string(file))
		}
		p, parseErr := netip.ParsePrefix(strings.ReplaceAll(e.Name(), "_", "/"))
		if err == nil && parseErr == nil {
			all = append(all, p)
		} else if err := os.Remove(path); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// taken returns all subnets that a new network must not overlap with.
func (d runDir) taken() ([]netip.Prefix, error) {
	all, err := d.reserved()
	if err != nil {
		return nil, err
	}
	leases, err := d.list()
	if err != nil {
		return nil, err
	}
	for _, l := range leases {
		for _, p := range l.Places {
			all = append(all, p.Network.Subnet)
		}
	}
	routes, err := netlink.RouteList(nil, netlink.FAMILY_V4)
	if err != nil {
		return nil, fmt.Errorf("list routes: %w", err)
	}
	for _, r := range routes {
		if p, ok := prefixOf(r.Dst); ok && p.Bits() > 0 {
			all = append(all, p)
		}
	}
	return all, nil
}

func overlaps(p netip.Prefix, all []netip.Prefix) bool {
	for _, other := range all {
		if p.Overlaps(other) {
			return true
		}
	}
	return false
}

// freeSubnet returns the first subnet of pools that overlaps with nothing.
func freeSubnet(taken []netip.Prefix) (netip.Prefix, error) {
	for _, pool := range pools {
		for i := range 1 << (poolBits - pool.Bits()) {
			p := netip.PrefixFrom(offset(pool, uint32(i)<<(32-poolBits)), poolBits)
			if !overlaps(p, taken) {
				return p, nil
			}
		}
	}
	return netip.Prefix{}, errors.New("no subnet is free: remove networks, or choose one with --subnet")
}

// localSubnet is a unique local subnet (RFC 4193) made from an id.
func localSubnet(id string) netip.Prefix {
	sum := sha256.Sum256([]byte(id))
	var b [16]byte
	b[0] = 0xfd
	copy(b[1:8], sum[:])
	return netip.PrefixFrom(netip.AddrFrom16(b), 64)
}
