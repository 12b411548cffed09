package run

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"cooper/run/internal/network"
	"cooper/run/internal/spawn"
)

// Network is a network that containers can be on. Its Driver is "bridge"; those
// called host and none, with drivers of their own, stand for the host's network and
// for having none.
type Network = network.Network

// ErrNoNetwork is wrapped by the error of a lookup of a network that does not exist.
var ErrNoNetwork = errors.New("no such network")

// ErrNetworkInUse is wrapped by the error of RemoveNetwork when a running container
// is on the network.
var ErrNetworkInUse = errors.New("network is in use")

// NetworkOptions say how a network is made. What is not given is chosen.
type NetworkOptions struct {
	// Driver is "bridge" (also "").
	Driver string
	// Subnet is an IPv4 network; IPRange a part of it that containers get
	// their addresses from.
	Subnet, IPRange netip.Prefix
	// Subnet6 is an IPv6 network, and implies IPv6.
	Subnet6           netip.Prefix
	Gateway, Gateway6 netip.Addr
	// IPv6 gives containers IPv6 addresses as well.
	IPv6 bool
	// Internal networks have no way out.
	Internal bool
	// NoDNS leaves names to the host's name servers.
	NoDNS  bool
	Labels map[string]string
	// Options are docker's com.docker.network.bridge.name and
	// com.docker.network.driver.mtu, or podman's interface_name and mtu.
	Options map[string]string
}

