package cli

import (
	"encoding/csv"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"

	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/spf13/pflag"

	"cooper/run"
)

// networkFlags are the flags about a container's networks.
type networkFlags struct {
	networks, aliases []string
	ip, ip6, mac      string
	publish, expose   []string
	publishAll        bool
}

func (f *networkFlags) declare(fs *pflag.FlagSet) {
	fs.StringArrayVar(&f.networks, "network", nil, "Be on `NETWORK`: bridge, host, none, container:NAME or a network's name, with ,ip= ,ip6= ,alias= ,mac-address= after name= (repeatable)")
	fs.StringArrayVar(&f.aliases, "network-alias", nil, "Be found by `NAME` on the network too (repeatable)")
	fs.StringVar(&f.ip, "ip", "", "Have the `ADDRESS` on the network")
	fs.StringVar(&f.ip6, "ip6", "", "Have the IPv6 `ADDRESS` on the network")
	fs.StringVar(&f.mac, "mac-address", "", "Have the Ethernet `ADDRESS` on the network")
	fs.StringArrayVarP(&f.publish, "publish", "p", nil, "Publish a port: `[[IP:]HOST:]CONTAINER[/PROTOCOL]`, ranges too (repeatable)")
	fs.BoolVarP(&f.publishAll, "publish-all", "P", false, "Publish all exposed ports on free ports of the host")
	fs.StringArrayVar(&f.expose, "expose", nil, "Expose a `PORT[/PROTOCOL]` or a range (repeatable)")
	markSections(fs, sectionNetwork, "network", "network-alias", "ip", "ip6", "mac-address", "publish", "publish-all", "expose")
}

// apply puts the flags into o.
func (f *networkFlags) apply(o *run.ContainerOptions) error {
	for _, s := range f.networks {
		a, err := parseNetwork(s)
		if err != nil {
			return err
		}
		o.Networks = append(o.Networks, a)
	}
	if err := f.attachment(o); err != nil {
		return err
	}
	for _, s := range f.expose {
		ports, err := parseExpose(s)
		if err != nil {
			return err
		}
		o.Exposed = append(o.Exposed, ports...)
	}
	for _, s := range f.publish {
		ports, err := parsePublish(s)
		if err != nil {
			return err
		}
		o.Ports = append(o.Ports, ports...)
	}
	if err := checkPorts(o.Ports); err != nil {
		return err
	}
	return f.checkMode(o)
}

// attachment sets the network mode: the first network's name. The flags for one
// network are about that one.
func (f *networkFlags) attachment(o *run.ContainerOptions) error {
	if len(o.Networks) == 0 {
		o.Networks = []run.NetworkAttachment{{Network: defaultNetwork}}
	}
	first := &o.Networks[0]
	o.NetworkMode = first.Network
	if len(f.aliases) > 0 && len(first.Aliases) > 0 {
		return errors.New("conflicting options: cannot specify both --network-alias and per-network alias")
	}
	first.Aliases = append(first.Aliases, f.aliases...)
	for _, given := range []struct {
		flag, value string
		six         bool
		to          *netip.Addr
	}{{"ip", f.ip, false, &first.IP}, {"ip6", f.ip6, true, &first.IP6}} {
		if given.value == "" {
			continue
		}
		if given.to.IsValid() {
			return fmt.Errorf("conflicting options: cannot specify both --%s and per-network address", given.flag)
		}
		ip, err := parseIP(given.value, given.six)
		if err != nil {
			return fmt.Errorf("invalid --%s: %w", given.flag, err)
		}
		*given.to = ip
	}
	if f.mac == "" {
		return nil
	}
	if first.MAC != "" && first.MAC != f.mac {
		return errors.New("conflicting options: cannot specify both --mac-address and per-network MAC address")
	}
	mac, err := parseMAC(f.mac)
	first.MAC = mac
	return err
}

// defaultNetwork is where a container is when nothing else is asked for.
const defaultNetwork = "bridge"

// parseNetwork reads a value of --network: a name or mode, docker's
// name=NAME,KEY=VALUE,... or podman's NAME:KEY=VALUE,...
func parseNetwork(s string) (run.NetworkAttachment, error) {
	fail := func(format string, args ...any) (run.NetworkAttachment, error) {
		return run.NetworkAttachment{}, fmt.Errorf("invalid network %q: %w", s, fmt.Errorf(format, args...))
	}
	name, rest, options := strings.Cut(s, ":")
	if name == "container" || name == "ns" {
		if rest == "" {
			return fail("want %s: and what to join after it", name)
		}
		return run.NetworkAttachment{Network: s}, nil
	}
	if strings.Contains(name, "=") { // docker's form
		name, rest, options = "", s, true
	}
	a := run.NetworkAttachment{Network: name}
	if options {
		fields, err := csv.NewReader(strings.NewReader(rest)).Read()
		if err != nil {
			return fail("%w", err)
		}
		for _, field := range fields {
			if err := networkOption(&a, field); err != nil {
				return fail("%w", err)
			}
		}
	}
	switch a.Network {
	case "":
		return fail("it has no name")
	case "default", "private":
		a.Network = defaultNetwork
	}
	if !run.IsName(a.Network) {
		return fail("%q is no name of a network, and no mode: bridge, host, none, container:NAME", a.Network)
	}
	return a, nil
}

