package runner

import (
	"errors"
	"os"
	"sync"
	"time"

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

	spare *spare // made for it ahead of time, or nil

	b     *bundle
	root  *rootfs
	group *orphans.Group // nil if the kernel ends its processes
	owner *owner         // nil without a user namespace of its own

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
	return &container{r: r, req: req, files: files, told: o}
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
	err := c.live(&end)
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
	if c.b != nil {
		c.b.cleanUp()
	}
}

// live makes the container, starts its program, waits for the end and removes what
// was made.
func (c *container) live(end *wire.Event) (err error) {
	if c.req.Stage.Chroot != nil {
		return c.liveInChroot(end)
	}
	e, err := c.make()
	if err != nil {
		return err
	}
	c.root = &rootfs{
		dir: c.b.dir, path: c.b.spec.Root.Path, req: &c.req.Rootfs, files: c.files, stubs: c.req.Stubs, owner: c.owner,
	}
	c.mu.Lock()
	c.engine = e
	c.mu.Unlock()
	defer func() { err = errors.Join(err, e.destroy(), c.b.remove(), c.root.unmount()) }()
	p, err := c.start(end)
	if err != nil {
		return err
	}
	err = p.wait(end)
	c.endOrphans()
	if err != nil {
		return err
	}
	end.OOMKilled = e.oomKills() > 0
	return nil
}

// make makes the container's bundle and engine, or takes the spare's.
func (c *container) make() (_ engine, err error) {
	if c.spare != nil {
		if l := c.spare.get(); l != nil {
			c.b = l.b
			return l, nil
		}
	}
	if c.b, err = c.r.newBundle(c.req, c.files, c.owner); err != nil {
		return nil, err
	}
	e, err := c.newEngine()
	if err != nil {
		return nil, errors.Join(err, c.b.remove())
	}
	return e, nil
}

// start starts the first process up to the execution of the user's program, and
// reports that.
func (c *container) start(end *wire.Event) (process, error) {
	if c.req.Another {
		c.r.addSpare(c.req)
	}
	p, err := c.engine.begin(c)
	if err != nil {
		return nil, err
	}
	c.started(p)
	if !c.b.hasProcesses() {
		c.group, _ = orphans.Watch(p.pid()) // fails if it has ended already, leaving nothing
	}
	if err = c.engine.execute(); err == nil {
		end.Started = time.Now()
		err = c.reportStart(p)
	}
	if err != nil {
		kill(p)
		c.endOrphans()
		return nil, err
	}
	return p, nil
}

// endOrphans ends what the first process has left.
func (c *container) endOrphans() {
	if c.group != nil {
		c.group.Kill()
		c.group.Close()
	}
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
