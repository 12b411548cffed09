package runner

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"cooper/run/internal/stage"
	"cooper/run/internal/wire"
)

// command is the engine that another OCI runtime is: its command is called for each
// thing to be done. The processes that it leaves running become children of this
// one, which is a subreaper.
//
// In its directory are the runtime's own state, the bundle (config.json), and files
// with process ids for as long as a call takes. Who finds the directory of a monitor
// that was killed has the runtime delete the container: see run.Container.
type command struct {
	c      *container
	dir    *os.File
	first  *commandProcess
	groups commandGroups
	calls  atomic.Int64 // tells the files of one from others'
}

// Names in a command's directory.
const (
	commandState  = "state"
	commandBundle = "bundle"
)

// commandEnv is the environment of a runtime. What it runs has the spec's.
var commandEnv = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/"}

func newCommand(c *container) (*command, error) {
	dir := c.req.Command.Dir
	if dir == "" {
		dir = filepath.Join(c.b.dir, "command")
	}
	for _, name := range []string{commandState, commandBundle} {
		if err := os.MkdirAll(filepath.Join(dir, name), 0o700); err != nil {
			return nil, err
		}
	}
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	coverUnified()
	c.r.reaper.start()
	return &command{c: c, dir: f}, nil
}

func (e *command) begin(c *container) (process, error) {
	if err := e.removeOld(); err != nil {
		return nil, err
	}
	if err := c.root.mount(); err != nil {
		return nil, fmt.Errorf("mount root file system: %w", err)
	}
	spec, first := *c.b.spec, *c.b.spec.Process
	first.ConsoleSize, spec.Process = consoleSize(c.req.Width, c.req.Height), &first
	if c.req.Command.Init {
		if err := addInit(c, &spec); err != nil {
			return nil, err
		}
	}
	text, err := json.Marshal(spec)
	if err != nil {
		return nil, err
	}
	bundle := filepath.Join(e.dir.Name(), commandBundle)
	if err := os.WriteFile(filepath.Join(bundle, "config.json"), text, 0o600); err != nil {
		return nil, err
	}
	args := []string{"create", "--bundle", bundle}
	if c.req.NoPivot {
		args = append(args, "--no-pivot")
	}
	if c.req.NoKeyring {
		args = append(args, "--no-new-keyring")
	}
	p, err := e.start(&started{
		args: args, program: first.Args[0], uid: first.User.UID,
		stdio: c.req.Stdio, files: c.files,
		terminal: terminal{on: first.Terminal, take: c.told.console},
	})
	if err != nil {
		return nil, err
	}
	p.isFirst, e.first = true, p
	e.groups = groupsOf(p.pid(), "cooper-"+c.req.ID)
	return p, nil
}

// addInit puts this program, as an init, above the spec's.
func addInit(c *container, spec *specs.Spec) error {
	file := filepath.Join(c.b.dir, "init")
	to, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o555)
	if err != nil {
		return err
	}
	_, err = io.Copy(to, io.NewSectionReader(c.r.exe, 0, math.MaxInt64))
	if err := errors.Join(err, to.Close()); err != nil {
		return fmt.Errorf("copy init: %w", err)
	}
	m := bindFile(file, stage.InitPath)
	m.Options = append(m.Options, "ro")
	spec.Mounts = append(slices.Clone(spec.Mounts), m)
	spec.Process.Args = append([]string{stage.InitPath}, spec.Process.Args...)
	return nil
}

// removeOld removes what a former run could not.
func (e *command) removeOld() error {
	old, err := os.ReadDir(filepath.Join(e.dir.Name(), commandState))
	if err != nil || len(old) == 0 {
		return err
	}
	return e.do("delete", "--force", e.c.req.ID)
}

// executeTime is how long execute waits to see the program executed.
const executeTime = 200 * time.Millisecond

