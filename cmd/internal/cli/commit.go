package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/spf13/cobra"

	"cooper/builder/output"
	"cooper/dockerfile"
	"cooper/layers"
	"cooper/run"
)

// commitFlags are the flags of commit as given.
type commitFlags struct {
	author, message, format, idFile string
	changes                         []string
	pause, quiet                    bool
}

const commitExample = `
  @ web web:patched
  @ -m 'add curl' -c 'CMD ["curl"]' -c 'ENV DEBUG=1' tools localhost/tools`

// newCommit makes the commit command.
func newCommit(e *Env) *cobra.Command {
	var f commitFlags
	cmd := &cobra.Command{
		Use:                   "commit [OPTIONS] CONTAINER [NAME[:TAG]]",
		Short:                 "Make an image of what a container wrote",
		Long:                  "Make an image of what a container wrote, on top of its image. What is in volumes is\nnot part of it.",
		Example:               commitExample,
		DisableFlagsInUseLine: true,
		Args:                  rangeArgs(1, 2),
		RunE:                  func(cmd *cobra.Command, args []string) error { return e.commit(cmd.Context(), &f, args) },
	}
	fs := cmd.Flags()
	fs.StringVarP(&f.author, "author", "a", "", "The image's `AUTHOR`: \"Jane Doe <jane@example.com>\"")
	fs.StringArrayVarP(&f.changes, "change", "c", nil, "Apply an `INSTRUCTION` of a Dockerfile to the image's config: CMD, ENTRYPOINT, ENV, EXPOSE, LABEL, USER, VOLUME, WORKDIR, ... (repeatable)")
	fs.StringVarP(&f.format, "format", "f", "oci", "Write the image's documents in `FORMAT` oci or docker")
	fs.StringVar(&f.idFile, "iidfile", "", "Write the image's ID to `FILE`")
	fs.StringVarP(&f.message, "message", "m", "", "A `MESSAGE` for the image's history")
	fs.BoolVarP(&f.pause, "pause", "p", true, "Pause a container that runs meanwhile")
	fs.BoolVarP(&f.quiet, "quiet", "q", false, "Print nothing but the ID (there is nothing else; for podman's sake)")
	e.commonFlags(cmd)
	return cmd
}

// commit is the commit command.
func (e *Env) commit(ctx context.Context, f *commitFlags, args []string) error {
	if f.format != "oci" && f.format != "docker" {
		return fmt.Errorf("invalid --format %q: want oci or docker", f.format)
	}
	o := run.CommitOptions{Names: args[1:], Author: f.author, Message: f.message, Live: !f.pause, DockerFormat: f.format == "docker"}
	o.Change = func(config dockerspec.DockerOCIImage) (dockerspec.DockerOCIImage, error) {
		return dockerfile.Change(config, f.changes)
	}
	cs, err := e.containers(ctx)
	if err != nil {
		return err
	}
	c, err := cs.Find(args[0])
	if err != nil {
		return err
	}
	ctx, stop := interruptible(ctx)
	defer stop()
	image, err := c.Commit(ctx, o)
	if err != nil {
		return withoutLayer(err)
	}
	if f.idFile != "" {
		if err := os.WriteFile(f.idFile, []byte("sha256:"+image.ID), 0o644); err != nil {
			return err
		}
	}
	_, err = fmt.Fprintln(e.Stdout, "sha256:"+image.ID)
	return err
}

// withoutLayer says what to do about a container that has no layer of its own.
func withoutLayer(err error) error {
	if errors.Is(err, layers.ErrNotFound) {
		return withHint(err, "It runs in the foreground with --rm, or on --rootfs: give it a --name, or leave out --rm, to keep what it writes.")
	}
	return err
}

// newDiff makes the diff command.
func newDiff(e *Env) *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use:                   "diff [OPTIONS] CONTAINER",
		Short:                 "Show what a container changed in its image's files",
		Long:                  "Show what a container changed in its image's files: A is added, C changed, D\ndeleted.",
		Example:               "\n  @ web",
		DisableFlagsInUseLine: true,
		Args:                  exactArgs(1),
		RunE:                  func(cmd *cobra.Command, args []string) error { return e.diff(cmd.Context(), args[0], format) },
	}
	cmd.Flags().StringVar(&format, "format", "", "Print json")
	e.commonFlags(cmd)
	return cmd
}

// diff is the diff command.
func (e *Env) diff(ctx context.Context, name, format string) error {
	if format != "" && format != "json" {
		return fmt.Errorf("invalid --format %q: want json", format)
	}
	cs, err := e.containers(ctx)
	if err != nil {
		return err
	}
	c, err := cs.Find(name)
	if err != nil {
		return err
	}
	changes, err := c.Changes(ctx)
	if err != nil {
		return withoutLayer(err)
	}
	if format == "json" {
		return e.printChanges(changes)
	}
	for _, change := range changes {
		if _, err := fmt.Fprintf(e.Stdout, "%s %s\n", change.Kind, change.Path); err != nil {
			return err
		}
	}
	return nil
}

// printChanges prints changes as podman's diff does in JSON.
func (e *Env) printChanges(changes []layers.Change) error {
	words := map[layers.ChangeKind]string{layers.Added: "added", layers.Changed: "changed", layers.Deleted: "deleted"}
	lists := make(map[string][]string)
	for _, change := range changes {
		lists[words[change.Kind]] = append(lists[words[change.Kind]], change.Path)
	}
	text, err := toJSON(lists)
	if err == nil {
		_, err = fmt.Fprintln(e.Stdout, text)
	}
	return err
}

// newExport makes the export command.
func newExport(e *Env) *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:                   "export [OPTIONS] CONTAINER",
		Short:                 "Write a container's files as a tar archive",
		Long:                  "Write a container's files, its image's among them, as one tar archive. What is in\nvolumes is not part of it.",
		Example:               "\n  @ -o web.tar web\n  @ web | tar tv",
		DisableFlagsInUseLine: true,
		Args:                  exactArgs(1),
		RunE:                  func(cmd *cobra.Command, args []string) error { return e.export(cmd.Context(), args[0], file) },
	}
	cmd.Flags().StringVarP(&file, "output", "o", "", "Write to `FILE` instead of standard output")
	e.commonFlags(cmd)
	return cmd
}

// export is the export command.
func (e *Env) export(ctx context.Context, name, file string) error {
	if file == "" && terminal(e.Stdout) {
		return errors.New("cowardly refusing to write an archive to a terminal: use -o, or redirect")
	}
	cs, err := e.containers(ctx)
	if err != nil {
		return err
	}
	c, err := cs.Find(name)
	if err != nil {
		return err
	}
	view, err := c.View()
	if err != nil {
		return err
	}
	defer view.Close()
	ctx, stop := interruptible(ctx)
	defer stop()
	return output.WriteFile(or(file, output.Stdout), e.Stdout, func(w io.Writer) error { return view.Live().WriteTar(ctx, w, layers.WriteOptions{}) })
}
