package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"cooper/layers"
	"cooper/registry"
)

// newManifest makes the manifest command and those below it.
func newManifest(e *Env) *cobra.Command {
	cmd := newCommandGroup("manifest", "Commands about indexes: images for several platforms under one name")
	cmd.AddCommand(newManifestCreate(e), newManifestAdd(e), newManifestAnnotate(e), newManifestRemove(e), newManifestInspect(e),
		newManifestExists(e), newManifestPush(e), newManifestRm(e))
	return cmd
}

// entryFlags say what an index has about an image.
type entryFlags struct {
	os, arch, variant, osVersion string
	annotations                  []string
}

func (f *entryFlags) declare(fs *pflag.FlagSet) {
	fs.StringVar(&f.os, "os", "", "List the image for this operating `SYSTEM`")
	fs.StringVar(&f.arch, "arch", "", "List the image for this `ARCHITECTURE`")
	fs.StringVar(&f.variant, "variant", "", "List the image for this `VARIANT` of the architecture")
	fs.StringVar(&f.osVersion, "os-version", "", "List the image for this `VERSION` of the operating system")
	fs.StringArrayVar(&f.annotations, "annotation", nil, "Add an annotation to the entry: `NAME=VALUE` (repeatable)")
}

// apply puts the flags into an entry.
func (f *entryFlags) apply(d *ocispec.Descriptor) error {
	p := ocispec.Platform{}
	if d.Platform != nil {
		p = *d.Platform
	}
	p.OS, p.Architecture = or(f.os, p.OS), or(f.arch, p.Architecture)
	p.Variant, p.OSVersion = or(f.variant, p.Variant), or(f.osVersion, p.OSVersion)
	d.Platform = &p
	notes, err := pairs("annotation", f.annotations)
	if err != nil || len(notes) == 0 {
		return err
	}
	for name, value := range d.Annotations {
		if _, ok := notes[name]; !ok {
			notes[name] = value
		}
	}
	d.Annotations = notes
	return nil
}

// entries finds an image for an index: in the store, else it is pulled. Of an
// index it is the image for this machine, or all.
func (e *Env) entries(ctx context.Context, store *layers.Store, name string, rf registryFlags, all bool) ([]ocispec.Descriptor, error) {
	found, err := store.Image(name)
	switch {
	case err == nil && found.IsIndex() && all:
		return found.Manifests, nil
	case err == nil && found.IsIndex():
		if found, err = store.ImageFor(name, ocispec.Platform{}); err != nil {
			return nil, err
		}
	case err != nil: // not there, or the name of something elsewhere
		return e.pulledEntries(ctx, store, name, rf, all)
	}
	d, err := store.Descriptor(found.ID)
	return []ocispec.Descriptor{d}, err
}

// pulledEntries pulls an image that is to be in an index. If it is for several
// platforms, none of its images keeps the name.
func (e *Env) pulledEntries(ctx context.Context, store *layers.Store, name string, rf registryFlags, all bool) ([]ocispec.Descriptor, error) {
	ref, err := registry.ParseReference(name)
	if err != nil {
		return nil, err
	}
	client, err := rf.client(store)
	if err != nil {
		return nil, err
	}
	platforms := []ocispec.Platform{{}}
	if all {
		if platforms, err = client.Platforms(ctx, ref); err != nil {
			return nil, err
		}
	}
	var found []ocispec.Descriptor
	for _, p := range platforms {
		image, err := client.Pull(ctx, ref, registry.PullOptions{Platform: p})
		if err != nil {
			return nil, err
		}
		d, err := store.Descriptor(image.ID)
		if err != nil {
			return nil, err
		}
		found = append(found, d)
		if len(platforms) > 1 && ref.IsRegistry() {
			if err := store.Untag(image.ID, ref.Name()); err != nil {
				return nil, err
			}
		}
	}
	return found, nil
}

func newManifestCreate(e *Env) *cobra.Command {
	var all, amend bool
	var annotations []string
	var rf registryFlags
	cmd := &cobra.Command{
		Use:   "create [OPTIONS] INDEX [IMAGE...]",
		Short: "Make an index of images",
		Long: `Make an index in the store and print its ID. Images that are not in the store
are fetched.`,
		Example:               "\n  @ app:1 app:1-amd64 app:1-arm64\n  @ --all mine registry.example.com/theirs",
		DisableFlagsInUseLine: true,
		Args:                  minArgs(1, statusError),
		RunE: func(cmd *cobra.Command, args []string) error {
			notes, err := pairs("annotation", annotations)
			if err != nil {
				return err
			}
			return e.createManifest(cmd.Context(), args[0], args[1:], rf, notes, all, amend)
		},
	}
	fs := cmd.Flags()
	fs.BoolVar(&all, "all", false, "Of an image for several platforms take all (default this machine's)")
	fs.BoolVarP(&amend, "amend", "a", false, "Add to an index that is there")
	fs.StringArrayVar(&annotations, "annotation", nil, "Add an annotation to the index: `NAME=VALUE` (repeatable)")
	rf.declare(fs)
	rf.declareCreds(fs)
	e.commonFlags(cmd)
	return cmd
}

