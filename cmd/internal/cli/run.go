package cli

import (
	"context"
	"errors"
	"fmt"
	"os"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/spf13/cobra"

	"cooper/builder"
	"cooper/layers"
	"cooper/run"
)

const runExample = `
  @ app                            Run the image's own command
  @ -it debian:12 bash             A shell on a terminal
  @ -v ./src:/src:ro app make -C /src
  @ -e DEBUG=1 --network none -m 512m app`

// NewRun makes the run command.
func NewRun(e *Env) *cobra.Command {
	var f runFlags
	cmd := &cobra.Command{
		Use:   "run [OPTIONS] IMAGE [COMMAND] [ARG...]",
		Short: "Run a command in a new container",
		Long: `Run a command in a new container made from IMAGE, in the foreground.

The container and what it wrote are removed when the command ends; the exit
status is the command's. 125 means that run itself failed, 126 that the command
can't be executed, 127 that it was not found.`,
		Example:               runExample,
		DisableFlagsInUseLine: true,
		Args:                  minArgs(1, statusRun),
		RunE: func(cmd *cobra.Command, args []string) error {
			f.noteGiven(cmd.Flags())
			err := e.run(cmd.Context(), &f, args[0], args[1:])
			var status *exitStatus
			var interrupted interruption
			if err != nil && !errors.As(err, &status) && !errors.As(err, &interrupted) {
				err = &exitStatus{status: startStatus(err), err: err}
			}
			return err
		},
	}
	f.declare(cmd.Flags())
	f.startFlags.declare(cmd.Flags())
	cmd.Flags().SetInterspersed(false)
	e.commonFlags(cmd)
	return cmd
}

// run is the run command. The error says the exit status.
func (e *Env) run(ctx context.Context, f *runFlags, name string, command []string) (err error) {
	if f.terminal && f.interactive && !terminal(e.Stdin) {
		return withHint(&exitStatus{status: statusError, err: errors.New("the input device is not a TTY")},
			"Leave out -t, or give it a terminal as standard input.")
	}
	request, err := f.request(e.LookupEnv, os.Environ())
	if err != nil {
		return err
	}
	if err := e.enter(); err != nil {
		return err
	}
	runtime := run.NewRuntime(run.RuntimeOptions{})
	runtime.Start() // starts while the store is opened
	defer func() { err = errors.Join(err, runtime.Close()) }()
	store, err := e.Store(ctx)
	if err != nil {
		return err
	}
	image, err := e.imageToRun(ctx, store, name, request.pull, request.platform)
	if err != nil {
		return err
	}
	options, warning, err := request.options(image, name, command)
	if err != nil {
		return err
	}
	if warning != "" {
		fmt.Fprintln(e.Stderr, warning)
	}
	c := container{store: store, runtime: runtime, image: image, config: &options.Config, mounts: options.Mounts}
	if f.interactive {
		c.stdin = e.Stdin
	}
	status, err := e.start(ctx, c)
	if err != nil {
		return err
	}
	if status.OOMKilled {
		fmt.Fprintln(e.Stderr, "The kernel ended the container for lack of memory (see -m).")
	}
	if status.ExitCode != 0 {
		return &exitStatus{status: status.ExitCode}
	}
	return nil
}

// imageToRun finds an image in the store or pulls it, as policy says.
func (e *Env) imageToRun(ctx context.Context, store *layers.Store, name string, policy builder.PullPolicy, platform ocispec.Platform) (layers.Image, error) {
	ctx, stop := interruptible(ctx)
	defer stop()
	if policy == builder.PullMissing || policy == builder.PullNever {
		image, err := store.Image(name)
		if err == nil || !errors.Is(err, layers.ErrNotFound) {
			return image, err
		}
		if policy == builder.PullNever {
			return image, withHint(fmt.Errorf("image %s is not in the store", name), "Pull or build it first, or leave out --pull=never.")
		}
		fmt.Fprintf(e.Stderr, "Unable to find image '%s' locally\n", name)
	}
	return e.pull(ctx, store, name, pullSettings{platform: platform, newer: policy == builder.PullNewer})
}

// container is what is known of a container before it starts.
type container struct {
	store   *layers.Store
	runtime *run.Runtime
	image   layers.Image
	config  *run.Config
	mounts  []run.ContainerMount
	stdin   *os.File
}

// start runs c on a snapshot of its image to its end, and removes what was made
// for it.
func (e *Env) start(ctx context.Context, c container) (status run.Status, err error) {
	top, err := c.store.Layer(c.image.Layer)
	if err != nil {
		return status, err
	}
	snapshot, err := c.store.Prepare(ctx, top)
	if err != nil {
		return status, err
	}
	defer func() { err = errors.Join(err, snapshot.Remove()) }()
	view, err := snapshot.View()
	if err != nil {
		return status, err
	}
	defer view.Close()
	volumes := &volumes{store: c.store, view: view}
	defer func() { err = errors.Join(err, volumes.remove()) }()
	if err := volumes.add(ctx, c.config, c.mounts); err != nil {
		return status, err
	}
	ctx, signals, stop := forward(ctx)
	defer stop()
	return c.runtime.Run(ctx, run.Task{
		Rootfs:  snapshot.Rootfs(),
		View:    view,
		Config:  c.config,
		Stdin:   c.stdin,
		Stdout:  e.Stdout,
		Stderr:  e.Stderr,
		Signals: signals,
	})
}
