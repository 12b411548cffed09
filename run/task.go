package run

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"cooper/layers"
	"cooper/run/internal/wire"
)

// Run runs t to its end: it mounts the root file system in the runner, runs the
// process, unmounts and removes everything made for it, and then returns. When
// ctx ends, the container is stopped (Config.StopSignal, Grace, SIGKILL) and
// removed as well before Run returns context.Cause(ctx). A container that ran
// and failed is no error: see Status. One that could not start is a *StartError.
func (r *Runtime) Run(ctx context.Context, t Task) (Status, error) {
	if err := context.Cause(ctx); err != nil {
		return Status{}, err
	}
	if t.OCI.Name == "" {
		t.OCI = r.opts.OCI
	}
	req, files, err := newRequest(&t, r.opts.CgroupParent)
	if err != nil {
		return Status{}, &StartError{Code: 125, Err: err}
	}
	l, err := r.runner(req)
	if err != nil {
		return Status{}, &StartError{Code: 125, Err: err}
	}
	var console func(*os.File)
	var streams *stdio
	var att *attachment
	if req.Spec.Process.Terminal {
		req.Width, req.Height = t.Console.size(&t)
		if t.Console != nil && t.Console.Ready != nil {
			console = t.Console.Ready
		} else {
			att = &attachment{t: &t}
			console = att.attach
			defer att.end()
		}
	} else {
		if streams, err = newStdio(&t); err != nil {
			return Status{}, &StartError{Code: 125, Err: err}
		}
		defer streams.end()
		for i, f := range streams.give {
			if f != nil {
				req.Stdio[i] = len(files)
				files = append(files, f)
			}
		}
	}
	c, err := l.begin(req, console, files)
	if streams != nil {
		streams.started()
	}
	if err != nil {
		return Status{}, &StartError{Code: 125, Err: err}
	}
	return r.follow(ctx, &t, l, c)
}

// follow forwards signals and waits for the container's end.
func (r *Runtime) follow(ctx context.Context, t *Task, l *link, c *call) (Status, error) {
	done, signals := ctx.Done(), t.Signals
	var kill <-chan time.Time
	for {
		select {
		case e, ok := <-c.events:
			switch {
			case !ok:
				<-l.done
				return Status{}, &StartError{Code: 125, Err: l.err}
			case e.Finished.IsZero(): // started
				if t.OnStart != nil {
					t.OnStart(e.PID)
				}
			default:
				return status(ctx, &e)
			}
		case <-done:
			done = nil
			kill = r.stop(t, l, c)
		case <-kill:
			l.signal(c, unix.SIGKILL)
		case s, ok := <-signals:
			if !ok {
				signals = nil
			} else if n, ok := s.(syscall.Signal); ok {
				l.signal(c, n)
			}
		}
	}
}

// stop ends a container whose context has ended, at once or with a last chance.
func (r *Runtime) stop(t *Task, l *link, c *call) <-chan time.Time {
	if t.Grace > 0 && t.Config != nil && t.Config.StopSignal > 0 && t.Config.StopSignal != unix.SIGKILL {
		l.signal(c, t.Config.StopSignal)
		return time.After(t.Grace)
	}
	l.signal(c, unix.SIGKILL)
	return nil
}

// status is what Run returns for a container's end.
func status(ctx context.Context, e *wire.Event) (Status, error) {
	st := Status{
		ExitCode: e.ExitCode, Signal: syscall.Signal(e.Signal), OOMKilled: e.OOMKilled,
		Started: e.Started, Finished: e.Finished,
	}
	if err := context.Cause(ctx); err != nil {
		return st, err
	}
	switch {
	case e.Code != 0:
		return Status{}, &StartError{Code: e.Code, Err: errors.New(e.Error)}
	case e.Error != "":
		return st, fmt.Errorf("remove container: %s", e.Error)
	}
	return st, nil
}

// newRequest makes the runner's request for a task, whose cgroup is below parent
// when its config does not say where, and the files that go with it.
func newRequest(t *Task, parent string) (*wire.Run, []*os.File, error) {
	tier, err := DetectTier()
	if err == nil && t.Chroot {
		tier, err = tier.InChroot()
	}
	if err != nil {
		return nil, nil, err
	}
	id := t.ID
	if id == "" {
		var b [32]byte
		rand.Read(b[:])
		id = hex.EncodeToString(b[:])
	}
	view := t.View
	if view == nil {
		if view, err = openRootfs(t.Rootfs); err != nil {
			return nil, nil, err
		}
		defer view.Close()
	}
	spec, conf := t.Spec, t.Config
	if conf != nil {
		c := *conf
		if c.Hostname == "" && c.hostname() == "" {
			c.Hostname = id[:min(12, len(id))]
		}
		conf = &c
		if spec, err = c.Spec(view, tier); err != nil {
			return nil, nil, err
		}
		if spec.Linux.CgroupsPath == "" {
			spec.Linux.CgroupsPath = parent
		}
		if spec.Linux.CgroupsPath != "" {
			spec.Linux.CgroupsPath = path.Join("/", spec.Linux.CgroupsPath, "cooper-"+id)
		}
	}
	if spec == nil || spec.Process == nil || spec.Linux == nil {
		return nil, nil, errors.New("neither a config nor a complete specification is given")
	}
	req := &wire.Run{
		ID: id, Stdio: [3]int{wire.NoFile, wire.NoFile, wire.NoFile},
		RootlessCgroups: tier.Rootless, NoCgroup: tier.Cgroup == 0, Another: t.Another,
		NoKeyring: tier.noKeys, NoPivot: tier.noPivot,
	}
	if err := chooseRuntime(req, t, spec, tier); err != nil {
		return nil, nil, err
	}
	if req.Files, err = taskFiles(t, conf); err != nil {
		return nil, nil, err
	}
	points, err := mountPoints(t, spec.Mounts, req.Files)
	if err != nil {
		return nil, nil, err
	}
	if req.Stubs, err = missing(view, points); err != nil {
		return nil, nil, err
	}
	if t.Chroot {
		if err := tier.putInChroot(req, spec, t, view); err != nil {
			return nil, nil, err
		}
	}
	if conf != nil {
		owners := conf.UserNS.owners()
		req.UIDs, req.GIDs = mappings(owners.UIDs), mappings(owners.GIDs)
	}
	if req.Command == nil {
		req.Spec = forRunner(spec)
	} else {
		req.Spec = forCommand(spec, req, tier)
	}
	var files []*os.File
	req.Rootfs, files = newRootfs(t.Rootfs, files)
	for _, tree := range t.Trees {
		w := wire.Tree{Path: tree.Path, Target: tree.Target, ReadOnly: tree.ReadOnly, Live: tree.Live}
		if !tree.Live {
			w.Stubs = nestedStubs(tree, points)
		}
		w.Rootfs, files = newRootfs(tree.Rootfs, files)
		req.Trees = append(req.Trees, w)
	}
	return req, files, nil
}

