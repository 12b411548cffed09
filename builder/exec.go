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
	"strings"
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
	// another RUN follows in the stage
	another bool
	// seeds digest what fills new caches, by number of the mount; inputs
	// finds them.
	seeds map[int]digest.Digest
	// fresh lets caches begin empty, as --no-cache does with BuildKit.
	fresh bool
}

func (w *runWork) lazy() bool { return false }

// commandError is a command that ran and failed.
type commandError struct {
	status run.Status
	tail   []string
}

func (e *commandError) Error() string { return fmt.Sprintf("exit code: %d", e.status.ExitCode) }

// do runs the command in a container on sn.
func (w *runWork) do(ctx context.Context, v *vertex, sn *layers.Snapshot) (_ digest.Digest, err error) {
	view, err := sn.View()
	if err != nil {
		return "", err
	}
	defer view.Close()
	m, err := w.mounts(ctx, v, view)
	defer func() { err = errors.Join(err, m.close()) }()
	if err != nil {
		return "", err
	}
	return "", w.bd.execute(ctx, v, run.Task{
		Rootfs:  sn.Rootfs(),
		View:    view,
		Config:  w.config(m),
		Files:   m.files,
		Trees:   m.trees,
		Another: w.another,
	})
}

// execute runs a container whose output is v's log. One that fails is a
// *commandError.
func (bd *build) execute(ctx context.Context, v *vertex, t run.Task) error {
	tail := &tail{}
	out, err := newOutput(v, tail)
	if err != nil {
		return err
	}
	t.Stdout, t.Stderr, t.Chroot = out.file, out.file, bd.o.Chroot
	bd.sayTier()
	status, err := bd.b.Runtime.Run(ctx, t)
	if cerr := out.close(); err == nil {
		err = cerr
	}
	var start *run.StartError
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.As(err, &start) && start.Code != 125:
		tail.add([]byte(start.Error() + "\n"))
		return &commandError{run.Status{ExitCode: start.Code}, tail.lines()}
	case start != nil:
		return fmt.Errorf("process %q did not complete successfully: %w", strings.Join(t.Config.Args, " "), bd.explain(err))
	case err != nil:
		return err
	case !status.Success():
		return &commandError{status, tail.lines()}
	}
	return nil
}

// mounts prepares what the step's --mount flags ask for, also when it returns an
// error; the caller closes it.
func (w *runWork) mounts(ctx context.Context, v *vertex, view *layers.View) (*mounts, error) {
	m := &mounts{bd: w.bd, view: view, files: map[string]run.File{}, fresh: w.fresh}
	if err := w.chown(ctx, view); err != nil {
		return m, err
	}
	for _, over := range w.bd.o.Overlays {
		sn, err := w.bd.b.Store.PrepareDir(ctx, over.Source)
		if err != nil {
			return m, fmt.Errorf("volume %s: %w", over.Source, err)
		}
		m.release = append(m.release, sn.Remove)
		m.trees = append(m.trees, run.Tree{Target: over.Target, Rootfs: sn.Rootfs(), Path: ".", Dir: true})
	}
	for i, spec := range w.op.Mounts {
		if err := m.add(ctx, spec, w.seeds[i]); err != nil {
			return m, err
		}
	}
	if err := m.addDevices(w.op.Devices, logWriter{v, 2}); err != nil {
		return m, err
	}
	for _, f := range w.op.Files {
		m.files[path.Join("/dev/pipes", f.Name)] = run.File{Data: f.Data, Mode: f.Mode}
	}
	return m, nil
}

// chown gives Options.Chown to the step's user.
func (w *runWork) chown(ctx context.Context, view *layers.View) error {
	if len(w.bd.o.Chown) == 0 {
		return nil
	}
	user, _, err := lookupOwner(view, cmp.Or(w.op.User, "0:0"))
	if err != nil {
		return err
	}
	for _, dir := range w.bd.o.Chown {
		if err := run.ChownTree(ctx, dir, int(user.uid), int(user.gid)); err != nil {
			return fmt.Errorf("volume %s: %w", dir, err)
		}
	}
	return nil
}

func (w *runWork) config(m *mounts) *run.Config {
	c := &run.Config{
		Args:       w.op.Args,
		Env:        slices.Concat(w.op.Env, w.op.ProxyEnv, m.env),
		BareEnv:    true,
		NoHostname: true, // what a step writes there is for the image
		Dir:        w.op.Dir,
		User:       w.op.User,
		Hostname:   cmp.Or(w.op.Hostname, w.bd.o.Container.Hostname, sandboxHostname),
		Network:    network(w.op.Network),
		Privileged: w.op.Security == insecure,
		Devices:    m.devices,
		CDIDevices: m.cdiDevices,
	}
	w.bd.o.surround(c)
	c.Mounts = append(c.Mounts, m.specs...)
	return c
}

// surround puts into c what every container of the build has: mounts, names and
// limits.
func (o *Options) surround(c *run.Config) {
	t := &o.Container
	c.Mounts = slices.Clone(t.Mounts)
	c.Domainname, c.ExtraHosts = t.Domainname, t.ExtraHosts
	c.DNS, c.DNSSearch, c.DNSOptions = t.DNS, t.DNSSearch, t.DNSOptions
	c.ShmSize, c.Ulimits = t.ShmSize, t.Ulimits
	c.Memory, c.MemorySwap, c.MemoryReservation = t.Memory, t.MemorySwap, t.MemoryReservation
	c.CPUs, c.CPUShares, c.CPUPeriod, c.CPUQuota = t.CPUs, t.CPUShares, t.CPUPeriod, t.CPUQuota
	c.CPUSetCPUs, c.CPUSetMems = t.CPUSetCPUs, t.CPUSetMems
	c.PidsLimit, c.CgroupParent = t.PidsLimit, t.CgroupParent
	c.CapAdd, c.CapDrop, c.GroupAdd = t.CapAdd, t.CapDrop, t.GroupAdd
	c.NoNewPrivileges, c.Seccomp, c.Mask, c.Unmask = t.NoNewPrivileges, t.Seccomp, t.Mask, t.Unmask
	c.CDIDevices = slices.Concat(t.CDIDevices, c.CDIDevices)
	c.Devices, c.NoHosts = slices.Concat(t.Devices, c.Devices), t.NoHosts
}

// network is what --network means here: the host's is the default.
func network(mode string) string {
	if mode == "" || mode == "default" {
		return "host"
	}
	return mode
}

// streams carries a command's standard streams to the events.
type streams struct {
	file *os.File
	done sync.WaitGroup
}

// newOutput returns a pipe whose bytes go to v's log and to t. Both streams
// share it, so that their lines keep the order in which they were written.
func newOutput(v *vertex, t *tail) (*streams, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	o := &streams{file: w}
	o.done.Go(func() {
		defer r.Close()
		_, _ = io.Copy(io.MultiWriter(logWriter{v, 1}, t), r)
	})
	return o, nil
}

// close ends the stream and waits until everything has been reported.
func (o *streams) close() error {
	err := o.file.Close()
	o.done.Wait()
	return err
}
