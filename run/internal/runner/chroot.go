package runner

import (
	"errors"
	"fmt"
	"os/exec"
	"runtime"
	"slices"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"cooper/run/internal/chroot"
	"cooper/run/internal/wire"
)

// liveInChroot runs the process by chroot(2), with all that can be mounted for it.
func (c *container) liveInChroot(end *wire.Event) (err error) {
	if c.r.plain {
		return c.furnish(end)
	}
	if c.b, err = c.r.newBundle(c.req, c.files, nil); err != nil {
		return err
	}
	c.root = &rootfs{dir: c.b.dir, path: c.b.spec.Root.Path, req: &c.req.Rootfs, files: c.files, stubs: c.req.Stubs}
	defer func() { err = errors.Join(err, c.b.remove(), c.root.unmount()) }()
	if err := c.root.mount(); err != nil {
		return fmt.Errorf("mount root file system: %w", err)
	}
	mounts, err := chroot.Mount(c.root.path, c.b.spec)
	defer func() { err = errors.Join(err, mounts.Unmount()) }()
	if err != nil {
		return err
	}
	return c.runInRoot(c.root.path, end)
}

// furnish runs the process in a directory, in a runner that can mount nothing.
func (c *container) furnish(end *wire.Event) (err error) {
	root := c.req.Rootfs.Dir
	if root == "" {
		return errors.New("the store's overlay cannot be mounted here: use a store with --storage-driver vfs")
	}
	f, err := chroot.Furnish(root, c.req.Spec.Linux.Devices, c.req.Files)
	defer func() { err = errors.Join(err, f.Clear()) }()
	if err != nil {
		return err
	}
	return c.runInRoot(root, end)
}

// runInRoot runs the process in root to its end and that of all that it has started.
// It keeps its thread: the keeper ends with it.
func (c *container) runInRoot(root string, end *wire.Event) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	k, err := c.startKeeper(root)
	if err != nil {
		return err
	}
	c.started(k)
	if err = k.stage.executed(); err == nil {
		end.Started = time.Now()
		// No pidfd: that whoever has it kills the keeper would be all too soon.
		err = c.told.started(wire.Event{Call: c.req.Call, PID: k.pid(), Started: end.Started})
	}
	if err != nil {
		kill(k)
		return err
	}
	return k.wait(end)
}

// startKeeper starts the last stage, which leaves a keeper behind.
func (c *container) startKeeper(root string) (*keeper, error) {
	st, ch := c.req.Stage, *c.req.Stage.Chroot
	ch.Root, st.Chroot, st.DieWithParent = root, &ch, true // the keeper, that is
	streams, stdio := standardStreams(c.req.Stdio, c.files)
	p, err := c.r.newStageProcess(false, streams)
	if err != nil {
		return nil, err
	}
	if err := p.instruct(&st, stdio); err != nil {
		p.close()
		return nil, err
	}
	k := &keeper{all: &c.r.keepers, stage: p, cmd: &exec.Cmd{
		Path: "/proc/self/exe", Args: []string{"cooper-step"}, Env: p.Env, Dir: "/", ExtraFiles: p.ExtraFiles,
		SysProcAttr: &syscall.SysProcAttr{Setsid: true},
	}}
	err = k.all.start(k.cmd)
	p.handOver()
	if err != nil {
		p.close()
		return nil, fmt.Errorf("start the step's keeper: %w", err)
	}
	return k, nil
}

// keeper is a process that ends all those that it keeps at any signal but SIGKILL.
type keeper struct {
	all   *keepers
	stage *stageProcess
	cmd   *exec.Cmd
}

func (k *keeper) pid() int                 { return k.cmd.Process.Pid }
func (k *keeper) signal(unix.Signal) error { return k.cmd.Process.Signal(unix.SIGTERM) }

func (k *keeper) wait(end *wire.Event) error {
	defer k.stage.close()
	err := k.all.wait(k.cmd)
	var exit *exec.ExitError // a status other than 0 is no error here
	if err != nil && !errors.As(err, &exit) {
		return fmt.Errorf("wait for step: %w", err)
	}
	note(end, k.cmd.ProcessState.Sys().(syscall.WaitStatus))
	return nil
}

// keepers are the processes of that kind which this process has started.
type keepers struct {
	mu   sync.Mutex
	pids map[int]bool
}

// start starts a keeper.
func (k *keepers) start(cmd *exec.Cmd) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := cmd.Start(); err != nil {
		return err
	}
	if k.pids == nil {
		k.pids = map[int]bool{}
	}
	k.pids[cmd.Process.Pid] = true
	return nil
}

// wait waits for a keeper. If the step has killed it, which root can, what it kept has
// become this process's and is ended here: before other steps go on, since who
// reads the step's output waits for them.
func (k *keepers) wait(cmd *exec.Cmd) error {
	err := cmd.Wait()
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.pids, cmd.Process.Pid)
	if cmd.ProcessState == nil || cmd.ProcessState.Exited() {
		return err
	}
	for deadline := time.Now().Add(time.Second); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		left := slices.DeleteFunc(chroot.Children(), func(pid int) bool { return k.pids[pid] })
		for _, pid := range left {
			_ = unix.Kill(pid, unix.SIGKILL) // it may have ended
			_, _ = unix.Wait4(pid, nil, unix.WNOHANG, nil)
		}
		if len(left) == 0 {
			break
		}
	}
	return err
}
