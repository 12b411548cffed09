package run

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"cooper/layers"
	"cooper/run/internal/life"
	"cooper/run/internal/spawn"
	"cooper/run/internal/wire"
)

// defaultStopTimeout is how long stop waits before it kills, as docker's does.
const defaultStopTimeout = 10 * time.Second

// lockTime bounds the wait for a monitor that is about to end, or a command that is
// at work on the container, to let go of it.
const lockTime = 10 * time.Second

// Start starts the container with a monitor of its own and returns when its program
// has been executed. It is a *StartError that says why it could not be, and wraps
// ErrRunning if it runs already. Once begun, a start is not undone by ctx.
func (c *Container) Start(ctx context.Context) error {
	s, err := c.begin(ctx, nil)
	if err != nil {
		return err
	}
	defer s.close()
	return s.started(ctx)
}

// StartTo is Start for a container whose output, beside its log, goes to stdout and
// stderr as long as it runs. They stay the caller's.
func (c *Container) StartTo(ctx context.Context, stdout, stderr *os.File) error {
	s, err := c.begin(ctx, &Streams{Stdout: stdout, Stderr: stderr, lasting: true})
	if err != nil {
		return err
	}
	defer s.close()
	return s.started(ctx)
}

// Run starts the container connected with streams, and returns how it ended. A
// Foreground container has them as its own and ends with ctx and with this process;
// others live on, and Run returns ErrDetached when that was typed.
func (c *Container) Run(ctx context.Context, streams Streams) (Status, error) {
	s, err := c.begin(ctx, &streams)
	if err != nil {
		return Status{}, err
	}
	defer s.close()
	return s.follow(ctx)
}

// begin starts the monitor. Streams nil leave the container to itself.
func (c *Container) begin(ctx context.Context, streams *Streams) (*session, error) {
	lock, err := c.lockToStart(ctx)
	if err != nil {
		return nil, err
	}
	defer lock.Close()
	var edits *os.File
	if !c.opts().Foreground {
		if edits, err = lockDir(c.dir); err != nil {
			return nil, &StartError{Code: 125, Err: c.fail("start", err)}
		}
	}
	s, err := c.launch(lock, streams)
	if err != nil {
		edits.Close() // of nil it does nothing
		return nil, &StartError{Code: 125, Err: err}
	}
	s.edits = edits
	return s, nil
}

// lockToStart takes the lock of a container that does not run.
func (c *Container) lockToStart(ctx context.Context) (*os.File, error) {
	if lock := c.held.Swap(nil); lock != nil {
		return lock, nil
	}
	ctx, cancel := context.WithTimeoutCause(ctx, lockTime, fmt.Errorf("start container %s: another command is at work on it: try again later", c.opts().Name))
	defer cancel()
	for {
		lock, err := c.lock()
		if err == nil {
			if _, err = c.settleLocked(); err == nil {
				return lock, nil
			}
			lock.Close()
			return nil, err
		}
		if !errors.Is(err, errLocked) {
			return nil, err
		}
		st, err := c.readState()
		if err != nil {
			return nil, err
		}
		if st.Alive() {
			return nil, fmt.Errorf("start container %s: %w", c.opts().Name, ErrRunning)
		}
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-time.After(2 * time.Millisecond):
		}
	}
}

// launch starts the monitor's process and sends it the request.
func (c *Container) launch(lock *os.File, streams *Streams) (_ *session, err error) {
	present := c
	if !c.opts().Foreground { // another command may have changed its options
		if present, err = c.cs.open(c.id); err != nil {
			return nil, err
		}
	}
	req, files, err := present.request()
	if err != nil {
		return nil, err
	}
	dir, err := os.Open(c.dir)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	listener, err := c.listen()
	if err != nil {
		return nil, err
	}
	defer listener.Close()
	req.Dir, req.Lock, req.Listener = len(files), len(files)+1, len(files)+2
	files = append(files, dir, lock, listener)
	s := &session{name: c.opts().Name, terminal: c.opts().Config.Terminal, streams: streams, warn: c.cs.Warn}
	if s.uplink, err = holdUplink(req.Network); err != nil {
		return nil, err
	}
	if streams != nil {
		if files, err = s.give(req, files); err != nil {
			return nil, err
		}
	}
	if !c.opts().Foreground {
		spawn.Keep()
	}
	process, err := spawn.Start(spawn.DefaultDir())
	if err != nil {
		s.close()
		return nil, err
	}
	s.open(process.Conn, process)
	if !c.opts().Foreground {
		if err := layers.KeepUserNamespace(process.Cmd.Process.Pid); err != nil {
			s.close()
			return nil, err
		}
		_ = spawn.Share(process.Cmd.Process.Pid) // without it more memory is used
	}
	if err := s.conn.Send(life.KindStart, req, files...); err != nil {
		s.close()
		return nil, fmt.Errorf("container monitor: %w", err)
	}
	s.given()
	return s, nil
}

