package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/opencontainers/go-digest"
	"github.com/spf13/cobra"

	"cooper/layers"
)

const inspectExample = `
  @ app
  @ --format '{{.Config.Cmd}}' app
  @ --format '{{json .Config.Labels}}' app`

// newInspect makes the inspect command.
func newInspect(e *Env) *cobra.Command {
	var format, kind string
	cmd := &cobra.Command{
		Use:                   "inspect [OPTIONS] IMAGE [IMAGE...]",
		Short:                 "Show all that is known of an image, as JSON",
		Example:               inspectExample,
		DisableFlagsInUseLine: true,
		Args:                  minArgs(1, statusError),
		RunE: func(cmd *cobra.Command, args []string) error {
			if kind != "" && kind != "image" {
				return fmt.Errorf("invalid --type %q: only images can be inspected yet", kind)
			}
			return e.inspect(cmd.Context(), format, args)
		},
	}
	fs := cmd.Flags()
	fs.StringVarP(&format, "format", "f", "", "Print json, or a Go `TEMPLATE` for each image")
	fs.StringVar(&kind, "type", "", "Inspect only things of this `TYPE`: image")
	e.commonFlags(cmd)
	return cmd
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

// inspect is the inspect command. What is there is shown, also when something
// else is missing.
func (e *Env) inspect(ctx context.Context, format string, names []string) error {
	store, err := e.Store(ctx)
	if err != nil {
		return err
	}
	found := []imageInspect{}
	var missing []error
	for _, name := range names {
		image, err := store.Image(name)
		if errors.Is(err, layers.ErrNotFound) {
			missing = append(missing, fmt.Errorf("no such object: %s", name))
			continue
		}
		if err != nil {
			return err
		}
		found = append(found, inspectImage(image, store.DriverName()))
	}
	if err := e.printInspected(format, found); err != nil {
		return err
	}
	return errors.Join(missing...)
}

// inspectImage describes image.
func inspectImage(image layers.Image, driver string) imageInspect {
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

// toTree turns v into what its JSON holds, so that templates use the JSON's
// names.
func toTree(v any) (any, error) {
	text, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.UseNumber()
	var tree any
	err = dec.Decode(&tree)
	return tree, err
}

// printInspected prints objects as an array, or each as format says.
func (e *Env) printInspected(format string, objects []imageInspect) error {
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
