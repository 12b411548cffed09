package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"cooper/run"
)

// newVolume makes the volume command and those below it.
func newVolume(e *Env) *cobra.Command {
	cmd := newCommandGroup("volume", "Commands about volumes: directories that outlive containers")
	cmd.AddCommand(newVolumeCreate(e), newVolumeLs(e), newVolumeInspect(e), newVolumeRm(e), newVolumePrune(e))
	return cmd
}

func newVolumeCreate(e *Env) *cobra.Command {
	var driver, name string
	var labels, options []string
	var ignore bool
	cmd := &cobra.Command{
		Use:   "create [OPTIONS] [VOLUME]",
		Short: "Create a volume",
		Long: `Create a volume and print its name. Without a name it gets one.

A volume is a directory in the store, unless options say what is to be mounted
instead, in the words of mount(8).`,
		Example: `
  @ data
  @ -o type=tmpfs -o device=tmpfs -o o=size=100m scratch
  @ -o type=none -o o=bind -o device=/srv/data data`,
		DisableFlagsInUseLine: true,
		Args:                  rangeArgs(0, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				if name != "" {
					return errors.New("conflicting options: cannot specify a volume-name through both --name and as a positional arg")
				}
				name = args[0]
			}
			if driver != "local" {
				return fmt.Errorf("volume driver %q is not there: use local", driver)
			}
			return e.createVolume(cmd.Context(), name, labels, options, ignore)
		},
	}
	fs := cmd.Flags()
	fs.StringVarP(&driver, "driver", "d", "local", "Use `DRIVER` local")
	fs.StringArrayVar(&labels, "label", nil, "Label the volume: `KEY[=VALUE]` (repeatable)")
	fs.StringArrayVarP(&options, "opt", "o", nil, "Set `KEY=VALUE` type=, device= or o= (repeatable)")
	fs.BoolVar(&ignore, "ignore", false, "Leave a volume of that name as it is")
	fs.StringVar(&name, "name", "", "The same as VOLUME")
	fs.Lookup("name").Hidden = true
	e.commonFlags(cmd)
	return cmd
}

// createVolume is the volume create command.
func (e *Env) createVolume(ctx context.Context, name string, labels, options []string, ignore bool) error {
	var o run.VolumeOptions
	for _, l := range labels {
		if !strings.Contains(l, "=") {
			l += "="
		}
		if err := setPair(&o.Labels, l); err != nil {
			return fmt.Errorf("invalid label: %w", err)
		}
	}
	for _, opt := range options {
		if err := setPair(&o.Options, opt); err != nil {
			return fmt.Errorf("invalid --opt: %w", err)
		}
	}
	cs, err := e.containers(ctx)
	if err != nil {
		return err
	}
	v, err := cs.CreateVolume(name, o)
	if err != nil && ignore {
		if there, otherErr := cs.Volume(name); otherErr == nil {
			v, err = there, nil
		}
	}
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(e.Stdout, v.Name)
	return err
}

func newVolumeLs(e *Env) *cobra.Command {
	var quiet bool
	var format string
	var filters []string
	cmd := &cobra.Command{
		Use:                   "ls [OPTIONS]",
		Aliases:               []string{"list"},
		Short:                 "List volumes",
		DisableFlagsInUseLine: true,
		Args:                  exactArgs(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return e.listVolumes(cmd.Context(), quiet, format, filters)
		},
	}
	fs := cmd.Flags()
	fs.BoolVarP(&quiet, "quiet", "q", false, "Print names only")
	fs.StringArrayVarP(&filters, "filter", "f", nil, "Show only some: `KEY=VALUE` with dangling, driver, label or name (repeatable)")
	fs.StringVar(&format, "format", "", "Print json, or a Go `TEMPLATE` for each; with table in front with headings")
	e.commonFlags(cmd)
	return cmd
}

// volumeColumns are those of volume ls.
var volumeColumns = []column{{"Driver", "DRIVER"}, {"Name", "VOLUME NAME"}}