// listen makes the control socket. Its path may be longer than a socket's address:
// it is bound by way of its open directory.
func (c *Container) listen() (*os.File, error) {
	if err := os.MkdirAll(c.RunDir(), 0o700); err != nil {
		return nil, err
	}
	dir, err := os.Open(c.RunDir())
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	path := life.FilePath(dir, life.SocketFile)
	if err := unix.Unlink(path); err != nil && err != unix.ENOENT {
		return nil, err
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	l.SetUnlinkOnClose(false)
	defer l.Close()
	return l.File()
}

// request says everything that the monitor has to know.
func (c *Container) request() (*life.Request, []*os.File, error) {
	o := c.opts()
	conf := o.Config
	t := Task{ID: c.id, Config: &conf, OCI: c.runtime(), commandDir: c.commandDir()}
	var err error
	if t.Rootfs, err = c.mountRootfs(); err != nil {
		return nil, nil, err
	}
	mounts, trees, err := c.mounts()
	if err != nil {
		return nil, nil, err
	}
	conf.Mounts = append(slices.Clone(conf.Mounts), mounts...)
	t.Trees = trees
	req := &life.Request{
		Name: o.Name, Foreground: o.Foreground, OpenStdin: o.OpenStdin, StdinOnce: o.StdinOnce,
		Log: o.Log, Health: o.Health, Restart: o.Restart,
		StopSignal: int(conf.StopSignal), StopTimeout: c.stop(StopOptions{}).Grace, Timeout: o.Timeout, PIDFile: o.PIDFile,
		Journal: c.cs.EventsFile(), Attributes: map[string]string{"image": o.Image},
	}
	maps.Copy(req.Attributes, o.Labels)
	if o.AutoRemove && len(o.Program) > 0 {
		req.Remover, req.Environment = append(slices.Clone(o.Program), c.id), os.Environ()
	}
	if conf.UserNS != nil {
		if t.View, err = c.View(); err != nil {
			return nil, nil, err
		}
		defer t.View.Close()
	}
	if err := c.joinOthers(&conf); err != nil {
		return nil, nil, err
	}
	if err := c.connect(req, &t, &conf); err != nil {
		return nil, nil, err
	}
	if err := c.addAccounts(&t, &conf); err != nil {
		return nil, nil, err
	}
	run, files, err := newRequest(&t, "")
	if err != nil {
		return nil, nil, err
	}
	run.Stage.Init = o.Init
	if run.Command != nil {
		run.Command.Init = o.Init
	}
	req.Run = *run
	if !o.Foreground {
		files = forgetFiles(&req.Run)
	}
	if req.State, err = c.readState(); err != nil {
		return nil, nil, err
	}
	req.State.BootID, req.State.RestartCount, req.State.StoppedByUser = bootID(), 0, false
	req.State.Health = nil
	return req, files, nil
}

// forgetFiles leaves directories to be found by their paths: those of layers in the
// store, which a kept container has, do not change.
func forgetFiles(r *wire.Run) []*os.File {
	for i := range r.Rootfs.LowerFile {
		r.Rootfs.LowerFile[i] = wire.NoFile
	}
	for _, t := range r.Trees {
		for i := range t.Rootfs.LowerFile {
			t.Rootfs.LowerFile[i] = wire.NoFile
		}
	}
	return nil
}

// joinOthers replaces the other containers whose namespaces conf asks for by these
// namespaces.
func (c *Container) joinOthers(conf *Config) error {
	for mode, kind := range map[*string]string{&conf.PID: "pid", &conf.IPC: "ipc"} {
		path, err := c.namespaceOf(*mode, kind)
		if err != nil {
			return err
		}
		if path != "" {
			*mode = "ns:" + path
		}
	}
	return c.joinUserNS(conf)
}

// namespaceOf is the path of the namespace that a mode "container:NAME" means; ""
// for other modes.
func (c *Container) namespaceOf(mode, kind string) (string, error) {
	other, st, err := c.other(mode)
	if other == nil || err != nil {
		return "", err
	}
	return filepath.Join("/proc", strconv.Itoa(st.PID), "ns", kind), nil
}

// other is the running container that a mode "container:NAME" means; nil for other
// modes.
func (c *Container) other(mode string) (*Container, State, error) {
	name, ok := cutContainer(mode)
	if !ok {
		return nil, State{}, nil
	}
	other, err := c.cs.Find(name)
	if err != nil {
		return nil, State{}, err
	}
	st, err := other.State()
	if err != nil {
		return nil, st, err
	}
	if !st.Running() {
		return nil, st, fmt.Errorf("cannot join the namespaces of container %s: %w: start it first", other.opts().Name, ErrNotRunning)
	}
	return other, st, nil
}