// createManifest is the manifest create command.
func (e *Env) createManifest(ctx context.Context, name string, images []string, rf registryFlags, notes map[string]string, all, amend bool) error {
	store, err := e.Store(ctx)
	if err != nil {
		return err
	}
	full, err := layers.NormalizeName(name)
	if err != nil {
		return err
	}
	if _, err := store.Image(full); err == nil && !amend {
		return withHint(fmt.Errorf("the name %s is in use", full), "To add to an index: --amend.")
	} else if err != nil && !errors.Is(err, layers.ErrNotFound) {
		return err
	}
	ctx, stop := interruptible(ctx)
	defer stop()
	var manifests []ocispec.Descriptor
	for _, image := range images {
		more, err := e.entries(ctx, store, image, rf, all)
		if err != nil {
			return err
		}
		manifests = append(manifests, more...)
	}
	index, err := store.AddToIndex(ctx, full, manifests...)
	if err == nil && len(notes) > 0 {
		index, err = store.EditIndex(full, func(o *layers.IndexOptions) error {
			o.Annotations = notes
			return nil
		})
	}
	if err == nil {
		_, err = fmt.Fprintln(e.Stdout, index.ID)
	}
	return err
}

func newManifestAdd(e *Env) *cobra.Command {
	var all bool
	var f entryFlags
	var rf registryFlags
	cmd := &cobra.Command{
		Use:   "add [OPTIONS] INDEX IMAGE",
		Short: "Add an image to an index",
		Long: `Add an image to an index of the store, in place of one for the same platform, and
print the index's ID. An image that is not in the store is fetched.`,
		Example:               "\n  @ app:1 app:1-riscv64\n  @ --arch arm64 --variant v8 app:1 oci-archive:app.tar",
		DisableFlagsInUseLine: true,
		Args:                  exactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			store, err := e.Store(cmd.Context())
			if err != nil {
				return err
			}
			if _, err := store.IndexOptions(args[0]); err != nil {
				return err
			}
			ctx, stop := interruptible(cmd.Context())
			defer stop()
			manifests, err := e.entries(ctx, store, args[1], rf, all)
			if err != nil {
				return err
			}
			for i := range manifests {
				if err := f.apply(&manifests[i]); err != nil {
					return err
				}
			}
			index, err := store.AddToIndex(ctx, args[0], manifests...)
			if err == nil {
				_, err = fmt.Fprintln(e.Stdout, index.ID)
			}
			return err
		},
	}
	fs := cmd.Flags()
	fs.BoolVar(&all, "all", false, "Of an image for several platforms add all (default this machine's)")
	f.declare(fs)
	rf.declare(fs)
	rf.declareCreds(fs)
	e.commonFlags(cmd)
	return cmd
}

// editEntry lets edit change the entry of an index that has this digest, or that of
// the image called so; edit returns nil to remove it.
func (e *Env) editEntry(ctx context.Context, index, image string, edit func(ocispec.Descriptor) (*ocispec.Descriptor, error)) error {
	store, err := e.Store(ctx)
	if err != nil {
		return err
	}
	want := digest.Digest(image)
	if want.Validate() != nil {
		d, err := store.Descriptor(image)
		if err != nil {
			return err
		}
		want = d.Digest
	}
	changed, err := store.EditIndex(index, func(o *layers.IndexOptions) error {
		for i, d := range o.Manifests {
			if d.Digest != want {
				continue
			}
			kept, err := edit(d)
			rest := append([]ocispec.Descriptor{}, o.Manifests[i+1:]...)
			o.Manifests = o.Manifests[:i]
			if kept != nil {
				o.Manifests = append(o.Manifests, *kept)
			}
			o.Manifests = append(o.Manifests, rest...)
			return err
		}
		return fmt.Errorf("the index %s does not list %s", index, image)
	})
	if err == nil {
		_, err = fmt.Fprintln(e.Stdout, changed.ID)
	}
	return err
}

