package cli

import (
	"context"
	"errors"
	"fmt"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/spf13/cobra"

	"cooper/builder/output"
	"cooper/cmd/internal/progress"
	"cooper/layers"
	"cooper/registry"
)

// pushFlags are the flags of push as given.
type pushFlags struct {
	registryFlags
	format, compression, digestFile, mode string
	level                                 int
	force, quiet                          bool
}

const pushExample = `
  @ registry.example.com/team/app:1.2
  @ app docker://localhost:5000/app        Push under another name
  @ app oci-archive:app.tar:1.2            To a file`

// newPush makes the push command.
func newPush(e *Env) *cobra.Command {
	var f pushFlags
	cmd := &cobra.Command{
		Use:   "push [OPTIONS] IMAGE [DESTINATION]",
		Short: "Send an image to a registry",
		Long: `Send an image to the registry that its name begins with, or to DESTINATION,
and print the digest that it has there.`,
		Example:               pushExample,
		DisableFlagsInUseLine: true,
		Args:                  rangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			o, err := f.options(cmd.Flags().Changed("compression-level"))
			if err != nil {
				return err
			}
			return e.push(cmd.Context(), &f, o, args[0], args[len(args)-1])
		},
	}
	fs := cmd.Flags()
	fs.StringVar(&f.format, "format", "", "Write the manifest in `FORMAT` oci or docker (default as the image has it)")
	fs.StringVar(&f.compression, "compression-format", "", "Compress layers with `ALGORITHM` gzip, zstd, zstd:chunked or uncompressed (default gzip)")
	fs.IntVar(&f.level, "compression-level", 0, "Compress with this `LEVEL`: gzip 0 to 9, zstd 0 to 22")
	fs.BoolVar(&f.force, "force-compression", false, "Send layers anew that the registry has in another compression")
	fs.StringVar(&f.digestFile, "digestfile", "", "Write the manifest's digest to `FILE`")
	fs.StringVar(&f.mode, "progress", "auto", "Show progress: `TYPE` auto, plain, tty or quiet")
	fs.BoolVarP(&f.quiet, "quiet", "q", false, "Show no progress")
	f.declare(fs)
	f.declareCreds(fs)
	e.commonFlags(cmd)
	return cmd
}

func (f *pushFlags) options(level bool) (registry.PushOptions, error) {
	o := registry.PushOptions{Format: registry.Format(f.format), Compression: f.compression, ForceCompression: f.force}
	switch o.Format {
	case registry.FormatAsStored, registry.FormatOCI, registry.FormatDocker:
	default:
		return o, fmt.Errorf("invalid format %q: want oci or docker", f.format)
	}
	if f.force && f.compression == "" {
		o.Compression = "gzip"
	}
	if o.Compression != "zstd:chunked" {
		check := output.Output{Compression: o.Compression}
		if level {
			check.CompressionLevel = &f.level
		}
		if err := checkCompression(check); err != nil {
			return o, err
		}
	}
	if level {
		o.CompressionLevel = &f.level
	}
	return o, nil
}

// push is the push command.
func (e *Env) push(ctx context.Context, f *pushFlags, o registry.PushOptions, image, to string) error {
	mode, err := progress.ParseMode(f.mode)
	if err != nil {
		return err
	}
	if f.quiet {
		mode = progress.Quiet
	}
	ref, err := registry.ParseReference(to)
	if err != nil {
		return err
	}
	store, err := e.Store(ctx)
	if err != nil {
		return err
	}
	client, err := f.client(store)
	if err != nil {
		return err
	}
	if _, err := store.Image(image); errors.Is(err, layers.ErrNotFound) {
		return fmt.Errorf("no such image: %s", image)
	}
	ctx, stop := interruptible(ctx)
	defer stop()
	desc, err := e.pushed(ctx, client, mode, image, ref, o)
	if err != nil {
		return err
	}
	if f.digestFile != "" {
		if err := writeText(f.digestFile, desc.Digest.String()); err != nil {
			return fmt.Errorf("write the digest: %w", err)
		}
	}
	name := ref.String()
	if ref.IsRegistry() {
		name = ref.Name()
	}
	_, err = fmt.Fprintf(e.Stdout, "%s: digest: %s size: %d\n", name, desc.Digest, desc.Size)
	return err
}

// pushed pushes and shows how it goes.
func (e *Env) pushed(ctx context.Context, client *registry.Client, mode progress.Mode, image string, ref registry.Reference, o registry.PushOptions) (ocispec.Descriptor, error) {
	display := progress.New(e.Stderr, progress.Options{Mode: mode, Title: "Pushing"})
	defer display.Close()
	events := beginTransfer(display, "push", ref)
	client.Progress = events.progress
	desc, err := client.Push(ctx, image, ref, o)
	events.end(err)
	return desc, err
}
