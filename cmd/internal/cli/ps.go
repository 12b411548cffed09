package cli

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"cooper/run"
)

// psFlags are the flags of ps as given.
type psFlags struct {
	all, latest, noTrunc, quiet, size bool
	last                              int
	format                            string
	filters                           []string
}

const psExample = `
  @                                    What runs
  @ -a --filter status=exited          What has ended
  @ -q --filter label=app=web          IDs of containers with a label
  @ --format '{{.Names}}: {{.Status}}'`

// newPs makes the ps command.
func newPs(e *Env) *cobra.Command {
	var f psFlags
	cmd := &cobra.Command{
		Use:                   "ps [OPTIONS]",
		Short:                 "List containers",
		Example:               psExample,
		DisableFlagsInUseLine: true,
		Args:                  exactArgs(0),
		RunE:                  func(cmd *cobra.Command, _ []string) error { return e.ps(cmd.Context(), &f) },
	}
	fs := cmd.Flags()
	fs.BoolVarP(&f.all, "all", "a", false, "Show all containers, not only those that run")
	fs.StringArrayVarP(&f.filters, "filter", "f", nil, "Show only some: `KEY=VALUE` with ancestor, before, exited, expose, health, id, label, name, network, publish, restart-policy, should-start-on-boot, since, status or volume (repeatable)")
	fs.StringVar(&f.format, "format", "", "Print json, or a Go `TEMPLATE` for each container")
	fs.IntVarP(&f.last, "last", "n", -1, "Show the `N` containers that were made last")
	fs.BoolVarP(&f.latest, "latest", "l", false, "Show the container that was made last")
	fs.BoolVar(&f.noTrunc, "no-trunc", false, "Show whole IDs and commands")
	fs.BoolVarP(&f.quiet, "quiet", "q", false, "Show only IDs")
	fs.BoolVarP(&f.size, "size", "s", false, "Show how much was written")
	e.commonFlags(cmd)
	return cmd
}

// listed is a container and its state at one moment.
type listed struct {
	*run.Container
	options run.ContainerOptions
	state   run.State
}

// listContainers lists the containers with their states, the newest first.
func listContainers(cs *run.Containers) ([]listed, error) {
	all, states, err := cs.ListStates()
	if err != nil {
		return nil, err
	}
	list := make([]listed, len(all))
	for i, c := range all {
		list[i] = listed{c, c.Options(), states[i]}
	}
	return list, nil
}

// ps is the ps command.
func (e *Env) ps(ctx context.Context, f *psFlags) error {
	filter, err := parseContainerFilters(f.filters, false)
	if err != nil {
		return err
	}
	cs, err := e.containers(ctx)
	if err != nil {
		return err
	}
	all, err := listContainers(cs)
	if err != nil {
		return err
	}
	if err := filter.resolve(ctx, e, all); err != nil {
		return err
	}
	last := f.last
	if f.latest {
		last = 1
	}
	now := time.Now()
	rows := []containerRow{}
	for _, c := range all {
		if last >= 0 && len(rows) == last {
			break
		}
		if !f.all && last < 0 && !filter.states && !c.state.Alive() || !filter.match(c) {
			continue
		}
		row := newContainerRow(c.options, c.state, now, f.noTrunc)
		if f.size || strings.Contains(f.format, ".Size") {
			use, err := layerUse(ctx, e.store, c.Container)
			if err != nil {
				return err
			}
			row["Size"] = use.String()
		}
		rows = append(rows, row)
	}
	return e.printContainers(rows, f)
}

func (e *Env) printContainers(rows []containerRow, f *psFlags) error {
	if f.quiet && f.format == "" {
		for _, row := range rows {
			if _, err := fmt.Fprintln(e.Stdout, row["ID"]); err != nil {
				return err
			}
		}
		return nil
	}
	columns := []column{
		{"ID", "CONTAINER ID"}, {"Image", "IMAGE"}, {"Command", "COMMAND"}, {"RunningFor", "CREATED"},
		{"Status", "STATUS"}, {"Ports", "PORTS"}, {"Names", "NAMES"},
	}
	if f.size {
		columns = append(columns, column{"Size", "SIZE"})
	}
	return printRows(e.Stdout, f.format, columns, rows)
}
