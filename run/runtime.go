package run

import (
	"errors"
	"log/slog"
	"os"
	"sync"
	"syscall"
	"time"

	"cooper/layers"
	"cooper/run/internal/wire"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// RuntimeOptions are the settings of a Runtime; the zero value is useful.
type RuntimeOptions struct {
	// StateDir is a directory for the runner's use; what it makes there is
	// seen by nobody else. "" means /run/cooper, or a directory below
	// XDG_RUNTIME_DIR or the temporary one when rootless.
	StateDir string
	// CgroupParent is where containers' cgroups go: "" means below this
	// process's own cgroup.
	CgroupParent string
	// OCI makes the containers of tasks that don't name another one.
	OCI OCIRuntime
	// Log receives debugging detail; nil discards it.
	Log *slog.Logger
}

// Runtime runs containers. It is safe for concurrent use; a process needs one.
type Runtime struct {
	opts RuntimeOptions
	log  *slog.Logger

	mu     sync.Mutex
	link   *link
	others []*link // that lack cgroup controllers which a later container needs
	closed bool
}

// NewRuntime returns a Runtime. It is cheap: the runner process starts with the
// first container, or with Start.
func NewRuntime(o RuntimeOptions) *Runtime {
	log := o.Log
	if log == nil {
		log = discard
	}
	return &Runtime{opts: o, log: log}
}

// OCI is what makes the containers of tasks that don't name another one.
func (r *Runtime) OCI() OCIRuntime { return r.opts.OCI }

// Start begins to start the runner in the background, for callers that know
// that a container will follow. Errors are reported by Run.
func (r *Runtime) Start() {
	go r.runner(nil)
	go DetectTier()
}

// Close kills what still runs, removes it and ends the runner.
func (r *Runtime) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
	if r.link != nil {
		r.others = append(r.others, r.link)
	}
	var errs []error
	for _, l := range r.others {
		errs = append(errs, l.close())
	}
	return errors.Join(errs...)
}

// runner returns the running runner, or starts one: the first, the next after one
// that died, or one more where the first container's has dropped what this one
// needs: see wire.Controllers. With a nil request any runner will do.
func (r *Runtime) runner(req *wire.Run) (*link, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return nil, errors.New("container runtime is closed")
	}
	if r.link != nil {
		select {
		case <-r.link.done:
		default:
			if r.link.serves(req) {
				return r.link, nil
			}
			r.others = append(r.others, r.link)
		}
	}
	dir, err := stateDir(r.opts)
	if err != nil {
		return nil, err
	}
	if req != nil && req.Stage.Chroot != nil && !req.Stage.Chroot.Mounts {
		dir = ""
	}
	if r.link, err = startLink(dir, r.log); err == nil {
		r.link.serves(req)
	}
	return r.link, err
}

// Task is one container to be run in the foreground.
type Task struct {
	// ID names the container; "" makes a random one.
	ID string
	// Rootfs is mounted for the run and unmounted before Run returns.
	Rootfs layers.Rootfs
	// View shows the same files without a mount, for looking up users and
	// mount points; nil makes one from Rootfs.
	View *layers.View
	// Config or, if that is nil, Spec says what to run.
	Config *Config
	Spec   *specs.Spec
	// Chroot runs the process in no container but by chroot(2), which is possible in
	// more places and keeps little apart: see Tier.InChroot. What it cannot have is
	// refused. All that the process has started ends with it.
	Chroot bool
	// Stdin, Stdout and Stderr are given to the container, nil as
	// /dev/null, and stay the caller's to close. Terminals are not handed
	// to the container itself: bytes are copied from and to them. With a
	// terminal in the Config, Stdin and Stdout are copied from and to the
	// container's terminal and Stderr is not used.
	Stdin, Stdout, Stderr *os.File
	// Console says more about the container's terminal; it may be nil.
	Console *Console
	// Signals are forwarded to the container's first process.
	Signals <-chan os.Signal
	// Grace is how long the first process may take to end after
	// Config.StopSignal, when ctx ends, before it is killed.
	Grace time.Duration
	// OnStart is called with the process id, as seen from this process,
	// once the user's program has been executed.
	OnStart func(pid int)
	// Files are small files, mounted over the container's for the run only.
	// By path; /etc/hosts, /etc/resolv.conf and /etc/hostname need not be
	// named.
	Files map[string]File
	// Trees are further directory trees, mounted for the run only.
	Trees []Tree
	// Another says that a task like this one, on another root file system, is
	// likely to follow. Its container is prepared while this one runs.
	Another bool
	// OCI is another runtime that makes the container; it has its files in
	// commandDir, if that is not empty.
	OCI        OCIRuntime
	commandDir string
}

// File is a small file that exists for a run only, in memory.
type File struct {
	Data []byte
	// Mode are its permission bits; 0 means 0644.
	Mode uint32
	UID  uint32
	GID  uint32
	// Secret: it is never written to a disk.
	Secret bool
}

// Tree is a file or directory of another root file system, bound into the
// container. What the container writes goes to Rootfs' upper directory, which
// must be there even for a read-only Tree.
type Tree struct {
	// Target is the absolute path in the container.
	Target string
	Rootfs layers.Rootfs
	// Path is what is bound: relative to the tree's root and free of
	// symbolic links; "." is all of it. Dir says that it is a directory.
	Path     string
	Dir      bool
	ReadOnly bool
	// Live says that others may change the tree meanwhile. It must be a plain
	// directory (Rootfs.Dir); links that they put in the way of Path lead to
	// places inside of it. Mount points for other mounts below Target are left
	// to the container.
	Live bool
}

// Status says how a container ended.
type Status struct {
	// ExitCode is the first process's, or 128 plus the signal's number.
	ExitCode int
	// Signal ended the first process; 0 if it exited.
	Signal syscall.Signal
	// OOMKilled says that the kernel killed a process of the container for
	// lack of memory.
	OOMKilled bool
	// Started is when the user's program was executed.
	Started, Finished time.Time
}

// Success reports whether the container ended with exit code 0.
func (s Status) Success() bool { return s.ExitCode == 0 }

// StartError says why a container's program did not start. Code is what docker
// run would exit with: 127 when the program was not found, 126 when it may not
// be executed, 255 when the kernel refused to execute it, 125 for all else.
type StartError struct {
	Code int
	Err  error
}

func (e *StartError) Error() string { return e.Err.Error() }

// Unwrap returns the reason.
func (e *StartError) Unwrap() error { return e.Err }
