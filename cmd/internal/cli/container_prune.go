package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"cooper/run"
)

// newContainerPrune makes the prune command of containers.
func newContainerPrune(e *Env) *cobra.Command {
	var force bool
	var filters []string
	cmd := &cobra.Command{
		Use:                   "prune [OPTIONS]",
		Short:                 "Remove all containers that don't run",
		Example:               "\n  @ -f --filter until=24h",
		DisableFlagsInUseLine: true,
		Args:                  exactArgs(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			wanted, err := parseContainerFilters(filters, true)
			if err != nil {
				return err
			}
			if !force {
				if ok, err := e.confirm("all stopped containers"); err != nil || !ok {
					return err
				}
			}
			freed, err := e.pruneContainers(cmd.Context(), wanted)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(e.Stdout, "Total reclaimed space: %s\n", humanSize(freed))
			return err
		},
	}
	fs := cmd.Flags()
	fs.BoolVarP(&force, "force", "f", false, "Don't ask")
	fs.StringArrayVar(&filters, "filter", nil, "Remove only some: `KEY=VALUE` with label, label! or until (repeatable)")
	e.commonFlags(cmd)
	return cmd
}

// pruneContainers removes the containers that don't run, says which, and returns
// how many bytes they took.
func (e *Env) pruneContainers(ctx context.Context, wanted *containerFilter) (freed int64, err error) {
	cs, err := e.containers(ctx)
	if err != nil {
		return 0, err
	}
	all, err := listContainers(cs)
	if err != nil {
		return 0, err
	}
	var errs []error
	first := true
	for _, c := range all {
		if c.state.Alive() || !wanted.match(c) {
			continue
		}
		size, err := c.DiskUsage(ctx)
		if err == nil {
			err = c.Remove(ctx, run.RemoveOptions{})
		}
		if errors.Is(err, run.ErrNoContainer) || errors.Is(err, run.ErrRunning) {
			continue // somebody was faster
		}
		if errs = append(errs, err); err != nil {
			continue
		}
		if first {
			fmt.Fprintln(e.Stdout, "Deleted Containers:")
			first = false
		}
		fmt.Fprintln(e.Stdout, c.ID())
		freed += size
	}
	if !first {
		fmt.Fprintln(e.Stdout)
	}
	return freed, errors.Join(errs...)
}