// execute has the runtime's own process execute the program. That happens a moment
// after the call, and a signal before it would meet the runtime.
func (e *command) execute() error {
	before := programOf(e.first.Pid)
	if err := e.do("start", e.c.req.ID); err != nil {
		return failure(err, e.c.req.Spec.Process.Args[0])
	}
	for end := time.Now().Add(executeTime); before != (file{}) && programOf(e.first.Pid) == before && time.Now().Before(end); {
		time.Sleep(time.Millisecond / 2)
	}
	return nil
}

// file tells a file from others.
type file struct{ dev, ino uint64 }

// programOf is the program that a process executes; none if it can't be told.
func programOf(pid int) file {
	var st unix.Stat_t
	if unix.Stat("/proc/"+strconv.Itoa(pid)+"/exe", &st) != nil {
		return file{}
	}
	return file{st.Dev, st.Ino}
}

func (e *command) exec(s *session) (process, error) {
	p := s.req.Process
	if p == nil {
		return nil, errors.New("container monitor: the request is not for another runtime")
	}
	p.Terminal, p.ConsoleSize = s.req.Terminal, consoleSize(s.req.Width, s.req.Height)
	description, err := jsonFile("process", p)
	if err != nil {
		return nil, err
	}
	defer description.Close()
	return e.start(&started{
		args: []string{"exec", "--detach", "--process", ownPath(description)}, program: p.Args[0], uid: p.User.UID,
		stdio: s.req.Stdio, files: s.files,
		terminal: terminal{on: p.Terminal, take: s.console},
	})
}

func consoleSize(width, height uint16) *specs.Box {
	if width == 0 && height == 0 {
		return nil
	}
	return &specs.Box{Width: uint(width), Height: uint(height)}
}

// started is a call that leaves a process running.
type started struct {
	args     []string
	uid      uint32 // of its user
	program  string
	stdio    [3]int // indices of files
	files    []*os.File
	terminal terminal
}

// start makes the call and returns the process.
func (e *command) start(s *started) (*commandProcess, error) {
	pidFile := filepath.Join(e.dir.Name(), "pid"+strconv.FormatInt(e.calls.Add(1), 10))
	defer os.Remove(pidFile)
	args := append(slices.Clone(s.args), "--pid-file", pidFile)
	streams := &[3]*os.File{}
	for i, n := range s.stdio {
		if n >= 0 && n < len(s.files) {
			streams[i] = s.files[n]
		}
	}
	e.c.owner.giveStreams(slices.DeleteFunc(slices.Clone(streams[:]), func(f *os.File) bool { return f == nil }), s.uid)
	var socket *consoleSocket
	if s.terminal.on {
		var err error
		if socket, err = e.listenConsole(); err != nil {
			return nil, err
		}
		args = append(args, "--console-socket", socket.path)
		streams = &[3]*os.File{}
	}
	e.c.r.reaper.calls.RLock()
	defer e.c.r.reaper.calls.RUnlock()
	err := e.call(streams, append(args, e.c.req.ID)...)
	if socket != nil {
		err = errors.Join(err, socket.hand(err == nil, s.terminal.take))
	}
	if err != nil {
		return nil, failure(err, s.program)
	}
	return e.find(pidFile)
}