// chooseRuntime says what makes the container: another runtime, or the runner with the
// last stage.
func chooseRuntime(req *wire.Run, t *Task, spec *specs.Spec, tier Tier) (err error) {
	if !t.Chroot {
		if req.Command, err = t.OCI.command(t.commandDir, tier); err != nil || req.Command != nil {
			return err
		}
	}
	req.Stage, err = newStage(spec)
	return err
}

// forRunner leaves out what only the last stage needs.
func forRunner(s *specs.Spec) *specs.Spec {
	c, p, l := *s, *s.Process, *s.Linux
	p.Args, p.Env, p.Capabilities, p.NoNewPrivileges = nil, nil, nil, false
	p.Cwd, p.User = "/", specs.User{Umask: s.Process.User.Umask} // set by libcontainer
	l.Seccomp = nil
	c.Process, c.Linux = &p, &l
	c.Root = &specs.Root{Readonly: s.Root != nil && s.Root.Readonly}
	c.Mounts = slices.Clone(s.Mounts)
	return &c
}

// newStage says what the last stage does.
func newStage(s *specs.Spec) (wire.Stage, error) {
	caps, err := stageCaps(s.Process.Capabilities)
	if err != nil {
		return wire.Stage{}, err
	}
	filter, err := compileFilter(s.Linux.Seccomp)
	if err != nil {
		return wire.Stage{}, err
	}
	p := s.Process
	return wire.Stage{
		Args: p.Args, Env: p.Env, Dir: p.Cwd, UID: p.User.UID, GID: p.User.GID,
		Groups: p.User.AdditionalGids, SetGroups: !groupsDenied(), NoNewPrivs: p.NoNewPrivileges,
		Caps: caps, Filter: filter.Program, FilterFlags: filter.Flags,
	}, nil
}

// newRootfs names a root file system and adds the files that are its directories
// to those that go with the request.
func newRootfs(r layers.Rootfs, files []*os.File) (wire.Rootfs, []*os.File) {
	w := wire.Rootfs{Lower: r.Lower, Upper: r.Upper, Work: r.Work, Options: r.Options, Dir: r.Dir, Data: r.Data, MapLower: r.MapLower}
	for i := range r.Lower {
		n := wire.NoFile
		if i < len(r.LowerFiles) && r.LowerFiles[i] != nil {
			n = len(files)
			files = append(files, r.LowerFiles[i])
		}
		w.LowerFile = append(w.LowerFile, n)
	}
	return w, files
}

func openRootfs(r layers.Rootfs) (*layers.View, error) {
	if r.Dir != "" {
		return layers.OpenView(r.Dir)
	}
	dirs := r.Lower
	if r.Upper != "" {
		dirs = append([]string{r.Upper}, dirs...)
	}
	return layers.OpenView(dirs...)
}

// taskFiles are the files that Run provides: hosts, resolv.conf and hostname, as
// long as the config mounts nothing in their place, and the task's own.
func taskFiles(t *Task, c *Config) ([]wire.File, error) {
	content := map[string]File{}
	if c != nil {
		own := c.hostname()
		if c.Network == sandboxed {
			own = "" // its address is not known yet: the monitor adds it
		}
		hosts, err := c.hostsFile(own)
		if err != nil {
			return nil, err
		}
		if !c.NoHosts {
			content["/etc/hosts"] = File{Data: hosts}
		}
		if !c.NoHostname {
			content["/etc/hostname"] = File{Data: []byte(c.hostname() + "\n")}
		}
		content["/etc/resolv.conf"] = File{Data: c.resolvConf()}
		if c.Timezone != "" {
			zone, err := zoneFile(c.Timezone)
			if err != nil {
				return nil, err
			}
			content["/etc/localtime"] = File{Data: zone}
		}
		for _, m := range c.Mounts {
			delete(content, path.Clean(m.Destination))
		}
	}
	for name, f := range t.Files {
		if !path.IsAbs(name) {
			return nil, fmt.Errorf("file %q: path is not absolute", name)
		}
		content[path.Clean(name)] = f
	}
	var out []wire.File
	for name, f := range content {
		out = append(out, wire.File{Path: name, Data: f.Data, Mode: cmp.Or(f.Mode, 0o644), UID: f.UID, GID: f.GID})
	}
	slices.SortFunc(out, func(a, b wire.File) int { return strings.Compare(a.Path, b.Path) })
	return out, nil
}
