package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/containerd/platforms"
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
		Long: `Run a command in a new container made from IMAGE: in the foreground, or with -d
in the background.

The container stays when the command has ended, for logs, start, commit and
others, unless --rm removes it. The exit status is the command's. 125 means that
run itself failed, 126 that the command can't be executed, 127 that it was not
found.`,
		Example:               runExample,
		DisableFlagsInUseLine: true,
		Args:                  minArgs(1, statusRun),
		RunE: func(cmd *cobra.Command, args []string) error {
			f.noteGiven(cmd.Flags())
			return startError(e.run(cmd.Context(), &f, args[0], args[1:]))
		},
	}
	cmd.Flags().SortFlags = false
	f.startFlags.declare(cmd.Flags())
	f.declare(cmd.Flags())
	cmd.Flags().SetInterspersed(false)
	e.commonFlags(cmd)
	return cmd
}

// startError gives an error the exit status that docker run has for it.
func startError(err error) error {
	var status *exitStatus
	var interrupted interruption
	if err == nil || errors.As(err, &status) || errors.As(err, &interrupted) {
		return err
	}
	return &exitStatus{status: startStatus(err), err: err}
}

// run is the run command. The error says the exit status.
func (e *Env) run(ctx context.Context, f *runFlags, name string, command []string) (err error) {
	if f.terminal && f.interactive && !f.detach && !terminal(e.Stdin) {
		return withHint(&exitStatus{status: statusError, err: errors.New("the input device is not a TTY")},
			"Leave out -t, or give it a terminal as standard input.")
	}
	keys, err := run.ParseDetachKeys(cmp.Or(f.detachKeys, run.DefaultDetachKeys))
	if err != nil {
		return err
	}
	c, err := e.create(ctx, f, name, command)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.close()) }()
	if f.detach {
		return e.runDetached(ctx, f, c)
	}
	ctx, streams, stop := e.streams(ctx, f.interactive && f.attaches("stdin"), f.terminal, f.sigProxy)
	defer stop()
	streams.DetachKeys = keys
	if !f.attaches("stdout") {
		streams.Stdout = nil
	}
	if !f.attaches("stderr") {
		streams.Stderr = nil
	}
	status, err := c.Run(ctx, streams)
	if errors.Is(err, run.ErrDetached) {
		fmt.Fprintln(e.Stderr, "read escape sequence")
		return nil
	}
	if c.Options().AutoRemove && !stillRuns(c.Container) {
		err = errors.Join(err, ignoreGone(c.Remove(context.WithoutCancel(ctx), run.RemoveOptions{Force: true, Volumes: true})))
	}
	if err != nil {
		return err
	}
	return e.containerStatus(status)
}

// attaches reports whether the stream of that name is to be connected.
func (f *startFlags) attaches(stream string) bool {
	return len(f.attach) == 0 || slices.ContainsFunc(f.attach, func(s string) bool { return strings.EqualFold(s, stream) })
}

// stillRuns reports whether a container goes on without us.
func stillRuns(c *run.Container) bool {
	st, err := c.State()
	return err == nil && st.Alive()
}

// ignoreGone makes it no error that somebody else has removed a container.
func ignoreGone(err error) error {
	if errors.Is(err, run.ErrNoContainer) {
		return nil
	}
	return err
}

// containerStatus is the error for a container's exit code.
func (e *Env) containerStatus(status run.Status) error {
	if status.OOMKilled {
		fmt.Fprintln(e.Stderr, "The kernel ended the container for lack of memory (see -m).")
	}
	if status.ExitCode != 0 {
		return &exitStatus{status: status.ExitCode}
	}
	return nil
}

// streams are this process's, for a container. Signals are forwarded if wanted, and
// by a terminal: there they come as keys, and what ends this process leaves the
// container.
func (e *Env) streams(ctx context.Context, input, terminal, proxy bool) (context.Context, run.Streams, func()) {
	s := run.Streams{Stdout: e.Stdout, Stderr: e.Stderr}
	if input {
		s.Stdin = e.Stdin
	}
	if terminal {
		s.Stderr = nil
	}
	var stop func()
	if proxy && !terminal {
		ctx, s.Signals, stop = forward(ctx)
	} else {
		ctx, stop = interruptible(ctx)
	}
	return ctx, s, stop
}

// runDetached starts c and prints its id.
func (e *Env) runDetached(ctx context.Context, f *runFlags, c *freshContainer) error {
	ctx, stop := interruptible(ctx)
	defer stop()
	if err := f.sdnotify.start(ctx, e, c.Container); err != nil {
		if c.Options().AutoRemove {
			err = errors.Join(err, ignoreGone(c.Remove(context.WithoutCancel(ctx), run.RemoveOptions{Force: true, Volumes: true})))
		}
		return err
	}
	if _, err := fmt.Fprintln(e.Stdout, c.ID()); err != nil {
		return err
	}
	if err := f.sdnotify.tell(ctx, e, c.Container); err != nil || !f.wait {
		return err
	}
	return e.awaitHealth(ctx, c.Container, time.Duration(f.waitTimeout)*time.Second)
}

