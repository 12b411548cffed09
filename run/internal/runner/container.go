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

	"github.com/opencontainers/runc/libcontainer"
	"github.com/opencontainers/runc/libcontainer/configs"
	"github.com/opencontainers/runc/libcontainer/specconv"
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
	lc      *libcontainer.Container
	cgroup  *cgroup
	process *libcontainer.Process // set once it can be signalled
	pending []unix.Signal         // arrived before that
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
	c.process.Signal(s) // an error means that it has ended
}

// started makes the process known to signal.
func (c *container) started(p *libcontainer.Process) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.process = p
	for _, s := range c.pending {
		p.Signal(s)
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

// config makes libcontainer's form of the spec. What the last stage does is taken
// out: libcontainer starts that as the container's root with all capabilities.
func (c *container) config() (*configs.Config, error) {
	cfg, err := specconv.CreateLibcontainerConfig(&specconv.CreateOpts{
		CgroupName:      "cooper-" + c.req.ID,
		Spec:            c.req.Spec,
		RootlessEUID:    false,
		RootlessCgroups: c.req.RootlessCgroups || c.req.NoCgroup,
	})
	if err != nil {
		return nil, err
	}
	cfg.Capabilities, cfg.Seccomp, cfg.NoNewPrivileges = nil, nil, false
	for _, l := range c.req.Spec.Process.Rlimits { // specconv leaves them to its caller
		cfg.Rlimits = append(cfg.Rlimits, configs.Rlimit{Type: wire.Rlimits[l.Type], Soft: l.Soft, Hard: l.Hard})
	}
	return cfg, nil
}

// runProcess starts the first process, waits for it and removes what libcontainer
// has made.
func (c *container) runProcess(end *wire.Event) (err error) {
	cfg, err := c.config()
	if err != nil {
		return err
	}
	// The id also names the session keyring, which no two containers may share.
	lc, err := libcontainer.Create(filepath.Join(c.dir, "state"), c.req.ID, cfg)
	if err != nil {
		return err
	}
	cg, err := newCgroup(lc, c.req.NoCgroup)
	if err != nil {
		return err
	}
	c.mu.Lock()
	c.lc, c.cgroup = lc, cg
	c.mu.Unlock()
	defer func() { err = errors.Join(err, lc.Destroy()) }()
	p, err := c.start(lc, cg, end)
	if err != nil {
		return err
	}
	err = awaitProcess(p, end)
	if c.group != nil {
		c.group.Kill()
		c.group.Close()
	}
	if err != nil {
		return err
	}
	end.OOMKilled = cg.oomKills() > 0
	return nil
}

// start runs libcontainer's part and the last stage up to the execution of the
// user's program, and reports that.
func (c *container) start(lc *libcontainer.Container, cg *cgroup, end *wire.Event) (*libcontainer.Process, error) {
	p, report, err := c.newProcess(&c.req.Stage, c.req.Stdio, c.files)
	if err != nil {
		return nil, err
	}
	p.Init = true
	defer report.Close()
	if c.req.Spec.Process.Terminal {
		p.ConsoleWidth, p.ConsoleHeight = c.req.Width, c.req.Height
		wait, err := connectConsole(p, c.told.console)
		if err != nil {
			closeStageFiles(p)
			return nil, err
		}
		defer wait()
	}
	err = lc.Run(p)
	closeStageFiles(p)
	if err != nil {
		kill(p)
		return nil, err
	}
	c.started(p)
	if pid, err := p.Pid(); err == nil && !c.hasProcesses() {
		c.group, _ = orphans.Watch(pid) // fails if it has ended already, leaving nothing
	}
	f, err := stage.ReadFailure(report)
	if f != nil {
		err = f
	}
	if err == nil {
		end.Started = time.Now()
		err = c.reportStart(p, cg)
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

// kill ends and reaps p, if it was started.
func kill(p *libcontainer.Process) {
	p.Signal(unix.SIGKILL)
	p.Wait()
}

// The last stage's descriptors, in the order of ExtraFiles.
const (
	stageExe = 3 + iota
	stageInstructions
	stageReport
	stageStdio
)

// newProcess makes libcontainer's process: the last stage, with its instructions.
// Standard streams are indices of files. The caller reads report to its end and
// closes it.
func (c *container) newProcess(st *wire.Stage, streamOf [3]int, files []*os.File) (p *libcontainer.Process, report *os.File, err error) {
	stdio := [3]int32{-1, -1, -1}
	var streams []*os.File
	for i, n := range streamOf {
		if n >= 0 && n < len(files) {
			stdio[i] = stageStdio + int32(len(streams))
			streams = append(streams, files[n])
		}
	}
	b, err := stage.Encode(st, stdio, stageStdio+int32(len(streams)))
	if err != nil {
		return nil, nil, err
	}
	instructions, err := memfile("stage", b)
	if err != nil {
		return nil, nil, err
	}
	report, w, err := os.Pipe()
	if err != nil {
		instructions.Close()
		return nil, nil, err
	}
	return &libcontainer.Process{
		Args: []string{"/proc/self/fd/" + strconv.Itoa(stageExe)},
		// HOME keeps libcontainer from looking for one.
		Env:        []string{stage.Env + "=" + strconv.Itoa(stageInstructions), "HOME=/"},
		Stdin:      c.r.null,
		Stdout:     c.r.null,
		Stderr:     c.r.null,
		ExtraFiles: append([]*os.File{c.r.exe, instructions, w}, streams...),
	}, report, nil
}

// closeStageFiles closes what only the last stage needs, so that its end of the
// report pipe is the only one.
func closeStageFiles(p *libcontainer.Process) {
	p.ExtraFiles[1].Close()
	p.ExtraFiles[2].Close()
}

// memfile returns a file in memory with content b.
func memfile(name string, b []byte) (*os.File, error) {
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("memfd_create", err)
	}
	f := os.NewFile(uintptr(fd), name)
	if _, err := f.Write(b); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// hasProcesses reports whether the container has a process id namespace.
func (c *container) hasProcesses() bool {
	return slices.ContainsFunc(c.req.Spec.Linux.Namespaces, func(n specs.LinuxNamespace) bool {
		return n.Type == specs.PIDNamespace && n.Path == ""
	})
}

// reportStart tells the observer, with what it needs to kill the container should
// this process die first.
func (c *container) reportStart(p *libcontainer.Process, cg *cgroup) error {
	pid, err := p.Pid()
	if err != nil {
		return err
	}
	e := wire.Event{Call: c.req.Call, PID: pid, Started: time.Now(), Cgroups: cg.dirs()}
	var files []*os.File
	if fd, err := unix.PidfdOpen(pid, 0); err == nil {
		f := os.NewFile(uintptr(fd), "pidfd")
		defer f.Close()
		files = append(files, f)
	}
	if c.group != nil {
		files = append(files, c.group.File())
	}
	return c.told.started(e, files...)
}
