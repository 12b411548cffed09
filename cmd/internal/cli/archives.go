package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/containerd/platforms"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/spf13/cobra"

	"cooper/builder/output"
	"cooper/layers"
	"cooper/registry"
)

// newSave makes the save command.
func newSave(e *Env) *cobra.Command {
	var file, format string
	var quiet bool
	cmd := &cobra.Command{
		Use:   "save [OPTIONS] IMAGE [IMAGE...]",
		Short: "Write images to an archive",
		Long: `Write images to an archive, by default as docker save does: docker, podman and
tools for OCI image layouts read it.`,
		Example:               "\n  @ -o app.tar app:1.2\n  @ app db | ssh host cooper load",
		DisableFlagsInUseLine: true,
		Args:                  minArgs(1, statusError),
		RunE: func(cmd *cobra.Command, args []string) error {
			if file == "" && terminal(e.Stdout) {
				return withHint(errors.New("cowardly refusing to save to a terminal"), "Name a file with -o, or redirect standard output.")
			}
			return e.save(cmd.Context(), format, or(file, output.Stdout), args)
		},
	}
	fs := cmd.Flags()
	fs.StringVarP(&file, "output", "o", "", "Write to `FILE` (default standard output)")
	fs.StringVar(&format, "format", "docker-archive", "Write `FORMAT` docker-archive or oci-archive")
	fs.BoolVarP(&quiet, "quiet", "q", false, "For podman's sake: nothing is printed anyway")
	e.commonFlags(cmd)
	return cmd
}

// save is the save command.
func (e *Env) save(ctx context.Context, format, file string, names []string) error {
	o := registry.ArchiveOptions{Docker: true, Compression: registry.Uncompressed}
	out := output.Output{Type: output.Docker, Dest: file}
	switch format {
	case "docker-archive":
	case "oci-archive":
		o, out.Type = registry.ArchiveOptions{}, output.OCI
	default:
		return fmt.Errorf("invalid format %q: want docker-archive or oci-archive", format)
	}
	if err := out.Check(); err != nil {
		return err
	}
	store, err := e.Store(ctx)
	if err != nil {
		return err
	}
	images, err := savedImages(store, names)
	if err != nil {
		return err
	}
	ctx, stop := interruptible(ctx)
	defer stop()
	client := &registry.Client{Store: store}
	return output.WriteFile(file, e.Stdout, func(w io.Writer) error {
		_, err := client.WriteArchive(ctx, w, images, o)
		return err
	})
}

// savedImages finds images, each once with all the names it was asked for by.
func savedImages(store *layers.Store, names []string) ([]registry.ArchiveImage, error) {
	var images []registry.ArchiveImage
	at := map[string]int{}
	for _, name := range names {
		image, err := store.Image(name)
		if errors.Is(err, layers.ErrNotFound) {
			return nil, fmt.Errorf("no such image: %s", name)
		}
		if err != nil {
			return nil, err
		}
		i, seen := at[image.ID]
		if !seen {
			one, err := savedImage(store, image)
			if err != nil {
				return nil, err
			}
			i = len(images)
			at[image.ID] = i
			images = append(images, one)
		}
		if full := askedName(image.Names, name); full != "" && !slices.Contains(images[i].Names, full) {
			images[i].Names = append(images[i].Names, full)
		}
	}
	return images, nil
}

// savedImage is an image or index without its names.
func savedImage(store *layers.Store, image layers.Image) (one registry.ArchiveImage, err error) {
	if !image.IsIndex() {
		one.Documents, err = store.Documents(image.ID)
		return one, err
	}
	index, err := store.Index(image.ID)
	one.Index = &index
	return one, err
}

// askedName is the full name among names that an image was found by, "" when it
// was its ID or digest.
func askedName(names []string, asked string) string {
	if _, tag, digest := splitName(asked); tag == "" && digest == "" {
		asked += ":latest"
	}
	for _, n := range names {
		if n == asked || strings.HasSuffix(n, "/"+asked) {
			return n
		}
	}
	return ""
}

// newLoad makes the load command.
func newLoad(e *Env) *cobra.Command {
	var file, platform string
	var quiet bool
	cmd := &cobra.Command{
		Use:   "load [OPTIONS]",
		Short: "Read images from an archive into the store",
		Long: `Read images from an archive into the store, under the names they have there.
The archive is one that docker save, podman save or cooper save wrote, or a tar of
an OCI image layout, compressed or not.`,
		Example:               "\n  @ -i app.tar\n  @ < app.tar.gz",
		DisableFlagsInUseLine: true,
		Args:                  exactArgs(0),
		RunE: func(cmd *cobra.Command, args []string) error {
			if file == "" && terminal(e.Stdin) {
				return withHint(errors.New("requested load from stdin, but stdin is empty"), "Name the archive with -i, or redirect standard input.")
			}
			return e.load(cmd.Context(), file, platform, quiet)
		},
	}
	fs := cmd.Flags()
	fs.StringVarP(&file, "input", "i", "", "Read from `FILE` (default standard input)")
	fs.StringVar(&platform, "platform", "", "Of an image for several platforms load `OS/ARCH[/VARIANT]` (default all that are there)")
	fs.BoolVarP(&quiet, "quiet", "q", false, "Print nothing")
	e.commonFlags(cmd)
	return cmd
}

// load is the load command.
func (e *Env) load(ctx context.Context, file, platform string, quiet bool) error {
	var p ocispec.Platform
	var err error
	if platform != "" {
		if p, err = platforms.Parse(platform); err != nil {
			return fmt.Errorf("invalid platform %q: want OS/ARCH[/VARIANT], such as linux/arm64", platform)
		}
	}
	in := e.Stdin
	if file != "" && file != output.Stdout {
		if in, err = os.Open(file); err != nil {
			return err
		}
		defer in.Close()
	}
	store, err := e.Store(ctx)
	if err != nil {
		return err
	}
	ctx, stop := interruptible(ctx)
	defer stop()
	images, err := (&registry.Client{Store: store}).Load(ctx, in, p)
	if !quiet {
		for _, image := range images {
			e.sayLoaded(image)
		}
	}
	return err
}

func (e *Env) sayLoaded(image layers.Image) {
	for _, name := range image.Names {
		fmt.Fprintf(e.Stdout, "Loaded image: %s\n", name)
	}
	if len(image.Names) == 0 {
		fmt.Fprintf(e.Stdout, "Loaded image ID: sha256:%s\n", image.ID)
	}
}