// find finds the process whose id is in a file.
func (e *command) find(pidFile string) (*commandProcess, error) {
	text, err := os.ReadFile(pidFile)
	if err != nil {
		return nil, err
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil || pid <= 1 {
		return nil, fmt.Errorf("%s named the process %q", filepath.Base(e.c.req.Command.Path), text)
	}
	p, err := os.FindProcess(pid)
	if err != nil {
		return nil, err
	}
	e.c.r.reaper.expect(pid)
	return &commandProcess{Process: p, e: e}, nil
}

// callError is why a call of a runtime failed.
type callError struct{ runtime, call, text string }

func (e *callError) Error() string {
	if strings.HasPrefix(e.text, e.runtime+" ") { // as runc says it itself
		return e.text
	}
	return e.runtime + " " + e.call + ": " + e.text
}

// do makes a call that leaves no process.
func (e *command) do(args ...string) error {
	e.c.r.reaper.calls.RLock()
	defer e.c.r.reaper.calls.RUnlock()
	return e.call(nil, args...)
}

// call calls the runtime, with the reaper's calls held. The streams, nil for none, are also those of the process
// that it starts. It ends with this process: the goroutine keeps its thread.
func (e *command) call(streams *[3]*os.File, args ...string) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	c := e.c.req.Command
	log, err := memfile("log")
	if err != nil {
		return err
	}
	defer log.Close()
	all := append(slices.Clone(c.Flags), "--root", filepath.Join(e.dir.Name(), commandState), "--log", ownPath(log), "--log-format", "json")
	cmd := exec.Command(c.Path, append(all, args...)...)
	cmd.Dir, cmd.Env = filepath.Join(e.dir.Name(), commandBundle), commandEnv
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: unix.SIGKILL}
	errs, err := memfile("errors")
	if err != nil {
		return err
	}
	defer errs.Close()
	cmd.Stderr = errs
	if streams != nil {
		setStreams(cmd, streams)
	}
	if err := cmd.Run(); err != nil {
		text := reason(log)
		if text == "" {
			text = reason(errs)
		}
		if text == "" {
			text = err.Error()
		}
		return &callError{filepath.Base(c.Path), args[0], text}
	}
	return nil
}

func setStreams(cmd *exec.Cmd, streams *[3]*os.File) {
	if streams[streamIn] != nil {
		cmd.Stdin = streams[streamIn]
	}
	if streams[streamOut] != nil {
		cmd.Stdout = streams[streamOut]
	}
	if streams[streamErr] != nil {
		cmd.Stderr = streams[streamErr]
	}
}

// jsonFile returns a file in memory that holds v.
func jsonFile(name string, v any) (*os.File, error) {
	text, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	f, err := memfile(name)
	if err != nil {
		return nil, err
	}
	if _, err := f.Write(text); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// ownPath is a path of a file of this process for its children.
func ownPath(f *os.File) string {
	return "/proc/" + strconv.Itoa(os.Getpid()) + "/fd/" + strconv.Itoa(int(f.Fd()))
}

func (e *command) pause() error  { return e.do("pause", e.c.req.ID) }
func (e *command) resume() error { return e.do("resume", e.c.req.ID) }

func (e *command) limit(r *specs.LinuxResources) error {
	limits := *r
	limits.Devices = nil // as they are
	f, err := jsonFile("limits", limits)
	if err != nil {
		return err
	}
	defer f.Close()
	return e.do("update", "--resources", ownPath(f), e.c.req.ID)
}

func (e *command) cgroups() []string { return e.groups }
func (e *command) oomKills() uint64  { return e.groups.oomKills() }

func (e *command) destroy() error {
	defer e.dir.Close()
	err := e.do("delete", "--force", e.c.req.ID)
	if left, readErr := os.ReadDir(filepath.Join(e.dir.Name(), commandState)); readErr == nil && len(left) == 0 {
		err = nil // it was not made
	}
	return errors.Join(err, e.groups.remove(), os.RemoveAll(e.dir.Name()))
}

// commandProcess is a process that a runtime has left to this process.
type commandProcess struct {
	*os.Process
	e       *command
	isFirst bool
}

func (p *commandProcess) pid() int { return p.Pid }

// signal has the runtime signal the first process, which may know better; what it
// can't do is tried directly.
func (p *commandProcess) signal(s unix.Signal) error {
	if p.isFirst && p.e.do("kill", p.e.c.req.ID, strconv.Itoa(int(s))) == nil && s != unix.SIGKILL {
		return nil
	}
	return p.Signal(s)
}

func (p *commandProcess) wait(end *wire.Event) error {
	state, err := p.Wait()
	p.e.c.r.reaper.collected(p.Pid)
	if err != nil {
		return fmt.Errorf("wait for container: %w", err)
	}
	note(end, state.Sys().(syscall.WaitStatus))
	return nil
}
