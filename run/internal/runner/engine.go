package runner

import (
	"syscall"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"cooper/run/internal/wire"
)

// engine makes one container of its bundle. First comes begin, then execute, in the end destroy;
// all others may be called between execute and destroy, at the same time.
type engine interface {
	// begin makes the container with its first process, which does not execute
	// the user's program, or has not been seen to. It mounts the container's
	// root when it needs it.
	begin(c *container) (process, error)
	// execute returns when the user's program has been executed. The error is a
	// *stage.Failure if it could not be.
	execute() error
	// exec starts a further process and returns when its program has been
	// executed, with the same errors.
	exec(s *session) (process, error)
	// pause stops all processes until resume, by the container's cgroup.
	pause() error
	resume() error
	// limit changes the limits in the container's cgroup.
	limit(r *specs.LinuxResources) error
	// cgroups are the directories to be removed after the container's end.
	cgroups() []string
	// oomKills is how many of the container's processes the kernel has killed
	// for lack of memory.
	oomKills() uint64
	// destroy removes what the engine has made. The first process has ended, or
	// was not started.
	destroy() error
}

// newEngine returns the engine that the container's request asks for, on its bundle.
func (c *container) newEngine() (engine, error) {
	if c.req.Command != nil {
		return newCommand(c)
	}
	return c.r.newLibrary(c.b)
}

// process is a process that an engine has started.
type process interface {
	pid() int
	// signal fails if the process has ended.
	signal(s unix.Signal) error
	// wait is called once: it waits for the end and says in end how it came.
	wait(end *wire.Event) error
}

// kill ends and reaps p.
func kill(p process) {
	_ = p.signal(unix.SIGKILL) // it may have ended
	_ = p.wait(&wire.Event{})
}

// note says in end how a process has ended, just now.
func note(end *wire.Event, ws syscall.WaitStatus) {
	end.Finished, end.ExitCode = time.Now(), ws.ExitStatus()
	if ws.Signaled() {
		end.Signal = int(ws.Signal())
		end.ExitCode = 128 + end.Signal
	}
}
