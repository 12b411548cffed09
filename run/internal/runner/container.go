package runner

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"

	"cooper/run/internal/orphans"
	"cooper/run/internal/stage"
	"cooper/run/internal/wire"
)

// container is one container from request to removal.
type container struct {
	r     *runner
	req   *wire.Run
	files []*os.File // received with the request
	told  observer

	dir   string         // its directory below the runner's
	group *orphans.Group // nil if the kernel ends its processes

	mu      sync.Mutex
	engine  engine
	process process       // set once it can be signalled
	pending []unix.Signal // arrived before that
}

// observer hears of a container's start.
type observer struct {
	// console takes the other end of a terminal over.
	console func(master *os.File)
	// started is called when the program has been executed. The files are a
	// pidfd and, if the kernel does not end all its processes with the
	// first, its mount namespace; they are closed afterwards.
	started func(e wire.Event, files ...*os.File) error
}

func newContainer(r *runner, req *wire.Run, files []*os.File, o observer) *container {
	return &container{r: r, req: req, files: files, told: o, dir: filepath.Join(r.dir, strconv.FormatUint(req.Call, 36))}
}

// report is the observer of a Runtime's container.
func (r *runner) report(call uint64) observer {
	return observer{
		console: func(master *os.File) {
			defer master.Close()
			r.conn.Send(wire.KindConsole, wire.Event{Call: call}, master)
		},
		started: func(e wire.Event, files ...*os.File) error { return r.conn.Send(wire.KindStarted, e, files...) },
	}
}

// signal sends s to the first process, or remembers it until there is one.
func (c *container) signal(s unix.Signal) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.process == nil {
		c.pending = append(c.pending, s)
		return
	}
	c.process.signal(s) // an error means that it has ended
}

// started makes the process known to signal.
func (c *container) started(p process) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.process = p
	for _, s := range c.pending {
		p.signal(s)
	}
	c.pending = nil
}

// run makes the container, waits for its end and removes it. What is left then is
// seen by nobody: see cleanUp.
func (c *container) run() (end wire.Event) {
	end = wire.Event{Call: c.req.Call}
	err := c.runMounted(&end)
	if end.Finished.IsZero() {
		end.Finished = time.Now()
	}
	var f *stage.Failure
	switch {
	case errors.As(err, &f):
		end.Code, end.Error = f.Code, f.Text
	case err != nil:
		if end.Started.IsZero() {
			end.Code = 125
		}
		end.Error = err.Error()
	}
	return end
}

// cleanUp removes what the container had in the runner's own file system. It is not
// waited for.
func (c *container) cleanUp() {
	for _, f := range c.files {
		f.Close()
	}
	if err := os.RemoveAll(c.dir); err != nil {
		logrus.Warn(err)
	}
}

func (c *container) runMounted(end *wire.Event) (err error) {
	if err := os.MkdirAll(c.dir, 0o711); err != nil {
		return err
	}
	m := &rootfs{dir: c.dir, req: &c.req.Rootfs, files: c.files, stubs: c.req.Stubs}
	defer func() { err = errors.Join(err, m.unmount()) }()
	if err := m.mount(); err != nil {
		return fmt.Errorf("mount root file system: %w", err)
	}
	c.req.Spec.Root.Path = m.path
	trees, err := c.addTrees()
	defer func() { err = errors.Join(err, trees.unmount()) }()
	if err != nil {
		return err
	}
	unmount, err := c.addSharedMemory()
	defer unmount()
	if err != nil {
		return err
	}
	if err := c.addFiles(); err != nil {
		return err
	}
	sortMounts(c.req.Spec.Mounts)
	return c.runProcess(end)
}

// addFiles writes the small files and adds their bind mounts.
func (c *container) addFiles() error {
	if len(c.req.Files) == 0 {
		return nil
	}
	dir := filepath.Join(c.dir, "files")
	if err := os.Mkdir(dir, 0o711); err != nil {
		return err
	}
	for i, f := range c.req.Files {
		path := filepath.Join(dir, strconv.Itoa(i))
		if err := os.WriteFile(path, f.Data, 0o600); err != nil {
			return err
		}
		if f.UID != 0 || f.GID != 0 {
			if err := os.Chown(path, int(f.UID), int(f.GID)); err != nil {
				return fmt.Errorf("file %s: %w", f.Path, err)
			}
		}
		if err := os.Chmod(path, os.FileMode(f.Mode)); err != nil {
			return err
		}
		c.req.Spec.Mounts = append(c.req.Spec.Mounts, bindFile(path, f.Path))
	}
	return nil
}

// runProcess starts the first process, waits for it and removes what the engine has
// made.
func (c *container) runProcess(end *wire.Event) (err error) {
	e, err := newLibrary(c)
	if err != nil {
		return err
	}
	c.mu.Lock()
	c.engine = e
	c.mu.Unlock()
	defer func() { err = errors.Join(err, e.destroy()) }()
	p, err := c.start(end)
	if err != nil {
		return err
	}
	err = p.wait(end)
	if c.group != nil {
		c.group.Kill()
		c.group.Close()
	}
	if err != nil {
		return err
	}
	end.OOMKilled = e.oomKills() > 0
	return nil
}

// start starts the first process up to the execution of the user's program, and
// reports that.
func (c *container) start(end *wire.Event) (process, error) {
	p, err := c.engine.begin()
	if err != nil {
		return nil, err
	}
	c.started(p)
	if !c.hasProcesses() {
		c.group, _ = orphans.Watch(p.pid()) // fails if it has ended already, leaving nothing
	}
	if err = c.engine.execute(); err == nil {
		end.Started = time.Now()
		err = c.reportStart(p)
	}
	if err != nil {
		kill(p)
		if c.group != nil {
			c.group.Kill()
			c.group.Close()
		}
		return nil, err
	}
	return p, nil
}

// hasProcesses reports whether the container has a process id namespace.
func (c *container) hasProcesses() bool {
	return slices.ContainsFunc(c.req.Spec.Linux.Namespaces, func(n specs.LinuxNamespace) bool {
		return n.Type == specs.PIDNamespace && n.Path == ""
	})
}

// reportStart tells the observer, with what it needs to kill the container should
// this process die first.
func (c *container) reportStart(p process) error {
	e := wire.Event{Call: c.req.Call, PID: p.pid(), Started: time.Now(), Cgroups: c.engine.cgroups()}
	var files []*os.File
	if fd, err := unix.PidfdOpen(e.PID, 0); err == nil {
		f := os.NewFile(uintptr(fd), "pidfd")
		defer f.Close()
		files = append(files, f)
	}
	if c.group != nil {
		files = append(files, c.group.File())
	}
	return c.told.started(e, files...)
}
