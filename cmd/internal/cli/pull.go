package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/containerd/platforms"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/spf13/cobra"

	"cooper/cmd/internal/progress"
	"cooper/layers"
	"cooper/registry"
)

const pullExample = `
  @ debian:12
  @ --platform linux/arm64 registry.example.com/app
  @ oci-archive:app.tar`

// newPull makes the pull command.
func newPull(e *Env) *cobra.Command {
	var platform, mode string
	var quiet bool
	var rf registryFlags
	cmd := &cobra.Command{
		Use:   "pull [OPTIONS] NAME[:TAG|@DIGEST]",
		Short: "Fetch an image into the store",
		Long: `Fetch an image from a registry, an archive or a directory into the store, and
print its ID.`,
		Example:               pullExample,
		DisableFlagsInUseLine: true,
		Args:                  exactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			settings, err := parsePullSettings(platform, mode, quiet)
			if err != nil {
				return err
			}
			settings.registry = rf
			store, err := e.Store(cmd.Context())
			if err != nil {
				return err
			}
			ctx, stop := interruptible(cmd.Context())
			defer stop()
			image, err := e.pull(ctx, store, args[0], settings)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(e.Stdout, image.ID)
			return err
		},
	}
	fs := cmd.Flags()
	fs.StringVar(&platform, "platform", "", "Fetch the image for `OS/ARCH[/VARIANT]` (default this machine's)")
	fs.StringVar(&mode, "progress", "auto", "Show progress: `TYPE` auto, plain, tty or quiet")
	fs.BoolVarP(&quiet, "quiet", "q", false, "Print only the image ID")
	rf.declare(fs)
	rf.declareCreds(fs)
	e.commonFlags(cmd)
	return cmd
}

// pullSettings say how an image is pulled.
type pullSettings struct {
	registry registryFlags
	platform ocispec.Platform
	mode     progress.Mode
	// newer: an image of that name in the store will do when the registry
	// can't be reached.
	newer bool
}

func parsePullSettings(platform, mode string, quiet bool) (s pullSettings, err error) {
	if s.mode, err = progress.ParseMode(mode); err != nil {
		return s, err
	}
	if quiet {
		s.mode = progress.Quiet
	}
	if platform != "" {
		if s.platform, err = platforms.Parse(platform); err != nil {
			return s, fmt.Errorf("invalid platform %q: want OS/ARCH[/VARIANT], such as linux/arm64", platform)
		}
	}
	return s, nil
}

// pull fetches an image and shows how it goes.
func (e *Env) pull(ctx context.Context, store *layers.Store, name string, s pullSettings) (layers.Image, error) {
	ref, err := registry.ParseReference(name)
	if err != nil {
		return layers.Image{}, err
	}
	client, err := s.registry.client(store)
	if err != nil {
		return layers.Image{}, err
	}
	display := progress.New(e.Stderr, progress.Options{Mode: s.mode, Title: "Pulling"})
	defer display.Close()
	events := beginTransfer(display, "pull", ref)
	client.Progress = events.progress
	image, err := client.Pull(ctx, ref, registry.PullOptions{Platform: s.platform})
	events.end(err)
	if s.newer && errors.Is(err, registry.ErrUnreachable) {
		if local, localErr := store.Image(name); localErr == nil {
			return local, nil
		}
	}
	if err == nil {
		e.recordImage(ctx, "pull", "sha256:"+image.ID, name)
	}
	return image, err
}
