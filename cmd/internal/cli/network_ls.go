package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"cooper/run"
)

// listNetworksFlags are the flags of network ls as given.
type listNetworksFlags struct {
	quiet, noTrunc bool
	format         string
	filters        []string
}

func newNetworkLs(e *Env) *cobra.Command {
	var f listNetworksFlags
	cmd := &cobra.Command{
		Use:                   "ls [OPTIONS]",
		Aliases:               []string{"list"},
		Short:                 "List networks",
		Example:               "\n  @ -q --filter type=custom\n  @ --format '{{.Name}}: {{.Driver}}'",
		DisableFlagsInUseLine: true,
		Args:                  exactArgs(0),
		RunE:                  func(cmd *cobra.Command, _ []string) error { return e.listNetworks(cmd.Context(), &f) },
	}
	fs := cmd.Flags()
	fs.BoolVarP(&f.quiet, "quiet", "q", false, "Print IDs only")
	fs.BoolVar(&f.noTrunc, "no-trunc", false, "Show whole IDs")
	fs.StringArrayVarP(&f.filters, "filter", "f", nil, "Show only some: `KEY=VALUE` with dangling, driver, id, label, name, scope, type or until (repeatable)")
	fs.StringVar(&f.format, "format", "", "Print json, or a Go `TEMPLATE` for each; with table in front with headings")
	e.commonFlags(cmd)
	return cmd
}

// networkColumns are those of network ls.
var networkColumns = []column{{"ID", "NETWORK ID"}, {"Name", "NAME"}, {"Driver", "DRIVER"}, {"Scope", "SCOPE"}}

// networkRow is a line of network ls: docker's fields.
type networkRow map[string]any

// Label returns the value of one label, for templates.
func (r networkRow) Label(name string) string {
	labels, _ := r["Labels"].(labelSet)
	return labels[name]
}

// listNetworks is the network ls command.
func (e *Env) listNetworks(ctx context.Context, f *listNetworksFlags) error {
	dangling, rest := splitDangling(f.filters)
	wanted, err := parseNetworkFilters(rest, time.Now(), "driver", "id", "label", "name", "scope", "type", "until")
	if err != nil {
		return err
	}
	cs, err := e.containers(ctx)
	if err != nil {
		return err
	}
	all, err := cs.Networks()
	if err != nil {
		return err
	}
	if len(dangling) > 0 {
		if wanted, err = e.danglingNetworks(cs, wanted, dangling); err != nil {
			return err
		}
	}
	var rows []networkRow
	for _, n := range all {
		if !wanted(n) {
			continue
		}
		id := n.ID
		if !f.noTrunc {
			id = shortID(id)
		}
		if f.quiet {
			if _, err := fmt.Fprintln(e.Stdout, id); err != nil {
				return err
			}
			continue
		}
		rows = append(rows, networkRow{
			"ID": id, "Name": n.Name, "Driver": n.Driver, "Scope": "local", "Labels": labelSet(n.Labels),
			"CreatedAt": n.Created.Local().Format("2006-01-02 15:04:05 -0700 MST"),
			"IPv4":      fmt.Sprint(n.Subnet.IsValid()), "IPv6": fmt.Sprint(n.Subnet6.IsValid()), "Internal": fmt.Sprint(n.Internal),
		})
	}
	if f.quiet {
		return nil
	}
	return printRows(e.Stdout, f.format, networkColumns, rows)
}

// splitDangling takes the filters for dangling out: they need the containers.
func splitDangling(filters []string) (dangling, rest []string) {
	for _, f := range filters {
		if strings.HasPrefix(f, "dangling=") {
			dangling = append(dangling, strings.TrimPrefix(f, "dangling="))
		} else {
			rest = append(rest, f)
		}
	}
	return dangling, rest
}

// danglingNetworks adds a filter for networks that no container is on, or that one
// is on.
func (e *Env) danglingNetworks(cs *run.Containers, wanted networkFilter, values []string) (networkFilter, error) {
	users, err := cs.NetworkUsers()
	if err != nil {
		return nil, err
	}
	for _, v := range values {
		if v != "true" && v != "false" {
			return nil, fmt.Errorf("invalid filter \"dangling=%s\": want true or false", v)
		}
	}
	return func(n run.Network) bool {
		unused := len(users[n.Name]) == 0 && n.Driver == "bridge" && n.Name != defaultNetwork
		return wanted(n) && slices.Contains(values, fmt.Sprint(unused))
	}, nil
}

// networkFilter reports whether a network is wanted.
type networkFilter func(run.Network) bool

// parseNetworkFilters reads --filter values with keys that are known. A network has to
// match one of those with the same key, and of labels all.
func parseNetworkFilters(values []string, now time.Time, known ...string) (networkFilter, error) {
	given := map[string][]networkFilter{}
	for _, v := range values {
		key, value, found := strings.Cut(v, "=")
		if !found || !slices.Contains(known, key) {
			return nil, fmt.Errorf("invalid filter %q: want KEY=VALUE with one of the keys %s", v, strings.Join(known, ", "))
		}
		f, err := networkFilterOf(key, value, now)
		if err != nil {
			return nil, fmt.Errorf("invalid filter %q: %w", v, err)
		}
		given[key] = append(given[key], f)
	}
	return func(n run.Network) bool {
		for key, filters := range given {
			matches := func(f networkFilter) bool { return f(n) }
			fails := func(f networkFilter) bool { return !f(n) }
			if key == "label" || key == "label!" {
				if slices.ContainsFunc(filters, fails) {
					return false
				}
			} else if !slices.ContainsFunc(filters, matches) {
				return false
			}
		}
		return true
	}, nil
}

func networkFilterOf(key, value string, now time.Time) (networkFilter, error) {
	switch key {
	case "driver":
		return func(n run.Network) bool { return n.Driver == value }, nil
	case "id":
		return func(n run.Network) bool { return strings.HasPrefix(n.ID, value) }, nil
	case "name":
		return func(n run.Network) bool { return strings.Contains(n.Name, value) }, nil
	case "scope":
		return func(run.Network) bool { return value == "local" }, nil
	case "type":
		if value != "custom" && value != "builtin" {
			return nil, errors.New("want custom or builtin")
		}
		return func(n run.Network) bool { return run.IsBuiltInNetwork(n.Name) == (value == "builtin") }, nil
	case "until":
		t, err := parseTime(value, now)
		if err != nil {
			return nil, err
		}
		return func(n run.Network) bool { return n.Created.Before(t) }, nil
	}
	name, want, exact := strings.Cut(value, "=")
	return func(n run.Network) bool {
		got, has := n.Labels[name]
		return (has && (!exact || got == want)) == (key == "label")
	}, nil
}
