package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"cooper/layers"
)

// newImage makes the image command: docker's second names for what is about
// images.
func newImage(e *Env) *cobra.Command {
	cmd := newCommandGroup("image", "Commands about images, by docker's longer names")
	e.addCommands(cmd, []string{"image"}, []commandEntry{
		{"build", NewBuild}, as(newImages, "ls", "list"), {"pull", newPull}, {"push", newPush},
		{"inspect", func(e *Env) *cobra.Command { return newInspect(e, "image") }}, {"history", newHistory}, {"tag", newTag}, {"untag", newUntag},
		as(newRmi, "rm", "remove"), {"save", newSave}, {"load", newLoad}, {"prune", newImagePrune},
	})
	return cmd
}

// newUntag makes the untag command.
func newUntag(e *Env) *cobra.Command {
	cmd := &cobra.Command{
		Use:                   "untag IMAGE [NAME[:TAG]...]",
		Short:                 "Take names away from an image",
		Long:                  "Take names away from an image, which stays in the store. Without names all are\ntaken.",
		Example:               "\n  @ app registry.example.com/app:1.2",
		DisableFlagsInUseLine: true,
		Args:                  minArgs(1, statusError),
		RunE: func(cmd *cobra.Command, args []string) error {
			store, err := e.Store(cmd.Context())
			if err != nil {
				return err
			}
			err = store.Untag(args[0], args[1:]...)
			if errors.Is(err, layers.ErrNotFound) {
				return fmt.Errorf("no such image: %w", err)
			}
			return err
		},
	}
	e.commonFlags(cmd)
	return cmd
}

// newImagePrune makes the prune command of images.
func newImagePrune(e *Env) *cobra.Command {
	var all, force bool
	cmd := &cobra.Command{
		Use:   "prune [OPTIONS]",
		Short: "Remove images without a name",
		Long: `Remove images without a name, or all that no container uses. Layers that the
build cache uses stay.`,
		Example:               "\n  @\n  @ -a -f",
		DisableFlagsInUseLine: true,
		Args:                  exactArgs(0),
		RunE: func(cmd *cobra.Command, args []string) error {
			if !force {
				what := "all dangling images"
				if all {
					what = "all images without at least one container associated to them"
				}
				if ok, err := e.confirm(what); err != nil || !ok {
					return err
				}
			}
			return e.pruneImages(cmd.Context(), all)
		},
	}
	cmd.Flags().BoolVarP(&all, "all", "a", false, "Remove all images that no container uses")
	cmd.Flags().BoolVarP(&force, "force", "f", false, "Don't ask")
	e.commonFlags(cmd)
	return cmd
}

// confirm asks whether what is to be removed, as docker does; no answer is no.
func (e *Env) confirm(what string) (bool, error) {
	fmt.Fprintf(e.Stdout, "WARNING! This will remove %s.\nAre you sure you want to continue? [y/N] ", what)
	return e.yes()
}

// yes reads the answer to a question.
func (e *Env) yes() (bool, error) {
	line, err := bufio.NewReader(e.Stdin).ReadString('\n')
	if err != nil && err != io.EOF {
		return false, err
	}
	return strings.EqualFold(strings.TrimSpace(line), "y"), nil
}

// pruneImages removes images without a name, or all that are not in use.
func (e *Env) pruneImages(ctx context.Context, all bool) error {
	store, err := e.Store(ctx)
	if err != nil {
		return err
	}
	images, err := store.Images()
	if err != nil {
		return err
	}
	used, err := e.usedImages(ctx)
	if err != nil {
		return err
	}
	var errs []error
	for _, image := range images {
		if used[image.ID] != "" || len(image.Names) > 0 && !all || len(image.Names) == 0 && image.Listed {
			continue // those of an index go with it
		}
		untagged, deleted, err := store.RemoveImage(image.ID, true)
		if errors.Is(err, layers.ErrInUse) || errors.Is(err, layers.ErrNotFound) {
			continue
		}
		errs = append(errs, err)
		for _, n := range untagged {
			fmt.Fprintf(e.Stdout, "untagged: %s\n", n)
		}
		for _, id := range deleted {
			fmt.Fprintf(e.Stdout, "deleted: sha256:%s\n", id)
		}
	}
	return errors.Join(errs...)
}