// volumeRow is a line of volume ls: docker's fields.
type volumeRow map[string]any

// Label returns the value of one label, for templates.
func (r volumeRow) Label(name string) string {
	labels, _ := r["Labels"].(labelSet)
	return labels[name]
}

// listVolumes is the volume ls command.
func (e *Env) listVolumes(ctx context.Context, quiet bool, format string, filters []string) error {
	wanted, err := parseVolumeFilters(filters, "dangling", "driver", "label", "name")
	if err != nil {
		return err
	}
	cs, err := e.containers(ctx)
	if err != nil {
		return err
	}
	list, err := cs.Volumes()
	if err != nil {
		return err
	}
	users, err := cs.VolumeUsers()
	if err != nil {
		return err
	}
	var rows []volumeRow
	for _, v := range list {
		if !wanted.match(v, len(users[v.Name])) {
			continue
		}
		if quiet && format == "" {
			if _, err := fmt.Fprintln(e.Stdout, v.Name); err != nil {
				return err
			}
			continue
		}
		rows = append(rows, volumeRow{
			"Name": v.Name, "Driver": v.Driver, "Scope": "local", "Mountpoint": v.Mountpoint,
			"Labels": labelSet(v.Labels), "Links": "N/A", "Size": "N/A",
			"Status": "N/A", "Availability": "N/A", "Group": "N/A",
		})
	}
	if quiet && format == "" {
		return nil
	}
	return printRows(e.Stdout, format, volumeColumns, rows)
}

// volumeFilters are the filters of volume ls and prune by key.
type volumeFilters map[string][]string

// parseVolumeFilters reads --filter values with the keys that are known.
func parseVolumeFilters(values []string, known ...string) (volumeFilters, error) {
	f := make(volumeFilters)
	for _, v := range values {
		key, value, found := strings.Cut(v, "=")
		if !found || !slices.Contains(known, key) {
			return nil, fmt.Errorf("invalid filter %q: want KEY=VALUE with one of the keys %s", v, strings.Join(known, ", "))
		}
		if key == "dangling" || key == "all" {
			on, err := strconv.ParseBool(value)
			if err != nil {
				return nil, fmt.Errorf("invalid filter %q: want true or false", v)
			}
			value = strconv.FormatBool(on)
		}
		f[key] = append(f[key], value)
	}
	return f, nil
}

// match reports whether a volume that this many containers have is meant: it
// matches one of the filters with each key, and of labels all.
func (f volumeFilters) match(v run.Volume, users int) bool {
	one := func(key string, matches func(value string) bool) bool {
		return len(f[key]) == 0 || slices.ContainsFunc(f[key], matches)
	}
	labelled := func(label string) bool {
		key, want, exact := strings.Cut(label, "=")
		got, has := v.Labels[key]
		return has && (!exact || got == want)
	}
	unlabelled := func(label string) bool { return !labelled(label) }
	return one("dangling", func(value string) bool { return value == strconv.FormatBool(users == 0) }) &&
		one("driver", func(value string) bool { return value == v.Driver }) &&
		one("name", func(value string) bool { return strings.Contains(v.Name, value) }) &&
		!slices.ContainsFunc(f["label"], unlabelled) && !slices.ContainsFunc(f["label!"], labelled)
}

func newVolumeInspect(e *Env) *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use:                   "inspect [OPTIONS] VOLUME [VOLUME...]",
		Short:                 "Show all that is known of volumes, as JSON",
		DisableFlagsInUseLine: true,
		Args:                  minArgs(1, statusError),
		RunE: func(cmd *cobra.Command, args []string) error {
			return e.inspect(cmd.Context(), inspection{kind: "volume"}, format, args)
		},
	}
	cmd.Flags().StringVarP(&format, "format", "f", "", "Print json, or a Go `TEMPLATE` for each")
	e.commonFlags(cmd)
	return cmd
}

// volumeInspect is what docker's inspect says of a volume.
type volumeInspect struct {
	CreatedAt  time.Time
	Driver     string
	Labels     map[string]string
	Mountpoint string
	Name       string
	Options    map[string]string
	Scope      string
}

