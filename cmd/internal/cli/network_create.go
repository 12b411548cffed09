package cli

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/spf13/cobra"

	"cooper/run"
)

// createNetworkFlags are the flags of network create as given.
type createNetworkFlags struct {
	driver, bridge                                      string
	subnets, gateways, ranges, labels, options          []string
	internal, ipv6, disableDNS, attachable, ignore, ip4 bool
}

const createNetworkExample = `
  @ backend                                    With a subnet that nobody has
  @ --subnet 10.5.0.0/24 --gateway 10.5.0.254 backend
  @ --ipv6 --internal db                       With IPv6, and without a way out`

func newNetworkCreate(e *Env) *cobra.Command {
	var f createNetworkFlags
	cmd := &cobra.Command{
		Use:   "create [OPTIONS] NETWORK",
		Short: "Create a network",
		Long: `Create a network and print its ID. Containers on it find each other by name; those
of other networks can reach their published ports only.`,
		Example:               createNetworkExample,
		DisableFlagsInUseLine: true,
		Args:                  exactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return e.createNetwork(cmd.Context(), args[0], &f)
		},
	}
	fs := cmd.Flags()
	fs.StringVarP(&f.driver, "driver", "d", "bridge", "Use `DRIVER` bridge")
	fs.StringArrayVar(&f.subnets, "subnet", nil, "Use the `SUBNET`, such as 10.5.0.0/24; twice for IPv4 and IPv6")
	fs.StringArrayVar(&f.gateways, "gateway", nil, "Give the host's end of the network the `ADDRESS` (default the first of the subnet)")
	fs.StringArrayVar(&f.ranges, "ip-range", nil, "Give containers addresses of the `SUBNET` only")
	fs.BoolVar(&f.internal, "internal", false, "Leave the network without a way out")
	fs.BoolVar(&f.ipv6, "ipv6", false, "Give containers IPv6 addresses as well")
	fs.BoolVar(&f.disableDNS, "disable-dns", false, "Don't let containers find each other by name")
	fs.StringArrayVar(&f.labels, "label", nil, "Label the network: `KEY[=VALUE]` (repeatable)")
	fs.StringArrayVarP(&f.options, "opt", "o", nil, "Set `KEY=VALUE`: com.docker.network.driver.mtu, com.docker.network.bridge.name (repeatable)")
	fs.StringVar(&f.bridge, "interface-name", "", "Call the bridge `NAME` on the host")
	fs.BoolVar(&f.ignore, "ignore", false, "No error if a network of that name exists")
	fs.BoolVar(&f.attachable, "attachable", false, "For docker's sake: every network is")
	fs.BoolVar(&f.ip4, "ipv4", true, "For docker's sake: every network has IPv4 addresses")
	e.commonFlags(cmd)
	return cmd
}

// createNetwork is the network create command.
func (e *Env) createNetwork(ctx context.Context, name string, f *createNetworkFlags) error {
	o, err := f.networkOptions()
	if err != nil {
		return err
	}
	cs, err := e.containers(ctx)
	if err != nil {
		return err
	}
	if f.ignore {
		n, err := cs.Network(name)
		if err == nil {
			_, err = fmt.Fprintln(e.Stdout, n.ID)
		}
		if !errors.Is(err, run.ErrNoNetwork) {
			return err
		}
	}
	n, err := cs.CreateNetwork(name, o)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(e.Stdout, n.ID)
	return err
}

func (f *createNetworkFlags) networkOptions() (o run.NetworkOptions, err error) {
	o = run.NetworkOptions{Driver: f.driver, IPv6: f.ipv6, Internal: f.internal, NoDNS: f.disableDNS}
	if !f.ip4 {
		return o, errors.New("every network has IPv4 addresses: leave --ipv4=false out")
	}
	for _, l := range f.labels {
		if !strings.Contains(l, "=") {
			l += "="
		}
		if err := setPair(&o.Labels, l); err != nil {
			return o, fmt.Errorf("invalid label: %w", err)
		}
	}
	for _, opt := range f.options {
		if err := setPair(&o.Options, opt); err != nil {
			return o, fmt.Errorf("invalid --opt: %w", err)
		}
	}
	if f.bridge != "" {
		if err := setPair(&o.Options, "interface_name="+f.bridge); err != nil {
			return o, err
		}
	}
	if o.Subnet, o.Subnet6, err = prefixes("subnet", f.subnets); err != nil {
		return o, err
	}
	var range6 netip.Prefix
	if o.IPRange, range6, err = prefixes("ip-range", f.ranges); err != nil {
		return o, err
	}
	if range6.IsValid() {
		return o, errors.New("--ip-range is for IPv4 only: containers' IPv6 addresses are the first ones of the subnet")
	}
	o.Gateway, o.Gateway6, err = addresses("gateway", f.gateways)
	if err == nil && (o.Gateway.IsValid() || o.IPRange.IsValid()) && !o.Subnet.IsValid() {
		err = errors.New("every --ip-range and --gateway must have a corresponding --subnet")
	}
	return o, err
}

// prefixes reads subnets, at most one of each family.
func prefixes(flag string, values []string) (ip4, ip6 netip.Prefix, err error) {
	for _, v := range values {
		p, err := netip.ParsePrefix(v)
		if err != nil {
			return ip4, ip6, fmt.Errorf("invalid --%s %q: want an address and its length, such as 10.5.0.0/24", flag, v)
		}
		to := &ip4
		if p.Addr().Is6() {
			to = &ip6
		}
		if to.IsValid() {
			return ip4, ip6, fmt.Errorf("invalid --%s %q: a network has one of each family", flag, v)
		}
		*to = p.Masked()
	}
	return ip4, ip6, nil
}

// addresses reads addresses, at most one of each family.
func addresses(flag string, values []string) (ip4, ip6 netip.Addr, err error) {
	for _, v := range values {
		a, err := netip.ParseAddr(v)
		if err != nil || a.Zone() != "" {
			return ip4, ip6, fmt.Errorf("invalid --%s %q: it is no IP address", flag, v)
		}
		to := &ip4
		if a.Is6() {
			to = &ip6
		}
		if to.IsValid() {
			return ip4, ip6, fmt.Errorf("invalid --%s %q: a network has one of each family", flag, v)
		}
		*to = a
	}
	return ip4, ip6, nil
}