// awaitHealth waits until c is healthy, or just runs if nothing checks its health. A
// timeout of 0 is none.
func (e *Env) awaitHealth(ctx context.Context, c *run.Container, timeout time.Duration) error {
	if timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, timeout, fmt.Errorf("container %s did not become healthy within %v", c.Name(), timeout))
		defer cancel()
	}
	if err := c.AwaitHealth(ctx); err != nil {
		return &exitStatus{status: statusError, err: err}
	}
	return nil
}

// freshContainer is a container that was just made, with what only this process holds
// for it.
type freshContainer struct {
	*run.Container
	snapshot *layers.Snapshot // a foreground container's layer
}

func (c *freshContainer) close() error {
	if c.Container != nil {
		c.Release()
	}
	if c.snapshot == nil {
		return nil
	}
	return c.snapshot.Remove()
}

// create makes a container as the flags of run and create say, with its image pulled
// if need be. The caller closes it.
func (e *Env) create(ctx context.Context, f *runFlags, name string, command []string) (_ *freshContainer, err error) {
	request, err := f.request(e.LookupEnv, os.Environ())
	if err != nil {
		return nil, err
	}
	store, err := e.Store(ctx)
	if err != nil {
		return nil, err
	}
	cs, err := e.containers(ctx)
	if err != nil {
		return nil, err
	}
	var image layers.Image
	if !f.rootfs {
		if image, err = e.imageToRun(ctx, store, name, request.pull, request.fetch); err != nil {
			return nil, err
		}
		if err := run.CheckPlatform(image.Config.Platform); err != nil {
			fmt.Fprintf(e.Stderr, "WARNING: %v\n", err)
		}
	}
	options, warning, err := request.options(image, name, command)
	if err != nil {
		return nil, err
	}
	if warning != "" {
		fmt.Fprintln(e.Stderr, warning)
	}
	if err := f.joinOthers(cs, &options); err != nil {
		return nil, err
	}
	options.CreateCommand = e.commandLine
	if err := f.sdnotify.apply(e, &options.Config); err != nil {
		return nil, err
	}
	if options.AutoRemove {
		if options.Program, err = e.remover(store); err != nil {
			return nil, err
		}
	}
	if f.replace {
		if err := replace(ctx, cs, options.Name); err != nil {
			return nil, err
		}
	}
	c := &freshContainer{}
	if options.Foreground && !f.rootfs {
		if c.snapshot, err = prepareSnapshot(ctx, store, image); err != nil {
			return nil, err
		}
		rootfs := c.snapshot.Rootfs()
		options.Snapshot = &rootfs
	}
	if c.Container, err = cs.CreateToStart(ctx, options); err == nil && f.cidFile != "" {
		err = writeCIDFile(f.cidFile, c.ID())
	}
	if err != nil {
		return nil, errors.Join(err, c.close())
	}
	return c, nil
}

// prepareSnapshot makes the layer of a container that ends with this process.
func prepareSnapshot(ctx context.Context, store *layers.Store, image layers.Image) (*layers.Snapshot, error) {
	top, err := store.Layer(image.Layer)
	if err != nil {
		return nil, err
	}
	return store.Prepare(ctx, top)
}

// writeCIDFile writes a container's id to a file that must not exist.
func writeCIDFile(path, id string) (err error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return fmt.Errorf("write container id: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	_, err = f.WriteString(id)
	return err
}

// replace removes the container that has a name.
func replace(ctx context.Context, cs *run.Containers, name string) error {
	old, err := cs.Find(name)
	if errors.Is(err, run.ErrNoContainer) || err == nil && old.Name() != name {
		return nil
	}
	if err != nil {
		return err
	}
	return ignoreGone(old.Remove(ctx, run.RemoveOptions{Force: true, Volumes: true}))
}

// imageToRun finds an image in the store or pulls it, as policy says.
func (e *Env) imageToRun(ctx context.Context, store *layers.Store, name string, policy builder.PullPolicy, fetch pullSettings) (layers.Image, error) {
	ctx, stop := interruptible(ctx)
	defer stop()
	if policy == builder.PullMissing || policy == builder.PullNever {
		image, err := store.ImageFor(name, fetch.platform)
		other := err == nil && !suits(image, fetch.platform)
		if err == nil && !other || err != nil && !errors.Is(err, layers.ErrNotFound) {
			return image, err
		}
		if index, indexErr := store.Image(name); indexErr == nil && index.IsIndex() {
			return image, err // it has other platforms
		}
		missing := fmt.Errorf("image %s is not in the store", name)
		if other {
			missing = fmt.Errorf("image %s is in the store for %s, not for %s", name, platforms.Format(image.Config.Platform), platforms.Format(fetch.platform))
		}
		if policy == builder.PullNever {
			return image, withHint(missing, "Pull or build it first, or leave out --pull=never.")
		}
		if other {
			fmt.Fprintf(e.Stderr, "%v\n", missing)
		} else {
			fmt.Fprintf(e.Stderr, "Unable to find image '%s' locally\n", name)
		}
	}
	return e.pull(ctx, store, name, fetch)
}

// suits reports whether an image is for platform p, if one is asked for.
func suits(image layers.Image, p ocispec.Platform) bool {
	return p.Architecture == "" || image.Config.Architecture == "" || platforms.Only(p).Match(platforms.Normalize(image.Config.Platform))
}
