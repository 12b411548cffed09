package builder

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"sync"

	"github.com/opencontainers/go-digest"

	"cooper/dockerfile"
	"cooper/layers"
	"cooper/run"
)

// sandboxHostname is the host name that BuildKit gives to RUN steps.
const sandboxHostname = "buildkitsandbox"

// runWork is a RUN step.
type runWork struct {
	bd *build
	op *dockerfile.Run
}

func (w *runWork) lazy() bool { return false }

// inputs of a RUN step are its Op and its parent alone; mounted sources are
// not supported yet and checked for in do.
func (w *runWork) inputs(context.Context) (digest.Digest, error) { return "", nil }

// commandError is a command that ran and failed.
type commandError struct {
	status run.Status
	tail   []string
}

func (e *commandError) Error() string { return fmt.Sprintf("exit code: %d", e.status.ExitCode) }

// do runs the command in a container on sn.
func (w *runWork) do(ctx context.Context, v *vertex, sn *layers.Snapshot) (digest.Digest, error) {
	if err := w.supported(); err != nil {
		return "", err
	}
	view, err := sn.View()
	if err != nil {
		return "", err
	}
	defer view.Close()
	tail := &tail{}
	out, err := newOutput(v, tail)
	if err != nil {
		return "", err
	}
	status, err := w.bd.b.Runtime.Run(ctx, run.Task{
		Rootfs: sn.Rootfs(),
		View:   view,
		Config: w.config(),
		Stdout: out.stdout,
		Stderr: out.stderr,
		Files:  w.files(),
	})
	if cerr := out.close(); err == nil {
		err = cerr
	}
	var start *run.StartError
	switch {
	case ctx.Err() != nil:
		return "", context.Cause(ctx)
	case errors.As(err, &start) && start.Code != 125:
		tail.add([]byte(start.Error() + "\n"))
		return "", &commandError{run.Status{ExitCode: start.Code}, tail.lines()}
	case err != nil:
		return "", err
	case !status.Success():
		return "", &commandError{status, tail.lines()}
	}
	return "", nil
}

// supported refuses what would otherwise be ignored in silence.
func (w *runWork) supported() error {
	for _, m := range w.op.Mounts {
		return fmt.Errorf("RUN --mount=type=%s is not supported yet; COPY the files instead, or leave the mount out", m.Type)
	}
	if w.op.Security != "" && w.op.Security != "sandbox" {
		return fmt.Errorf("RUN --security=%s is not supported yet", w.op.Security)
	}
	if len(w.op.Devices) > 0 {
		return errors.New("RUN --device is not supported yet")
	}
	return nil
}

func (w *runWork) config() *run.Config {
	network := w.op.Network
	if network == "" || network == "default" {
		network = "host"
	}
	return &run.Config{
		Args:     w.op.Args,
		Env:      slices.Concat(w.op.Env, w.op.ProxyEnv),
		BareEnv:  true,
		Dir:      w.op.Dir,
		User:     w.op.User,
		Hostname: cmp.Or(w.op.Hostname, sandboxHostname),
		Network:  network,
	}
}

// files are the heredocs that a command reads by name.
func (w *runWork) files() map[string][]byte {
	if len(w.op.Files) == 0 {
		return nil
	}
	out := map[string][]byte{}
	for _, f := range w.op.Files {
		out[path.Join("/dev/pipes", f.Name)] = f.Data
	}
	return out
}

// output carries a command's standard streams to the events.
type output struct {
	stdout, stderr *os.File
	done           sync.WaitGroup
}

func newOutput(v *vertex, t *tail) (*output, error) {
	o := &output{}
	var err error
	if o.stdout, err = o.pipe(logWriter{v, 1}, t); err != nil {
		return nil, err
	}
	if o.stderr, err = o.pipe(logWriter{v, 2}, t); err != nil {
		return nil, errors.Join(err, o.stdout.Close())
	}
	return o, nil
}

// pipe returns the writing end of a pipe whose bytes go to w and t until all
// its writers are gone.
func (o *output) pipe(w io.Writer, t *tail) (*os.File, error) {
	r, wr, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	o.done.Go(func() {
		defer r.Close()
		_, _ = io.Copy(io.MultiWriter(w, t), r)
	})
	return wr, nil
}

// close ends the streams and waits until everything has been reported.
func (o *output) close() error {
	err := errors.Join(o.stdout.Close(), o.stderr.Close())
	o.done.Wait()
	return err
}
