package cli

import (
	"cmp"
	"context"
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
Layers that the build cache uses stay. An image that a container uses stays too;
with -f its names go.`,
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
				errs = append(errs, e.removeImage(cmd.Context(), store, name, force))
			}
			return errors.Join(errs...)
		},
	}
	cmd.Flags().BoolVarP(&force, "force", "f", false, "Remove an image with all its names; no error if there is none")
	e.commonFlags(cmd)
	return cmd
}

// removeImage removes one image or name and says what is gone.
func (e *Env) removeImage(ctx context.Context, store *layers.Store, name string, force bool) error {
	done, err := e.keepUsedImage(ctx, store, name, force)
	if done || err != nil {
		return err
	}
	untagged, deleted, err := store.RemoveImage(name, force)
	for _, n := range untagged {
		fmt.Fprintf(e.Stdout, "Untagged: %s\n", n)
		e.recordImage(ctx, "untag", n, n)
	}
	for _, id := range deleted {
		id = "sha256:" + strings.TrimPrefix(id, "sha256:")
		fmt.Fprintf(e.Stdout, "Deleted: %s\n", id)
		e.recordImage(ctx, "delete", id, name)
	}
	if errors.Is(err, layers.ErrNotFound) {
		if force {
			return nil
		}
		return fmt.Errorf("no such image: %s", name)
	}
	return err
}

// keepUsedImage keeps an image that containers stand on from being removed: by force
// it only loses its names, and goes when the containers are gone and images are
// pruned.
func (e *Env) keepUsedImage(ctx context.Context, store *layers.Store, name string, force bool) (done bool, err error) {
	image, err := store.Image(name)
	if err != nil {
		return false, nil // RemoveImage says so
	}
	byID := strings.HasPrefix(image.ID, strings.TrimPrefix(name, "sha256:"))
	if len(image.Names) > 1 && !byID {
		return false, nil
	}
	used, err := e.usedImages(ctx)
	if err != nil {
		return false, err
	}
	by := used[image.ID]
	for _, d := range image.Manifests { // those of an index go with it
		if one, err := store.Image(d.Digest.String()); err == nil {
			by = cmp.Or(by, used[one.ID])
		}
	}
	if by == "" {
		return false, nil
	}
	if !force {
		return false, withHint(fmt.Errorf("image %s is used by %s", name, by),
			"Remove the container first, or take only the names away with -f.")
	}
	if err := store.Untag(image.ID); err != nil {
		return false, err
	}
	for _, n := range image.Names {
		fmt.Fprintf(e.Stdout, "Untagged: %s\n", n)
	}
	return true, nil
}

// usedImages says which images containers stand on or have mounted, by ID, and which
// container that is.
func (e *Env) usedImages(ctx context.Context) (map[string]string, error) {
	cs, err := e.containers(ctx)
	if err != nil {
		return nil, err
	}
	all, err := listContainers(cs)
	if err != nil {
		return nil, err
	}
	used := make(map[string]string)
	for _, c := range all {
		how := "stopped"
		if c.state.Alive() {
			how = c.state.Status
		}
		by := fmt.Sprintf("the %s container %s", how, c.options.Name)
		used[c.options.ImageID] = by
		for _, m := range c.options.Mounts {
			if m.ImageID != "" {
				used[m.ImageID] = by
			}
		}
	}
	return used, nil
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
			if err != nil {
				return err
			}
			for _, name := range args[1:] {
				e.recordImage(cmd.Context(), "tag", args[0], name)
			}
			return nil
		},
	}
	e.commonFlags(cmd)
	return cmd
}