// inspectVolume describes the volume with a name.
func (e *Env) inspectVolume(ctx context.Context, name string, _ inspection) (any, error) {
	cs, err := e.containers(ctx)
	if err != nil {
		return nil, err
	}
	v, err := cs.Volume(name)
	if errors.Is(err, run.ErrNoVolume) {
		return nil, errNoObject
	}
	if err != nil {
		return nil, err
	}
	return volumeInspect{
		CreatedAt: v.Created.Truncate(time.Second), Driver: v.Driver, Labels: v.Labels, Mountpoint: v.Mountpoint,
		Name: v.Name, Options: v.Options, Scope: "local",
	}, nil
}

func newVolumeRm(e *Env) *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use:                   "rm [OPTIONS] VOLUME [VOLUME...]",
		Aliases:               []string{"remove"},
		Short:                 "Remove volumes with their content",
		Long:                  "Remove volumes with their content. A volume that a container has, running or\nnot, can't be removed.",
		DisableFlagsInUseLine: true,
		Args:                  minArgs(1, statusError),
		RunE: func(cmd *cobra.Command, args []string) error {
			return e.removeVolumes(cmd.Context(), args, force)
		},
	}
	cmd.Flags().BoolVarP(&force, "force", "f", false, "Names of no volume are no error")
	e.commonFlags(cmd)
	return cmd
}

// removeVolumes is the volume rm command.
func (e *Env) removeVolumes(ctx context.Context, names []string, force bool) error {
	cs, err := e.containers(ctx)
	if err != nil {
		return err
	}
	var errs []error
	for _, name := range names {
		err := cs.RemoveVolume(name)
		if err == nil || force && errors.Is(err, run.ErrNoVolume) {
			_, err = fmt.Fprintln(e.Stdout, name)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func newVolumePrune(e *Env) *cobra.Command {
	var all, force bool
	var filters []string
	cmd := &cobra.Command{
		Use:                   "prune [OPTIONS]",
		Short:                 "Remove volumes that no container has",
		Long:                  "Remove anonymous volumes that no container has, running or not; with -a those\nwith a name as well.",
		DisableFlagsInUseLine: true,
		Args:                  exactArgs(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			wanted, err := parseVolumeFilters(filters, "all", "label", "label!")
			if err != nil {
				return err
			}
			all = all || slices.Contains(wanted["all"], "true")
			if !force {
				what := "anonymous local volumes not used by at least one container"
				if all {
					what = "all local volumes not used by at least one container"
				}
				if ok, err := e.confirm(what); err != nil || !ok {
					return err
				}
			}
			return e.pruneVolumes(cmd.Context(), wanted, all)
		},
	}
	fs := cmd.Flags()
	fs.BoolVarP(&all, "all", "a", false, "Remove volumes with a name too")
	fs.BoolVarP(&force, "force", "f", false, "Don't ask")
	fs.StringArrayVar(&filters, "filter", nil, "Remove only some: `KEY=VALUE` with label or label! (repeatable)")
	e.commonFlags(cmd)
	return cmd
}

// pruneVolumes is the volume prune command.
func (e *Env) pruneVolumes(ctx context.Context, wanted volumeFilters, all bool) error {
	cs, err := e.containers(ctx)
	if err != nil {
		return err
	}
	removed, freed, err := cs.PruneVolumes(ctx, run.PruneOptions{Keep: func(v run.Volume) bool {
		return !v.Anonymous && !all || !wanted.match(v, 0)
	}})
	if len(removed) > 0 {
		fmt.Fprintln(e.Stdout, "Deleted Volumes:")
		for _, v := range removed {
			fmt.Fprintln(e.Stdout, v.Name)
		}
		fmt.Fprintln(e.Stdout)
	}
	if err == nil {
		_, err = fmt.Fprintf(e.Stdout, "Total reclaimed space: %s\n", humanSize(freed))
	}
	return err
}
