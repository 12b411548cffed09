package runner

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"

	"github.com/opencontainers/runc/libcontainer"
	"github.com/opencontainers/runc/libcontainer/configs"
	"github.com/opencontainers/runc/libcontainer/specconv"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"cooper/run/internal/wire"
)

// library is the engine of our own: libcontainer, up to the last stage. It can be
// made and launched ahead of its container: see type spare.
type library struct {
	r  *runner
	b  *bundle
	lc *libcontainer.Container
	*cgroup
	first *stageProcess
	// launched gets the result when the first process has been launched ahead.
	launched chan error
}

func (r *runner) newLibrary(b *bundle) (_ *library, err error) {
	l := &library{r: r, b: b}
	cfg, err := l.config()
	if err != nil {
		return nil, err
	}
	// The id also names the session keyring, which no two containers may share.
	if l.lc, err = libcontainer.Create(filepath.Join(b.dir, "state"), b.id, cfg); err != nil {
		return nil, err
	}
	if l.cgroup, err = newCgroup(l.lc, b.noCgroup); err != nil {
		return nil, errors.Join(err, l.lc.Destroy())
	}
	if l.first, err = r.newStageProcess(true, nil); err != nil {
		return nil, errors.Join(err, l.lc.Destroy())
	}
	return l, nil
}

// config makes libcontainer's form of the spec. What the last stage does is taken
// out: libcontainer starts that as the container's root with all capabilities.
func (l *library) config() (*configs.Config, error) {
	cfg, err := specconv.CreateLibcontainerConfig(&specconv.CreateOpts{
		CgroupName:      "cooper-" + l.b.id,
		Spec:            l.b.spec,
		RootlessEUID:    false,
		RootlessCgroups: l.b.rootlessCgroups || l.b.noCgroup,
		NoNewKeyring:    l.b.noKeyring,
		NoPivotRoot:     l.b.noPivot,
	})
	if err != nil {
		return nil, err
	}
	cfg.Capabilities, cfg.Seccomp, cfg.NoNewPrivileges = nil, nil, false
	for _, r := range l.b.spec.Process.Rlimits { // specconv leaves them to its caller
		cfg.Rlimits = append(cfg.Rlimits, configs.Rlimit{Type: wire.Rlimits[r.Type], Soft: r.Soft, Hard: r.Hard})
	}
	return cfg, nil
}

// begin opens the gate of the first process while that is on its way there.
func (l *library) begin(c *container) (process, error) {
	entered := make(chan error, 1)
	go func() { entered <- l.enter(c) }()
	var err error
	if l.launched != nil {
		err = <-l.launched
	} else {
		terminal := terminal{on: c.req.Spec.Process.Terminal, width: c.req.Width, height: c.req.Height, take: c.told.console}
		err = l.run(l.first, terminal) // on this thread: the process may end with it
	}
	if e := <-entered; e != nil {
		return nil, e
	}
	if err != nil {
		return nil, cmp.Or(l.first.gate.refusal(), err)
	}
	return l.first, nil
}

// enter gives the first process all that it waits for at its gate. After an error
// it waits no more.
func (l *library) enter(c *container) (err error) {
	defer func() {
		if err != nil {
			l.first.gate.ours.Close()
		}
	}()
	streams, stdio := standardStreams(c.req.Stdio, c.files)
	c.owner.giveStreams(streams, c.req.Stage.UID)
	if err := l.first.instruct(&c.req.Stage, stdio); err != nil {
		return err
	}
	if err := c.root.mount(); err != nil {
		return fmt.Errorf("mount root file system: %w", err)
	}
	return l.first.gate.open(c.root.path, streams)
}

func (l *library) execute() error { return l.first.executed() }

func (l *library) exec(s *session) (process, error) {
	s.req.Stage.DieWithParent = true
	streams, stdio := standardStreams(s.req.Stdio, s.files)
	s.c.owner.giveStreams(streams, s.req.Stage.UID)
	p, err := l.r.newStageProcess(false, streams)
	if err != nil {
		return nil, err
	}
	defer p.close()
	if err := p.instruct(&s.req.Stage, stdio); err != nil {
		return nil, err
	}
	terminal := terminal{on: s.req.Terminal, width: s.req.Width, height: s.req.Height, take: s.console}
	if err := l.run(p, terminal); err != nil {
		return nil, fmt.Errorf("exec: %w", err)
	}
	if err := p.executed(); err != nil {
		kill(p)
		return nil, err
	}
	return p, nil
}

// terminal is what a process is to have as its terminal.
type terminal struct {
	on            bool
	width, height uint16
	take          func(master *os.File)
}

// run starts p, which then is in its last stage.
func (l *library) run(p *stageProcess, t terminal) error {
	wait := func() {}
	if t.on {
		var err error
		p.ConsoleWidth, p.ConsoleHeight = t.width, t.height
		if wait, err = connectConsole(p.Process, t.take); err != nil {
			return err
		}
	}
	err := l.lc.Run(p.Process)
	p.handOver()
	if err != nil {
		kill(p)
	}
	wait()
	return err
}

func (l *library) pause() error  { return l.lc.Pause() }
func (l *library) resume() error { return l.lc.Resume() }

func (l *library) limit(*specs.LinuxResources) error {
	cfg, err := l.config()
	if err != nil {
		return err
	}
	return l.lc.Set(*cfg)
}

func (l *library) destroy() error {
	l.first.close()
	return l.lc.Destroy()
}

// libraryProcess is a process of libcontainer's.
type libraryProcess struct{ *libcontainer.Process }

func (p libraryProcess) pid() int {
	pid, _ := p.Pid() // fails before the start
	return pid
}

func (p libraryProcess) signal(s unix.Signal) error { return p.Signal(s) }

func (p libraryProcess) wait(end *wire.Event) error {
	state, err := p.Wait()
	var exit *exec.ExitError // a status other than 0 is no error here
	if state == nil || (err != nil && !errors.As(err, &exit)) {
		return fmt.Errorf("wait for container: %w", err)
	}
	note(end, state.Sys().(syscall.WaitStatus))
	return nil
}
