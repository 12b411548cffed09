package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"cooper/layers"
	"cooper/run"
)

// newSystem makes the system command.
func newSystem(e *Env) *cobra.Command {
	cmd := newCommandGroup("system", "Commands about the whole: disk usage, what is here, tidying up")
	cmd.AddCommand(newSystemDf(e), newEvents(e), newInfo(e), newSystemPrune(e))
	return cmd
}

// pruneFlags are the flags of system prune as given.
type pruneFlags struct {
	all, force, volumes bool
	filters             []string
}

// newSystemPrune makes the prune command of all kinds of things.
func newSystemPrune(e *Env) *cobra.Command {
	var f pruneFlags
	cmd := &cobra.Command{
		Use:   "prune [OPTIONS]",
		Short: "Remove what is not in use",
		Long: `Remove stopped containers, networks without containers, images without a name and
the build cache; with -a all images that no container uses, with --volumes
anonymous volumes that no container uses.`,
		Example:               "\n  @\n  @ -a -f --volumes",
		DisableFlagsInUseLine: true,
		Args:                  exactArgs(0),
		RunE:                  func(cmd *cobra.Command, _ []string) error { return e.systemPrune(cmd.Context(), &f) },
	}
	fs := cmd.Flags()
	fs.BoolVarP(&f.all, "all", "a", false, "Remove all images that no container uses")
	fs.BoolVarP(&f.force, "force", "f", false, "Don't ask")
	fs.BoolVar(&f.volumes, "volumes", false, "Remove anonymous volumes too")
	fs.StringArrayVar(&f.filters, "filter", nil, "Remove only some containers and networks, and no cache: `KEY=VALUE` with label, label! or until (repeatable)")
	e.commonFlags(cmd)
	return cmd
}

// confirmed asks, unless -f says that it need not.
func (f *pruneFlags) confirmed(e *Env) (bool, error) {
	if f.force {
		return true, nil
	}
	what := []string{"all stopped containers", "all networks not used by at least one container"}
	if f.volumes {
		what = append(what, "all anonymous volumes not used by at least one container")
	}
	if f.all {
		what = append(what, "all images without at least one container associated to them")
	} else {
		what = append(what, "all dangling images")
	}
	if len(f.filters) == 0 {
		what = append(what, "the build cache")
	}
	fmt.Fprintf(e.Stdout, "WARNING! This will remove:\n  - %s\n\nAre you sure you want to continue? [y/N] ", strings.Join(what, "\n  - "))
	return e.yes()
}

// systemPrune is the system prune command.
func (e *Env) systemPrune(ctx context.Context, f *pruneFlags) error {
	wanted, err := parseContainerFilters(f.filters, true)
	if err != nil {
		return err
	}
	wantedNetworks, err := parseNetworkFilters(f.filters, time.Now(), pruneKeys...)
	if err != nil {
		return err
	}
	if ok, err := f.confirmed(e); err != nil || !ok {
		return err
	}
	store, err := e.Store(ctx)
	if err != nil {
		return err
	}
	before, err := layers.DiskUsage(ctx, store.Root())
	if err != nil {
		return err
	}
	_, err = e.pruneContainers(ctx, wanted)
	errs := []error{err, e.pruneNetworks(ctx, wantedNetworks)}
	if f.volumes {
		errs = append(errs, e.pruneAnonymousVolumes(ctx))
	}
	errs = append(errs, e.pruneImages(ctx, f.all))
	if len(f.filters) == 0 {
		errs = append(errs, e.pruneCache(ctx, store))
	}
	after, err := layers.DiskUsage(ctx, store.Root())
	if err := errors.Join(append(errs, err)...); err != nil {
		return err
	}
	_, err = fmt.Fprintf(e.Stdout, "Total reclaimed space: %s\n", humanSize(max(before-after, 0)))
	return err
}

// pruneAnonymousVolumes removes the anonymous volumes that no container has.
func (e *Env) pruneAnonymousVolumes(ctx context.Context) error {
	cs, err := e.containers(ctx)
	if err != nil {
		return err
	}
	removed, _, err := cs.PruneVolumes(ctx, run.PruneOptions{Keep: func(v run.Volume) bool { return !v.Anonymous }})
	if len(removed) > 0 {
		fmt.Fprintln(e.Stdout, "Deleted Volumes:")
		for _, v := range removed {
			fmt.Fprintln(e.Stdout, v.Name)
		}
		fmt.Fprintln(e.Stdout)
	}
	return err
}

// pruneCache removes the build cache, if nobody uses it just now.
func (e *Env) pruneCache(ctx context.Context, store *layers.Store) error {
	removed, _, err := store.PruneCache(ctx)
	if errors.Is(err, layers.ErrInUse) {
		_, err = fmt.Fprintln(e.Stderr, "The build cache stays: a build or a container in the foreground is at work.")
		return err
	}
	if err != nil || removed == 0 {
		return err
	}
	_, err = fmt.Fprintf(e.Stdout, "Deleted build cache layers: %d\n\n", removed)
	return err
}

// newInfo makes the info command.
func newInfo(e *Env) *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use:                   "info [OPTIONS]",
		Short:                 "Show what is here: containers, images, storage, kernel",
		Example:               "\n  @ --format '{{.Driver}} {{.CgroupVersion}}'",
		DisableFlagsInUseLine: true,
		Args:                  exactArgs(0),
		RunE:                  func(cmd *cobra.Command, _ []string) error { return e.info(cmd.Context(), format) },
	}
	cmd.Flags().StringVarP(&format, "format", "f", "", "Print json, or a Go `TEMPLATE`")
	e.commonFlags(cmd)
	return cmd
}