// networkOption applies one KEY=VALUE of --network.
func networkOption(a *run.NetworkAttachment, field string) (err error) {
	key, value, found := strings.Cut(field, "=")
	if !found || value == "" {
		return fmt.Errorf("%q is not KEY=VALUE", field)
	}
	switch strings.ToLower(strings.TrimSpace(key)) {
	case "name":
		a.Network = value
	case "alias":
		a.Aliases = append(a.Aliases, value)
	case "ip":
		a.IP, err = parseIP(value, false)
	case "ip6":
		a.IP6, err = parseIP(value, true)
	case "mac-address", "mac":
		a.MAC, err = parseMAC(value)
	default:
		err = fmt.Errorf("unknown key %q: want name, alias, ip, ip6 or mac-address", key)
	}
	return err
}

func parseIP(s string, six bool) (netip.Addr, error) {
	ip, err := netip.ParseAddr(s)
	switch {
	case err != nil || ip.Zone() != "":
		return netip.Addr{}, fmt.Errorf("%q is no IP address", s)
	case six && !ip.Is6():
		return netip.Addr{}, fmt.Errorf("%q is no IPv6 address", s)
	case !six && !ip.Is4():
		return netip.Addr{}, fmt.Errorf("%q is no IPv4 address", s)
	}
	return ip, nil
}

func parseMAC(s string) (string, error) {
	mac, err := net.ParseMAC(s)
	if err != nil || len(mac) != 6 {
		return "", fmt.Errorf("%s is not a valid mac address", s)
	}
	return mac.String(), nil
}

// ownNetwork reports whether mode gives a container a place on a bridge.
func ownNetwork(mode string) bool {
	return mode != "host" && mode != "none" && !joinsNetwork(mode)
}

// joinsNetwork reports whether mode shares somebody else's network namespace.
func joinsNetwork(mode string) bool {
	return strings.HasPrefix(mode, "container:") || strings.HasPrefix(mode, "ns:")
}

// checkMode refuses what a network mode does not go together with, in docker's
// words.
func (f *networkFlags) checkMode(o *run.ContainerOptions) error {
	for i, a := range o.Networks {
		switch {
		case len(o.Networks) > 1 && (!ownNetwork(a.Network) || !ownNetwork(o.NetworkMode)):
			return errors.New("conflicting options: cannot attach both user-defined and non-user-defined network-modes")
		case slices.ContainsFunc(o.Networks[:i], func(b run.NetworkAttachment) bool { return a.Network == b.Network }):
			return fmt.Errorf("network %q is specified multiple times", a.Network)
		case a.Network != defaultNetwork && ownNetwork(a.Network):
		case len(a.Aliases) > 0:
			return errors.New("network-scoped alias is supported only for containers in user defined networks")
		case a.IP.IsValid() || a.IP6.IsValid():
			return errors.New("user specified IP address is supported on user defined networks only")
		case a.MAC != "" && a.Network != defaultNetwork:
			return errors.New("conflicting options: mac-address and the network mode")
		}
	}
	if !strings.HasPrefix(o.NetworkMode, "container:") {
		return nil
	}
	conflict := map[string]bool{
		"hostname and the network mode":                       o.Config.Hostname != "",
		"dns and the network mode":                            len(o.Config.DNS) > 0,
		"custom host-to-IP mapping and the network mode":      len(o.Config.ExtraHosts) > 0,
		"port publishing and the container type network mode": len(o.Ports) > 0 || f.publishAll,
		"port exposing and the container type network mode":   len(o.Exposed) > 0,
	}
	for _, what := range slices.Sorted(maps.Keys(conflict)) {
		if conflict[what] {
			return errors.New("conflicting options: " + what)
		}
	}
	return nil
}

// finish adds what the image exposes, publishes it if asked for, and drops what
// has no meaning for the network mode.
func (f *networkFlags) finish(o *run.ContainerOptions, image dockerspec.DockerOCIImageConfig) (warning string, err error) {
	for _, port := range slices.Sorted(maps.Keys(image.ExposedPorts)) {
		ports, err := parseExpose(port)
		if err != nil {
			return "", fmt.Errorf("the image exposes %q: %w", port, err)
		}
		o.Exposed = append(o.Exposed, ports...)
	}
	for _, m := range o.Ports {
		o.Exposed = append(o.Exposed, fmt.Sprintf("%d/%s", m.ContainerPort, m.Protocol))
	}
	slices.Sort(o.Exposed)
	o.Exposed = slices.Compact(o.Exposed)
	if f.publishAll {
		for _, port := range o.Exposed {
			if err := publishExposed(o, port); err != nil {
				return "", err
			}
		}
	}
	if !ownNetwork(o.NetworkMode) {
		if len(o.Ports) > 0 {
			o.Ports = nil
			warning = "Published ports are discarded: the network is " + o.NetworkMode + "."
		}
		o.Networks = nil
	}
	return warning, nil
}

// publishExposed publishes an exposed port that is not published yet.
func publishExposed(o *run.ContainerOptions, port string) error {
	more, err := parsePublish(port)
	if err != nil {
		return err
	}
	for _, m := range more {
		same := func(p run.PortMapping) bool {
			return p.ContainerPort == m.ContainerPort && p.Protocol == m.Protocol
		}
		if !slices.ContainsFunc(o.Ports, same) {
			o.Ports = append(o.Ports, m)
		}
	}
	return nil
}