var networkName = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]*$`)

// builtIn are the networks that are there without having been made, and what they
// are made by.
var builtIn = map[string]string{network.DefaultName: "bridge", "host": "host", "none": "null"}

// CreateNetwork makes a network. Nothing of it exists outside the store before a
// container uses it.
func (cs *Containers) CreateNetwork(name string, o NetworkOptions) (Network, error) {
	n := Network{
		Name: name, Driver: "bridge", Subnet: o.Subnet, Gateway: o.Gateway, IPRange: o.IPRange, Subnet6: o.Subnet6,
		Gateway6: o.Gateway6, Internal: o.Internal, NoDNS: o.NoDNS, Labels: o.Labels, Options: o.Options,
	}
	err := checkNetwork(name, o.Driver)
	if err == nil {
		err = applyNetworkOptions(&n)
	}
	if err == nil {
		err = cs.defineNetwork(&n, o.IPv6)
	}
	if err != nil {
		return Network{}, fmt.Errorf("create network %s: %w", name, err)
	}
	cs.networkEvent("create", &n, "")
	return n, nil
}

func checkNetwork(name, driver string) error {
	switch {
	case !networkName.MatchString(name):
		return errors.New("the name is not made of [a-zA-Z0-9][a-zA-Z0-9_.-]*")
	case slices.Contains([]string{"default", "private", "container", "ns"}, name) || builtIn[name] != "":
		return errors.New("the name has a meaning of its own: choose another")
	case driver != "" && driver != "bridge":
		return fmt.Errorf("driver %q is not there: use bridge", driver)
	}
	return nil
}

// applyNetworkOptions reads the options that are known, and refuses others.
func applyNetworkOptions(n *Network) error {
	for key, value := range n.Options {
		switch key {
		case "com.docker.network.bridge.name", "interface_name":
			if value == "" || len(value) >= unix.IFNAMSIZ || strings.ContainsAny(value, "/ :%") {
				return fmt.Errorf("option %s: %q is no name for an interface", key, value)
			}
			n.Bridge = value
		case "com.docker.network.driver.mtu", "mtu":
			if _, err := fmt.Sscanf(value, "%d", &n.MTU); err != nil || n.MTU < 576 || n.MTU > 65535 {
				return fmt.Errorf("option %s: %q is not a number from 576 to 65535", key, value)
			}
		default:
			return fmt.Errorf("unknown option %s: known are com.docker.network.bridge.name and com.docker.network.driver.mtu", key)
		}
	}
	return nil
}

// defineNetwork fills in what n lacks and writes it, unless the name is taken.
func (cs *Containers) defineNetwork(n *Network, ipv6 bool) error {
	dir, err := cs.store.Dir("networks")
	if err != nil {
		return err
	}
	file := filepath.Join(dir, n.Name+".json")
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return errors.New("a network of that name exists already")
	}
	if err != nil {
		return err
	}
	if err := errors.Join(f.Close(), cs.checkSubnets(n), network.Define(networkDir(), file, n, ipv6), writeJSON(file, n)); err != nil {
		return errors.Join(err, os.Remove(file))
	}
	return nil
}

// checkSubnets refuses a subnet or bridge that another network has.
func (cs *Containers) checkSubnets(n *Network) error {
	all, err := cs.madeNetworks()
	if err != nil {
		return err
	}
	for _, other := range all {
		switch {
		case n.Subnet.IsValid() && n.Subnet.Overlaps(other.Subnet) || n.Subnet6.IsValid() && n.Subnet6.Overlaps(other.Subnet6):
			return fmt.Errorf("the subnet overlaps with that of network %s, %s: choose another", other.Name, other.Subnet)
		case n.Bridge != "" && n.Bridge == other.Bridge:
			return fmt.Errorf("network %s has the interface %s: choose another name", other.Name, n.Bridge)
		}
	}
	return nil
}

// Networks returns all networks: the built-in ones and those that were made, by name.
func (cs *Containers) Networks() ([]Network, error) {
	all, err := cs.madeNetworks()
	if err != nil {
		return nil, err
	}
	for name := range builtIn {
		n, err := builtInNetwork(name)
		if err != nil {
			return nil, err
		}
		all = append(all, n)
	}
	slices.SortFunc(all, func(a, b Network) int { return strings.Compare(a.Name, b.Name) })
	return all, nil
}

// madeNetworks returns the networks that CreateNetwork made.
func (cs *Containers) madeNetworks() ([]Network, error) {
	dir, err := cs.store.Dir("networks")
	if err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var all []Network
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), ".json")
		if !ok {
			continue
		}
		n, err := cs.madeNetwork(name)
		if errors.Is(err, ErrNoNetwork) {
			continue
		}
		if err != nil {
			return nil, err
		}
		all = append(all, n)
	}
	return all, nil
}

// madeNetwork returns the one network of that name. A file that is empty yet is none.
func (cs *Containers) madeNetwork(name string) (n Network, err error) {
	dir, err := cs.store.Dir("networks")
	if err != nil {
		return n, err
	}
	b, err := os.ReadFile(filepath.Join(dir, name+".json"))
	if errors.Is(err, fs.ErrNotExist) || err == nil && len(b) == 0 {
		return n, fmt.Errorf("%w: %s", ErrNoNetwork, name)
	}
	if err == nil {
		err = json.Unmarshal(b, &n)
	}
	if err != nil {
		return n, fmt.Errorf("network %s: %w", name, err)
	}
	return n, nil
}

// builtInNetwork returns a network that is there without having been made.
func builtInNetwork(name string) (Network, error) {
	n, err := network.Default(networkDir())
	if err != nil || name == network.DefaultName {
		return n, err
	}
	return Network{Name: name, Driver: builtIn[name], ID: network.BuiltInID(name)}, nil
}

// Network finds a network by its name, its ID or the beginning of that. The error
// wraps ErrNoNetwork if there is none.
func (cs *Containers) Network(name string) (Network, error) {
	if builtIn[name] != "" {
		return builtInNetwork(name)
	}
	if networkName.MatchString(name) {
		if n, err := cs.madeNetwork(name); !errors.Is(err, ErrNoNetwork) {
			return n, err
		}
	}
	all, err := cs.Networks()
	if err != nil {
		return Network{}, err
	}
	var found []Network
	for _, n := range all {
		if name != "" && strings.HasPrefix(n.ID, name) {
			found = append(found, n)
		}
	}
	switch len(found) {
	case 0:
		return Network{}, fmt.Errorf("%w: %s", ErrNoNetwork, name)
	case 1:
		return found[0], nil
	}
	return Network{}, fmt.Errorf("network %s: %d networks have an ID that begins so: use more of it, or the name", name, len(found))
}

// NetworkUsers returns, by network name, the containers that are on it, or will be
// when they are started.
func (cs *Containers) NetworkUsers() (map[string][]*Container, error) {
	all, err := cs.List()
	if err != nil {
		return nil, err
	}
	users := map[string][]*Container{}
	for _, c := range all {
		for _, name := range networkNames(c.opts()) {
			users[name] = append(users[name], c)
		}
	}
	return users, nil
}

// RemoveNetwork removes the network of that name or ID. The error wraps
// ErrNetworkInUse when a container that runs is on it.
func (cs *Containers) RemoveNetwork(name string) (Network, error) {
	n, err := cs.Network(name)
	if err != nil {
		return n, err
	}
	if builtIn[n.Name] != "" {
		return n, fmt.Errorf("network %s is built in and cannot be removed", n.Name)
	}
	users, err := cs.NetworkUsers()
	if err != nil {
		return n, err
	}
	for _, c := range users[n.Name] {
		if st, err := c.State(); err == nil && st.Alive() {
			return n, fmt.Errorf("%w: container %s (%s) is on %s: disconnect or stop it first", ErrNetworkInUse, c.opts().Name, c.id[:12], n.Name)
		}
	}
	dir, err := cs.store.Dir("networks")
	if err != nil {
		return n, err
	}
	if err := os.Remove(filepath.Join(dir, n.Name+".json")); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return n, fmt.Errorf("remove network %s: %w", n.Name, err)
	}
	cs.networkEvent("destroy", &n, "")
	return n, cs.SweepNetworks()
}

// PruneNetworks removes the networks that no container is on or will be on, but for
// those that keep says, and returns them. The error is about some; the others are
// removed.
func (cs *Containers) PruneNetworks(keep func(Network) bool) (removed []Network, err error) {
	all, err := cs.madeNetworks()
	if err != nil {
		return nil, err
	}
	users, err := cs.NetworkUsers()
	if err != nil {
		return nil, err
	}
	var errs []error
	for _, n := range all {
		if len(users[n.Name]) > 0 || keep(n) {
			continue
		}
		_, err := cs.RemoveNetwork(n.Name)
		switch {
		case errors.Is(err, ErrNoNetwork) || errors.Is(err, ErrNetworkInUse): // somebody was faster
		case err != nil:
			errs = append(errs, err)
		default:
			removed = append(removed, n)
		}
	}
	return removed, errors.Join(errs...)
}

// SweepNetworks removes at once what nobody uses of bridges and firewall rules. The
// monitor of the last container would do that a moment later.
func (cs *Containers) SweepNetworks() error {
	if spawn.InUserNamespace() {
		return nil // they end with the user's network process
	}
	return network.Sweep(networkDir())
}

// networkEvent records what happened to a network, to the container with that ID if
// there is one.
func (cs *Containers) networkEvent(action string, n *Network, container string) {
	attributes := map[string]string{"name": n.Name, "type": n.Driver}
	if container != "" {
		attributes["container"] = container
	}
	cs.Record(Event{Type: "network", Action: action, ID: n.ID, Attributes: attributes})
}

// IsBuiltInNetwork reports whether a network of that name is there without having
// been made.
func IsBuiltInNetwork(name string) bool { return builtIn[name] != "" }
