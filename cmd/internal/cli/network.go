package cli

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"cooper/run"
)

// newNetwork makes the network command and those below it.
func newNetwork(e *Env) *cobra.Command {
	cmd := newCommandGroup("network", "Commands about networks that containers are on")
	cmd.AddCommand(newNetworkCreate(e), newNetworkLs(e), newNetworkInspect(e), newNetworkRm(e), newNetworkPrune(e),
		newNetworkConnect(e), newNetworkDisconnect(e))
	return cmd
}

func newNetworkInspect(e *Env) *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use:                   "inspect [OPTIONS] NETWORK [NETWORK...]",
		Short:                 "Show all that is known of networks, as JSON",
		Example:               "\n  @ backend\n  @ -f '{{range .IPAM.Config}}{{.Subnet}}{{end}}' backend",
		DisableFlagsInUseLine: true,
		Args:                  minArgs(1, statusError),
		RunE: func(cmd *cobra.Command, args []string) error {
			return e.inspect(cmd.Context(), inspection{kind: "network"}, format, args)
		},
	}
	cmd.Flags().StringVarP(&format, "format", "f", "", "Print json, or a Go `TEMPLATE` for each")
	e.commonFlags(cmd)
	return cmd
}

// oneNetwork is what docker's inspect says of a network.
type oneNetwork struct {
	Name       string
	ID         string `json:"Id"`
	Created    time.Time
	Scope      string
	Driver     string
	EnableIPv4 bool
	EnableIPv6 bool
	IPAM       addressing
	Internal   bool
	Attachable bool
	Ingress    bool
	ConfigFrom struct{ Network string }
	ConfigOnly bool
	Containers map[string]member
	Options    map[string]string
	Labels     map[string]string
}

// addressing is where a network's addresses come from.
type addressing struct {
	Driver  string
	Options map[string]string
	Config  []addressPool
}

type addressPool struct {
	Subnet  string
	IPRange string `json:",omitempty"`
	Gateway string
}

// member is a running container on a network.
type member struct {
	Name        string
	EndpointID  string
	MacAddress  string
	IPv4Address string
	IPv6Address string
}

// inspectNetwork describes the network with a name or ID.
func (e *Env) inspectNetwork(ctx context.Context, name string, _ inspection) (any, error) {
	cs, err := e.containers(ctx)
	if err != nil {
		return nil, err
	}
	n, err := cs.Network(name)
	if errors.Is(err, run.ErrNoNetwork) {
		return nil, errNoObject
	}
	if err != nil {
		return nil, err
	}
	in := oneNetwork{
		Name: n.Name, ID: n.ID, Created: n.Created, Scope: "local", Driver: n.Driver,
		EnableIPv4: n.Subnet.IsValid(), EnableIPv6: n.Subnet6.IsValid(), Internal: n.Internal,
		IPAM:       addressing{Driver: "default", Config: addressPools(n)},
		Containers: map[string]member{}, Options: orEmpty(n.Options), Labels: orEmpty(n.Labels),
	}
	users, err := cs.NetworkUsers()
	if err != nil {
		return nil, err
	}
	for _, c := range users[n.Name] {
		st, err := c.State()
		if errors.Is(err, run.ErrNoContainer) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if place, is := st.Networks[n.Name]; is && st.Alive() {
			in.Containers[c.ID()] = describeMember(c, place)
		}
	}
	return in, nil
}

func describeMember(c *run.Container, place run.NetworkStatus) member {
	m := member{Name: c.Name(), EndpointID: c.ID(), MacAddress: place.MAC, IPv4Address: place.IP.String()}
	if place.IP6.IsValid() {
		m.IPv6Address = place.IP6.String()
	}
	return m
}

// addressPools are the subnets of a network, IPv4 first.
func addressPools(n run.Network) []addressPool {
	pools := []addressPool{}
	if n.Subnet.IsValid() {
		p := addressPool{Subnet: n.Subnet.String(), Gateway: n.Gateway.String()}
		if n.IPRange.IsValid() {
			p.IPRange = n.IPRange.String()
		}
		pools = append(pools, p)
	}
	if n.Subnet6.IsValid() {
		pools = append(pools, addressPool{Subnet: n.Subnet6.String(), Gateway: n.Gateway6.String()})
	}
	return pools
}

// orEmpty is m, or a map without entries: docker writes {} rather than null.
func orEmpty(m map[string]string) map[string]string {
	if m == nil {
		return map[string]string{}
	}
	return m
}

func newNetworkRm(e *Env) *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use:                   "rm [OPTIONS] NETWORK [NETWORK...]",
		Aliases:               []string{"remove"},
		Short:                 "Remove networks",
		Long:                  "Remove networks. One that a running container is on can't be removed.",
		DisableFlagsInUseLine: true,
		Args:                  minArgs(1, statusError),
		RunE: func(cmd *cobra.Command, args []string) error {
			cs, err := e.containers(cmd.Context())
			if err != nil {
				return err
			}
			var errs []error
			for _, name := range args {
				_, err := cs.RemoveNetwork(name)
				if err == nil || force && errors.Is(err, run.ErrNoNetwork) {
					_, err = fmt.Fprintln(e.Stdout, name)
				}
				errs = append(errs, err)
			}
			return errors.Join(errs...)
		},
	}
	cmd.Flags().BoolVarP(&force, "force", "f", false, "Names of no network are no error")
	e.commonFlags(cmd)
	return cmd
}

func newNetworkPrune(e *Env) *cobra.Command {
	var force bool
	var filters []string
	cmd := &cobra.Command{
		Use:                   "prune [OPTIONS]",
		Short:                 "Remove networks that no container is on",
		Long:                  "Remove networks that no container, running or not, is on.",
		Example:               "\n  @ -f --filter until=24h",
		DisableFlagsInUseLine: true,
		Args:                  exactArgs(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			wanted, err := parseNetworkFilters(filters, time.Now(), "label", "label!", "until")
			if err != nil {
				return err
			}
			if !force {
				if ok, err := e.confirm("all custom networks not used by at least one container"); err != nil || !ok {
					return err
				}
			}
			return e.pruneNetworks(cmd.Context(), wanted)
		},
	}
	fs := cmd.Flags()
	fs.BoolVarP(&force, "force", "f", false, "Don't ask")
	fs.StringArrayVar(&filters, "filter", nil, "Remove only some: `KEY=VALUE` with label, label! or until (repeatable)")
	e.commonFlags(cmd)
	return cmd
}

// pruneNetworks is the network prune command.
func (e *Env) pruneNetworks(ctx context.Context, wanted networkFilter) error {
	cs, err := e.containers(ctx)
	if err != nil {
		return err
	}
	removed, err := cs.PruneNetworks(func(n run.Network) bool { return !wanted(n) })
	if len(removed) > 0 {
		fmt.Fprintln(e.Stdout, "Deleted Networks:")
		for _, n := range removed {
			fmt.Fprintln(e.Stdout, n.Name)
		}
		fmt.Fprintln(e.Stdout)
	}
	return err
}

// sweepNetworks removes bridges that nobody uses any more, after containers have been
// removed.
func (e *Env) sweepNetworks(ctx context.Context) error {
	cs, err := e.containers(ctx)
	if err != nil {
		return err
	}
	return cs.SweepNetworks()
}
