package cli

import (
	"context"
	"fmt"
	"io"
	"maps"
	"time"

	"github.com/spf13/cobra"

	"cooper/layers"
	"cooper/run"
)

// newSystemDf makes the df command.
func newSystemDf(e *Env) *cobra.Command {
	var format string
	var verbose bool
	cmd := &cobra.Command{
		Use:                   "df [OPTIONS]",
		Short:                 "Show what takes how much of the disk",
		Long:                  "Show what takes how much of the disk, as du counts it: a layer that several images\nhave counts once.",
		Example:               "\n  @\n  @ -v",
		DisableFlagsInUseLine: true,
		Args:                  exactArgs(0),
		RunE:                  func(cmd *cobra.Command, _ []string) error { return e.df(cmd.Context(), verbose, format) },
	}
	fs := cmd.Flags()
	fs.StringVar(&format, "format", "", "Print json, or a Go `TEMPLATE` for each kind")
	fs.BoolVarP(&verbose, "verbose", "v", false, "Show every image, container, volume and cached layer")
	e.commonFlags(cmd)
	return cmd
}

// diskUse is what df shows.
type diskUse struct {
	store      layers.Usage
	containers []containerDisk
	volumes    []volumeDisk
	now        time.Time
}

type containerDisk struct {
	listed
	size int64
}

type volumeDisk struct {
	run.Volume
	size  int64
	users int
}

// df is the system df command.
func (e *Env) df(ctx context.Context, verbose bool, format string) error {
	if verbose && format != "" {
		return fmt.Errorf("--verbose has no --format")
	}
	use, err := e.diskUse(ctx)
	if err != nil {
		return err
	}
	if verbose {
		return use.printAll(e.Stdout)
	}
	columns := []column{
		{"Type", "TYPE"}, {"TotalCount", "TOTAL"}, {"Active", "ACTIVE"}, {"Size", "SIZE"}, {"Reclaimable", "RECLAIMABLE"},
	}
	return printRows(e.Stdout, format, columns, use.rows())
}

// diskUse measures everything.
func (e *Env) diskUse(ctx context.Context) (diskUse, error) {
	use := diskUse{now: time.Now()}
	cs, err := e.containers(ctx)
	if err != nil {
		return use, err
	}
	if use.store, err = e.store.Usage(ctx); err != nil {
		return use, err
	}
	all, err := listContainers(cs)
	if err != nil {
		return use, err
	}
	for _, c := range all {
		size, err := c.DiskUsage(ctx)
		if err != nil {
			return use, err
		}
		use.containers = append(use.containers, containerDisk{c, size})
	}
	volumes, err := cs.Volumes()
	if err != nil {
		return use, err
	}
	users, err := cs.VolumeUsers()
	if err != nil {
		return use, err
	}
	for _, v := range volumes {
		size, err := v.Size()
		if err != nil {
			return use, err
		}
		use.volumes = append(use.volumes, volumeDisk{v, size, len(users[v.Name])})
	}
	return use, nil
}

// rows are df's lines.
func (u *diskUse) rows() []map[string]string {
	active := 0
	for _, i := range u.store.Images {
		if i.Containers > 0 {
			active++
		}
	}
	rows := []map[string]string{diskRow("Images", len(u.store.Images), active, u.store.ImagesSize, u.store.ImagesFree)}
	var size, free int64
	active = 0
	foreign := maps.Clone(u.store.Containers) // podman's and buildah's
	for _, c := range u.containers {
		delete(foreign, c.options.ID)
		size += c.size
		if c.state.Alive() {
			active++
		} else {
			free += c.size
		}
	}
	for _, s := range foreign {
		size += s
	}
	rows = append(rows, diskRow("Containers", len(u.containers)+len(foreign), active+len(foreign), size, free))
	size, free, active = 0, 0, 0
	for _, v := range u.volumes {
		size += v.size
		if v.users > 0 {
			active++
		} else {
			free += v.size
		}
	}
	rows = append(rows, diskRow("Local Volumes", len(u.volumes), active, size, free))
	return append(rows, diskRow("Build Cache", len(u.store.Cache), 0, u.store.CacheSize, u.store.CacheSize))
}

func diskRow(kind string, total, active int, size, free int64) map[string]string {
	reclaimable := humanSize(free)
	if size > 0 {
		reclaimable += fmt.Sprintf(" (%d%%)", free*100/size)
	}
	return map[string]string{
		"Type": kind, "TotalCount": fmt.Sprint(total), "Active": fmt.Sprint(active), "Size": humanSize(size), "Reclaimable": reclaimable,
	}
}

// printAll prints one table for each kind.
func (u *diskUse) printAll(w io.Writer) error {
	sections := []struct {
		title   string
		columns []column
		rows    []map[string]string
	}{
		{"Images space usage:", []column{
			{"Repository", "REPOSITORY"}, {"Tag", "TAG"}, {"ID", "IMAGE ID"}, {"CreatedSince", "CREATED"},
			{"Size", "SIZE"}, {"SharedSize", "SHARED SIZE"}, {"UniqueSize", "UNIQUE SIZE"}, {"Containers", "CONTAINERS"},
		}, u.imageRows()},
		{"Containers space usage:", []column{
			{"ID", "CONTAINER ID"}, {"Image", "IMAGE"}, {"Command", "COMMAND"}, {"LocalVolumes", "LOCAL VOLUMES"},
			{"Size", "SIZE"}, {"RunningFor", "CREATED"}, {"Status", "STATUS"}, {"Names", "NAMES"},
		}, u.containerRows()},
		{"Local Volumes space usage:", []column{{"Name", "VOLUME NAME"}, {"Links", "LINKS"}, {"Size", "SIZE"}}, u.volumeRows()},
		{fmt.Sprintf("Build cache usage: %s", humanSize(u.store.CacheSize)), []column{{"ID", "CACHE ID"}, {"Size", "SIZE"}}, u.cacheRows()},
	}
	for i, s := range sections {
		if i > 0 {
			fmt.Fprintln(w)
		}
		fmt.Fprintf(w, "%s\n\n", s.title)
		if err := printTable(w, s.columns, s.rows); err != nil {
			return err
		}
	}
	return nil
}

func (u *diskUse) imageRows() []map[string]string {
	var rows []map[string]string
	for _, i := range u.store.Images {
		names := i.Image.Names
		if len(names) == 0 {
			names = []string{""}
		}
		for _, name := range names {
			row := imageRow(i.Image, name, false, u.now)
			row["Size"], row["SharedSize"], row["UniqueSize"] = humanSize(i.Size), humanSize(i.Shared), humanSize(i.Size-i.Shared)
			row["Containers"] = fmt.Sprint(i.Containers)
			rows = append(rows, row)
		}
	}
	return rows
}

func (u *diskUse) containerRows() []map[string]string {
	var rows []map[string]string
	for _, c := range u.containers {
		row := make(map[string]string)
		for field, value := range newContainerRow(c.options, c.state, u.now, false) {
			row[field] = fmt.Sprint(value)
		}
		row["Size"] = humanSize(c.size)
		rows = append(rows, row)
	}
	return rows
}

func (u *diskUse) volumeRows() []map[string]string {
	var rows []map[string]string
	for _, v := range u.volumes {
		rows = append(rows, map[string]string{"Name": v.Name, "Links": fmt.Sprint(v.users), "Size": humanSize(v.size)})
	}
	return rows
}

func (u *diskUse) cacheRows() []map[string]string {
	var rows []map[string]string
	for _, l := range u.store.Cache {
		rows = append(rows, map[string]string{"ID": shortID(l.Layer.ID), "Size": humanSize(l.Size)})
	}
	return rows
}