func newManifestAnnotate(e *Env) *cobra.Command {
	var f entryFlags
	cmd := &cobra.Command{
		Use:                   "annotate [OPTIONS] INDEX DIGEST|IMAGE",
		Short:                 "Change what an index says of an image",
		Example:               "\n  @ --arch arm --variant v7 app:1 app:1-pi",
		DisableFlagsInUseLine: true,
		Args:                  exactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			return e.editEntry(cmd.Context(), args[0], args[1], func(d ocispec.Descriptor) (*ocispec.Descriptor, error) {
				return &d, f.apply(&d)
			})
		},
	}
	f.declare(cmd.Flags())
	e.commonFlags(cmd)
	return cmd
}

func newManifestRemove(e *Env) *cobra.Command {
	cmd := &cobra.Command{
		Use:                   "remove [OPTIONS] INDEX DIGEST|IMAGE",
		Short:                 "Take an image out of an index",
		DisableFlagsInUseLine: true,
		Args:                  exactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			return e.editEntry(cmd.Context(), args[0], args[1], func(ocispec.Descriptor) (*ocispec.Descriptor, error) { return nil, nil })
		},
	}
	e.commonFlags(cmd)
	return cmd
}

func newManifestInspect(e *Env) *cobra.Command {
	var rf registryFlags
	cmd := &cobra.Command{
		Use:                   "inspect [OPTIONS] INDEX",
		Short:                 "Show an index of the store or of a registry, as JSON",
		DisableFlagsInUseLine: true,
		Args:                  exactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return e.inspectManifest(cmd.Context(), args[0], rf)
		},
	}
	rf.declare(cmd.Flags())
	rf.declareCreds(cmd.Flags())
	e.commonFlags(cmd)
	return cmd
}

// inspectManifest is the manifest inspect command.
func (e *Env) inspectManifest(ctx context.Context, name string, rf registryFlags) error {
	store, err := e.Store(ctx)
	if err != nil {
		return err
	}
	raw, err := store.Manifest(name)
	if errors.Is(err, layers.ErrNotFound) {
		ref, refErr := registry.ParseReference(name)
		if refErr != nil {
			return refErr
		}
		client, clientErr := rf.client(store)
		if clientErr != nil {
			return clientErr
		}
		raw, err = client.Manifest(ctx, ref)
	}
	if err != nil {
		return err
	}
	var text bytes.Buffer
	if err := json.Indent(&text, raw, "", "    "); err != nil {
		return fmt.Errorf("manifest of %s: %w", name, err)
	}
	_, err = fmt.Fprintln(e.Stdout, text.String())
	return err
}

func newManifestExists(e *Env) *cobra.Command {
	cmd := &cobra.Command{
		Use:                   "exists [OPTIONS] INDEX",
		Short:                 "Tell by the exit status whether an index is in the store: 0 yes, 1 no",
		DisableFlagsInUseLine: true,
		Args:                  exactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			store, err := e.Store(cmd.Context())
			if err != nil {
				return err
			}
			image, err := store.Image(args[0])
			if errors.Is(err, layers.ErrNotFound) || err == nil && !image.IsIndex() {
				return &exitStatus{status: statusError}
			}
			return err
		},
	}
	e.commonFlags(cmd)
	return cmd
}

// newManifestPush is push, for indexes only.
func newManifestPush(e *Env) *cobra.Command {
	var purge, all bool
	cmd := newPush(e)
	cmd.Use, cmd.Short = "push [OPTIONS] INDEX [DESTINATION]", "Send an index and its images to a registry"
	cmd.Long = strings.Replace(cmd.Long, "an image", "an index with all its images", 1)
	push := cmd.RunE
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		store, err := e.Store(cmd.Context())
		if err != nil {
			return err
		}
		if _, err := store.IndexOptions(args[0]); err != nil {
			return err
		}
		if err := push(cmd, args); err != nil || !purge {
			return err
		}
		return e.removeImage(cmd.Context(), store, args[0], true)
	}
	fs := cmd.Flags()
	fs.BoolVarP(&purge, "purge", "p", false, "Remove the index from the store when it is pushed")
	fs.BoolVar(&all, "all", true, "For podman's sake: all images are pushed anyway")
	fs.Lookup("all").Hidden = true
	return cmd
}

func newManifestRm(e *Env) *cobra.Command {
	cmd := &cobra.Command{
		Use:                   "rm [OPTIONS] INDEX [INDEX...]",
		Short:                 "Remove indexes, and their images that have no name",
		DisableFlagsInUseLine: true,
		Args:                  minArgs(1, statusError),
		RunE: func(cmd *cobra.Command, args []string) error {
			store, err := e.Store(cmd.Context())
			if err != nil {
				return err
			}
			var errs []error
			for _, name := range args {
				_, err := store.IndexOptions(name)
				if err == nil {
					err = e.removeImage(cmd.Context(), store, name, false)
				}
				errs = append(errs, err)
			}
			return errors.Join(errs...)
		},
	}
	e.commonFlags(cmd)
	return cmd
}
