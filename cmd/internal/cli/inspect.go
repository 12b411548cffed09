package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/spf13/cobra"

	"cooper/layers"
)

const inspectExample = `
  @ web
  @ --format '{{.State.Status}} {{.NetworkSettings.IPAddress}}' web
  @ --format '{{json .Config.Labels}}' --type image app`

// newInspect makes the inspect command, of things of one kind or, with kind "",
// of all.
func newInspect(e *Env, kind string) *cobra.Command {
	var format string
	var size bool
	cmd := &cobra.Command{
		Use:                   "inspect [OPTIONS] NAME [NAME...]",
		Short:                 "Show all that is known of a container, image, volume or network, as JSON",
		Example:               inspectExample,
		DisableFlagsInUseLine: true,
		Args:                  minArgs(1, statusError),
		RunE: func(cmd *cobra.Command, args []string) error {
			return e.inspect(cmd.Context(), inspection{kind: kind, size: size}, format, args)
		},
	}
	fs := cmd.Flags()
	fs.StringVarP(&format, "format", "f", "", "Print json, or a Go `TEMPLATE` for each")
	if kind == "" {
		fs.StringVar(&kind, "type", "", "Inspect only things of this `TYPE`: container, image, volume or network")
	}
	if kind != "image" {
		fs.BoolVarP(&size, "size", "s", false, "Measure how much containers wrote")
	}
	e.commonFlags(cmd)
	return cmd
}

// inspection says how to inspect.
type inspection struct {
	// kind is that of the things to look for; "" means any.
	kind string
	size bool
}

// imageInspect is what docker's inspect says of an image.
type imageInspect struct {
	ID           string `json:"Id"`
	RepoTags     []string
	RepoDigests  []string
	Parent       string
	Comment      string
	Created      time.Time
	Author       string
	Config       dockerspec.DockerOCIImageConfig
	Architecture string
	Variant      string `json:",omitempty"`
	OS           string `json:"Os"`
	Size         int64
	GraphDriver  graphDriver
	RootFS       rootFS
	Metadata     struct{}
}

type graphDriver struct {
	Name string
	Data map[string]string
}

type rootFS struct {
	Type   string
	Layers []digest.Digest
}

// errNoObject is what a lookup of a thing of one kind answers.
var errNoObject = errors.New("no such object")

// inspector describes the thing with a name, or answers errNoObject.
type inspector struct {
	kind    string
	inspect func(ctx context.Context, name string, o inspection) (any, error)
}

// inspectors are those of all kinds, in the order in which names are looked up.
func (e *Env) inspectors() []inspector {
	return []inspector{{"container", e.inspectContainer}, {"image", e.inspectImage}, {"volume", e.inspectVolume}, {"network", e.inspectNetwork}}
}

// inspect is the inspect command. What is there is shown, also when something
// else is missing.
func (e *Env) inspect(ctx context.Context, o inspection, format string, names []string) error {
	var kinds []string
	all := e.inspectors()
	for _, one := range all {
		kinds = append(kinds, one.kind)
	}
	if o.kind != "" && !slices.Contains(kinds, o.kind) {
		return fmt.Errorf("invalid --type %q: want one of %s", o.kind, strings.Join(kinds, ", "))
	}
	if _, err := e.Store(ctx); err != nil {
		return err
	}
	found := []any{}
	var missing []error
	for _, name := range names {
		object, err := inspectOne(ctx, all, name, o)
		if err != nil {
			missing = append(missing, err)
			continue
		}
		found = append(found, object)
	}
	if err := e.printInspected(format, found); err != nil {
		return err
	}
	return errors.Join(missing...)
}

// inspectOne describes the first thing with a name.
func inspectOne(ctx context.Context, all []inspector, name string, o inspection) (any, error) {
	for _, one := range all {
		if o.kind != "" && o.kind != one.kind {
			continue
		}
		object, err := one.inspect(ctx, name, o)
		if !errors.Is(err, errNoObject) {
			return object, err
		}
	}
	if o.kind != "" {
		return nil, fmt.Errorf("no such %s: %s", o.kind, name)
	}
	return nil, fmt.Errorf("no such object: %s", name)
}

// inspectImage describes the image with a name.
func (e *Env) inspectImage(_ context.Context, name string, _ inspection) (any, error) {
	image, err := imageToShow(e.store, name)
	if errors.Is(err, layers.ErrNotFound) {
		return nil, errNoObject
	}
	if err != nil {
		return nil, err
	}
	return describeImage(image, e.store.DriverName()), nil
}

// imageToShow finds the image to show for a name: of an index, under its names,
// the one for this machine, else the first.
func imageToShow(store *layers.Store, name string) (layers.Image, error) {
	found, err := store.Image(name)
	if err != nil || !found.IsIndex() {
		return found, err
	}
	image, err := store.ImageFor(found.ID, ocispec.Platform{})
	if errors.Is(err, layers.ErrNotFound) && len(found.Manifests) > 0 {
		image, err = store.Image(found.Manifests[0].Digest.String())
	}
	image.Names, image.Digest = found.Names, found.Digest
	return image, err
}

// describeImage describes image.
func describeImage(image layers.Image, driver string) imageInspect {
	in := imageInspect{
		ID:           "sha256:" + image.ID,
		RepoTags:     []string{},
		RepoDigests:  []string{},
		Created:      image.Created.UTC(),
		Author:       image.Config.Author,
		Config:       image.Config.Config,
		Architecture: image.Config.Architecture,
		Variant:      image.Config.Variant,
		OS:           image.Config.OS,
		Size:         image.Size,
		GraphDriver:  graphDriver{Name: driver, Data: map[string]string{}},
		RootFS:       rootFS{Type: "layers", Layers: image.Config.RootFS.DiffIDs},
	}
	if n := len(image.Config.History); n > 0 {
		in.Comment = image.Config.History[n-1].Comment
	}
	seen := make(map[string]bool)
	for _, name := range image.Names {
		repository, tag, _ := splitName(name)
		if tag != "" {
			in.RepoTags = append(in.RepoTags, name)
		}
		if d := repository + "@" + image.Digest.String(); image.Digest != "" && !seen[d] {
			seen[d] = true
			in.RepoDigests = append(in.RepoDigests, d)
		}
	}
	return in
}

// printInspected prints objects as an array, or each as format says.
func (e *Env) printInspected(format string, objects []any) error {
	if format == "" || format == "json" {
		enc := json.NewEncoder(e.Stdout)
		enc.SetEscapeHTML(false)
		if format == "" {
			enc.SetIndent("", "    ")
		}
		return enc.Encode(objects)
	}
	t, err := parseTemplate(format)
	if err != nil {
		return err
	}
	for _, object := range objects {
		tree, err := toTree(object)
		if err != nil {
			return err
		}
		if err := t.Execute(e.Stdout, tree); err != nil {
			return fmt.Errorf("--format: %w", err)
		}
		fmt.Fprintln(e.Stdout)
	}
	return nil
}
