package runner

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"

	"github.com/opencontainers/runc/libcontainer"
	"github.com/opencontainers/runc/libcontainer/configs"
	"github.com/opencontainers/runc/libcontainer/specconv"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"cooper/run/internal/stage"
	"cooper/run/internal/wire"
)

// library is the engine of our own: libcontainer, up to the last stage.
type library struct {
	c  *container
	lc *libcontainer.Container
	*cgroup

	report *os.File // of the first process's last stage
}

func newLibrary(c *container) (*library, error) {
	l := &library{c: c}
	cfg, err := l.config()
	if err != nil {
		return nil, err
	}
	// The id also names the session keyring, which no two containers may share.
	if l.lc, err = libcontainer.Create(filepath.Join(c.dir, "state"), c.req.ID, cfg); err != nil {
		return nil, err
	}
	if l.cgroup, err = newCgroup(l.lc, c.req.NoCgroup); err != nil {
		return nil, err
	}
	return l, nil
}

// config makes libcontainer's form of the spec. What the last stage does is taken
// out: libcontainer starts that as the container's root with all capabilities.
func (l *library) config() (*configs.Config, error) {
	c := l.c
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
	for _, r := range c.req.Spec.Process.Rlimits { // specconv leaves them to its caller
		cfg.Rlimits = append(cfg.Rlimits, configs.Rlimit{Type: wire.Rlimits[r.Type], Soft: r.Soft, Hard: r.Hard})
	}
	return cfg, nil
}

func (l *library) begin() (process, error) {
	c := l.c
	p, report, err := l.newProcess(&c.req.Stage, c.req.Stdio, c.files)
	if err != nil {
		return nil, err
	}
	p.Init = true
	terminal := terminal{on: c.req.Spec.Process.Terminal, width: c.req.Width, height: c.req.Height, take: c.told.console}
	if err := l.run(p, terminal); err != nil {
		report.Close()
		return nil, err
	}
	l.report = report
	return libraryProcess{p}, nil
}

func (l *library) execute() error { return readReport(l.report) }

func (l *library) exec(s *session) (process, error) {
	s.req.Stage.DieWithParent = true
	p, report, err := l.newProcess(&s.req.Stage, s.req.Stdio, s.files)
	if err != nil {
		return nil, err
	}
	terminal := terminal{on: s.req.Terminal, width: s.req.Width, height: s.req.Height, take: s.console}
	if err := l.run(p, terminal); err != nil {
		report.Close()
		return nil, fmt.Errorf("exec: %w", err)
	}
	if err := readReport(report); err != nil {
		kill(libraryProcess{p})
		return nil, err
	}
	return libraryProcess{p}, nil
}

// terminal is what a process is to have as its terminal.
type terminal struct {
	on            bool
	width, height uint16
	take          func(master *os.File)
}

// run starts p, which then is in its last stage.
func (l *library) run(p *libcontainer.Process, t terminal) error {
	wait := func() {}
	if t.on {
		var err error
		p.ConsoleWidth, p.ConsoleHeight = t.width, t.height
		if wait, err = connectConsole(p, t.take); err != nil {
			closeStageFiles(p)
			return err
		}
	}
	err := l.lc.Run(p)
	closeStageFiles(p)
	if err != nil {
		kill(libraryProcess{p})
	}
	wait()
	return err
}

// readReport reads a last stage's report to its end and closes it.
func readReport(report *os.File) error {
	defer report.Close()
	f, err := stage.ReadFailure(report)
	if f != nil {
		return f
	}
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

func (l *library) destroy() error { return l.lc.Destroy() }

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
func (l *library) newProcess(st *wire.Stage, streamOf [3]int, files []*os.File) (p *libcontainer.Process, report *os.File, err error) {
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
		Stdin:      l.c.r.null,
		Stdout:     l.c.r.null,
		Stderr:     l.c.r.null,
		ExtraFiles: append([]*os.File{l.c.r.exe, instructions, w}, streams...),
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
