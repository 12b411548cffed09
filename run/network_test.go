package run

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func TestNetworks(t *testing.T) {
	cs, base := keptStore(t)
	n, err := cs.CreateNetwork("test-net", NetworkOptions{
		Labels: map[string]string{"a": "b"}, IPv6: true, Internal: true, Options: map[string]string{"mtu": "1400", "interface_name": "h3-test0"},
	})
	if err != nil {
		t.Fatal(err)
	}
	if n.MTU != 1400 || n.Bridge != "h3-test0" || !n.Internal || !n.Subnet6.IsValid() || n.Driver != "bridge" {
		t.Errorf("CreateNetwork = %+v", n)
	}
	for _, name := range []string{"test-net", n.ID, n.ID[:6]} {
		got, err := cs.Network(name)
		if diff := cmp.Diff(n, got, cmpopts.EquateApproxTime(0), cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{})); err != nil || diff != "" {
			t.Errorf("Network(%s): %v (-want +got):\n%s", name, err, diff)
		}
	}
	for _, name := range []string{"nosuch", "", "../x", "ffffffffff"} {
		if _, err := cs.Network(name); !errors.Is(err, ErrNoNetwork) {
			t.Errorf("Network(%q): %v", name, err)
		}
	}
	if got := namesOfNetworks(t, cs); !slices.Equal(got, []string{"bridge", "host", "none", "test-net"}) {
		t.Errorf("Networks = %q", got)
	}

	// Names, subnets and bridges are somebody's.
	for name, o := range map[string]NetworkOptions{
		"test-net": {}, "bridge": {}, "host": {}, "default": {}, "a/b": {}, "": {}, "other-driver": {Driver: "macvlan"},
		"same-subnet": {Subnet: n.Subnet}, "same-bridge": {Options: map[string]string{"com.docker.network.bridge.name": "h3-test0"}},
		"bad-mtu": {Options: map[string]string{"mtu": "17"}}, "long-name": {Options: map[string]string{"interface_name": strings.Repeat("x", 16)}},
		"unknown-option": {Options: map[string]string{"x": "y"}},
	} {
		if n, err := cs.CreateNetwork(name, o); err == nil {
			t.Errorf("CreateNetwork(%q, %+v) = %+v", name, o, n)
		}
	}
	if got := namesOfNetworks(t, cs); len(got) != 4 {
		t.Errorf("what could not be made is there: %q", got)
	}

	// One that a container will be on is pruned by nobody.
	if _, err := cs.CreateNetwork("unused", NetworkOptions{}); err != nil {
		t.Fatal(err)
	}
	o := ContainerOptions{ImageID: base.ID, NetworkMode: "test-net", Networks: []NetworkAttachment{{Network: "test-net"}}}
	c, err := cs.Create(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	removed, err := cs.PruneNetworks(func(Network) bool { return false })
	if err != nil || len(removed) != 1 || removed[0].Name != "unused" {
		t.Errorf("PruneNetworks = %+v, %v", removed, err)
	}
	if err := c.Remove(t.Context(), RemoveOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := cs.RemoveNetwork("test-net"); err != nil {
		t.Error(err)
	}
	if _, err := cs.RemoveNetwork("test-net"); !errors.Is(err, ErrNoNetwork) {
		t.Errorf("RemoveNetwork once more: %v", err)
	}
	if _, err := cs.RemoveNetwork("none"); err == nil {
		t.Error("a built-in network was removed")
	}
}

func namesOfNetworks(t *testing.T, cs *Containers) (names []string) {
	t.Helper()
	all, err := cs.Networks()
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range all {
		names = append(names, n.Name)
	}
	return names
}

// TestConnectAtRest: what a container that does not run is on is for its next start.
func TestConnectAtRest(t *testing.T) {
	cs, base := keptStore(t)
	for _, name := range []string{"one", "two"} {
		if _, err := cs.CreateNetwork("rest-"+name, NetworkOptions{}); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { cs.RemoveNetwork("rest-" + name) })
	}
	c, err := cs.Create(t.Context(), ContainerOptions{ImageID: base.ID, NetworkMode: "bridge"})
	if err != nil {
		t.Fatal(err)
	}
	on := func(want ...string) {
		t.Helper()
		if err := c.reload(); err != nil {
			t.Fatal(err)
		}
		if got := networkNames(c.opts()); !slices.Equal(got, want) {
			t.Errorf("it is on %q, want %q", got, want)
		}
	}
	try := func(err error, ok bool) {
		t.Helper()
		if (err == nil) != ok {
			t.Errorf("error %v, want one: %v", err, !ok)
		}
	}
	on("bridge")
	try(c.ConnectNetwork(t.Context(), NetworkAttachment{Network: "rest-one", Aliases: []string{"x"}}), true)
	try(c.ConnectNetwork(t.Context(), NetworkAttachment{Network: "rest-one"}), false)
	try(c.ConnectNetwork(t.Context(), NetworkAttachment{Network: "rest-two", IP: netip.MustParseAddr("192.0.2.1")}), false)
	try(c.ConnectNetwork(t.Context(), NetworkAttachment{Network: "host"}), false)
	try(c.ConnectNetwork(t.Context(), NetworkAttachment{Network: "nosuch"}), false)
	on("bridge", "rest-one")
	try(c.DisconnectNetwork(t.Context(), "rest-two"), false)
	try(c.DisconnectNetwork(t.Context(), "bridge"), true)
	on("rest-one")
	try(c.DisconnectNetwork(t.Context(), "rest-one"), true)
	on()
	if attachments, err := c.attachments(); err != nil || len(attachments) > 0 {
		t.Errorf("attachments of one that is on no network: %+v, %v", attachments, err)
	}
	try(c.ConnectNetwork(t.Context(), NetworkAttachment{Network: "rest-two"}), true)
	on("rest-two")

	none, err := cs.Create(t.Context(), ContainerOptions{ImageID: base.ID, NetworkMode: "none"})
	if err != nil {
		t.Fatal(err)
	}
	try(none.ConnectNetwork(t.Context(), NetworkAttachment{Network: "rest-one"}), false)
	try(none.DisconnectNetwork(t.Context(), "none"), false)
}
