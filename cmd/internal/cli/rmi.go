package cli

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"cooper/layers"
)

// newRmi makes the rmi command.
func newRmi(e *Env) *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use:   "rmi [OPTIONS] IMAGE [IMAGE...]",
		Short: "Remove images",
		Long: `Remove images. A name is taken away; with its last name the image goes too. An
ID means the image with all its names, which needs -f if there are several.
Layers that the build cache uses stay.`,
		Example:               "\n  @ app:1.2\n  @ -f 1a2b3c4d5e6f",
		DisableFlagsInUseLine: true,
		Args:                  minArgs(1, statusError),
		RunE: func(cmd *cobra.Command, args []string) error {
			store, err := e.Store(cmd.Context())
			if err != nil {
				return err
			}
			var errs []error
			for _, name := range args {
				errs = append(errs, e.removeImage(store, name, force))
			}
			return errors.Join(errs...)
		},
	}
	cmd.Flags().BoolVarP(&force, "force", "f", false, "Remove an image with all its names; no error if there is none")
	e.commonFlags(cmd)
	return cmd
}

// removeImage removes one image or name and says what is gone.
func (e *Env) removeImage(store *layers.Store, name string, force bool) error {
	untagged, deleted, err := store.RemoveImage(name, force)
	for _, n := range untagged {
		fmt.Fprintf(e.Stdout, "Untagged: %s\n", n)
	}
	for _, id := range deleted {
		fmt.Fprintf(e.Stdout, "Deleted: sha256:%s\n", strings.TrimPrefix(id, "sha256:"))
	}
	if errors.Is(err, layers.ErrNotFound) {
		if force {
			return nil
		}
		return fmt.Errorf("no such image: %s", name)
	}
	return err
}

// newTag makes the tag command.
func newTag(e *Env) *cobra.Command {
	cmd := &cobra.Command{
		Use:                   "tag IMAGE NAME[:TAG] [NAME[:TAG]...]",
		Short:                 "Give an image further names",
		Example:               "\n  @ app registry.example.com/app:1.2",
		DisableFlagsInUseLine: true,
		Args:                  minArgs(2, statusError),
		RunE: func(cmd *cobra.Command, args []string) error {
			store, err := e.Store(cmd.Context())
			if err != nil {
				return err
			}
			err = store.Tag(args[0], args[1:]...)
			if errors.Is(err, layers.ErrNotFound) {
				return fmt.Errorf("no such image: %s", args[0])
			}
			return err
		},
	}
	e.commonFlags(cmd)
	return cmd
}
