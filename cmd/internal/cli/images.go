package cli

import (
	"context"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"cooper/layers"
)

// imagesFlags are the flags of images as given.
type imagesFlags struct {
	all, digests, noTrunc, quiet bool
	format                       string
	filters                      []string
}

const imagesExample = `
  @                                  All images, newest first
  @ app                              Those named app
  @ --filter dangling=true -q        IDs of images without a name
  @ --format '{{.Repository}}:{{.Tag}} {{.Size}}'`

// newImages makes the images command.
func newImages(e *Env) *cobra.Command {
	var f imagesFlags
	cmd := &cobra.Command{
		Use:                   "images [OPTIONS] [NAME[:TAG]]",
		Aliases:               []string{"ls"},
		Short:                 "List images",
		Example:               imagesExample,
		DisableFlagsInUseLine: true,
		Args:                  cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			for _, name := range args {
				f.filters = append(f.filters, "reference="+name)
			}
			return e.images(cmd.Context(), &f)
		},
	}
	fs := cmd.Flags()
	fs.BoolVarP(&f.all, "all", "a", false, "Show the nameless images of indexes too")
	fs.BoolVar(&f.digests, "digests", false, "Show digests")
	fs.StringArrayVarP(&f.filters, "filter", "f", nil, "Show only some: `reference=PATTERN`, dangling=true, label=NAME[=VALUE] (repeatable)")
	fs.StringVar(&f.format, "format", "", "Print json, or a Go `TEMPLATE` for each image")
	fs.BoolVar(&f.noTrunc, "no-trunc", false, "Show whole IDs")
	fs.BoolVarP(&f.quiet, "quiet", "q", false, "Show only IDs")
	e.commonFlags(cmd)
	return cmd
}

// images is the images command.
func (e *Env) images(ctx context.Context, f *imagesFlags) error {
	filters, err := parseImageFilters(f.filters)
	if err != nil {
		return err
	}
	store, err := e.Store(ctx)
	if err != nil {
		return err
	}
	images, err := store.Images()
	if err != nil {
		return err
	}
	if !f.all {
		images = slices.DeleteFunc(images, func(i layers.Image) bool { return i.Listed && len(i.Names) == 0 })
	}
	rows := imageRows(images, filters, f.noTrunc, time.Now())
	if f.quiet {
		return printIDs(e, rows)
	}
	columns := []column{{"Repository", "REPOSITORY"}, {"Tag", "TAG"}}
	if f.digests {
		columns = append(columns, column{"Digest", "DIGEST"})
	}
	columns = append(columns, column{"ID", "IMAGE ID"}, column{"CreatedSince", "CREATED"}, column{"Size", "SIZE"})
	return printRows(e.Stdout, f.format, columns, rows)
}

// printIDs prints each ID once.
func printIDs(e *Env, rows []map[string]string) error {
	seen := make(map[string]bool)
	for _, row := range rows {
		if id := row["ID"]; !seen[id] {
			seen[id] = true
			if _, err := fmt.Fprintln(e.Stdout, id); err != nil {
				return err
			}
		}
	}
	return nil
}

const none = "<none>"

// imageRows makes a row for each name of each image, and one for an image
// without a name.
func imageRows(images []layers.Image, filters []imageFilter, noTrunc bool, now time.Time) []map[string]string {
	rows := []map[string]string{}
	for _, image := range images {
		names := image.Names
		if len(names) == 0 {
			names = []string{""}
		}
		for _, name := range names {
			wanted := func(f imageFilter) bool { return f(image, name) }
			if !slices.ContainsFunc(filters, func(f imageFilter) bool { return !wanted(f) }) {
				rows = append(rows, imageRow(image, name, noTrunc, now))
			}
		}
	}
	return rows
}

// imageRow makes the row of an image under one of its names, in docker's field
// names.
func imageRow(image layers.Image, name string, noTrunc bool, now time.Time) map[string]string {
	repository, tag, _ := splitName(name)
	id := shortID(image.ID)
	if noTrunc {
		id = "sha256:" + image.ID
	}
	row := map[string]string{
		"ID": id, "Repository": repository, "Tag": tag, "Digest": image.Digest.String(),
		"CreatedSince": ago(now, image.Created), "CreatedAt": image.Created.Local().Format("2006-01-02 15:04:05 -0700 MST"),
		"Size": humanSize(image.Size),
	}
	for _, field := range []string{"Repository", "Tag", "Digest"} {
		if row[field] == "" {
			row[field] = none
		}
	}
	return row
}

// splitName takes a full name apart.
func splitName(name string) (repository, tag, digest string) {
	name, digest, _ = strings.Cut(name, "@")
	if i := strings.LastIndexByte(name, ':'); i > strings.LastIndexByte(name, '/') {
		return name[:i], name[i+1:], digest
	}
	return name, "", digest
}

// imageFilter reports whether an image under one of its names, "" for none, is
// to be shown.
type imageFilter func(image layers.Image, name string) bool

// parseImageFilters reads --filter values. As with docker, an image must pass
// all kinds, and one of several filters of a kind.
func parseImageFilters(values []string) ([]imageFilter, error) {
	kinds := make(map[string][]imageFilter)
	for _, v := range values {
		key, value, found := strings.Cut(v, "=")
		if !found {
			return nil, fmt.Errorf("invalid filter %q: want NAME=VALUE", v)
		}
		var f imageFilter
		switch key {
		case "reference":
			f = func(_ layers.Image, name string) bool { return matchesName(value, name) }
		case "dangling":
			if value != "true" && value != "false" {
				return nil, fmt.Errorf("invalid filter %q: want dangling=true or dangling=false", v)
			}
			f = func(image layers.Image, _ string) bool { return (len(image.Names) == 0) == (value == "true") }
		case "label":
			name, want, exact := strings.Cut(value, "=")
			f = func(image layers.Image, _ string) bool {
				got, has := image.Config.Config.Labels[name]
				return has && (!exact || got == want)
			}
		default:
			return nil, fmt.Errorf("invalid filter %q: known are reference, dangling and label", key)
		}
		kinds[key] = append(kinds[key], f)
	}
	var filters []imageFilter
	for _, some := range kinds {
		filters = append(filters, func(image layers.Image, name string) bool {
			return slices.ContainsFunc(some, func(f imageFilter) bool { return f(image, name) })
		})
	}
	return filters, nil
}

// matchesName reports whether pattern, with * and ?, means name: all of it, or
// without the tag, or its last elements, so that "app" finds
// "localhost/app:latest" and "library/*" "docker.io/library/debian:12".
func matchesName(pattern, name string) bool {
	if name == "" {
		return false
	}
	repository, _, _ := splitName(name)
	for _, form := range []string{name, repository} {
		for {
			if ok, _ := path.Match(pattern, form); ok {
				return true
			}
			i := strings.IndexByte(form, '/')
			if i < 0 {
				break
			}
			form = form[i+1:]
		}
	}
	return false
}
