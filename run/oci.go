package run

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"cooper/run/internal/wire"
)

// OCIRuntime is another program than ours that makes containers, as the OCI's
// runtime-spec has it: runc, crun and the like. The zero value is our own.
type OCIRuntime struct {
	// Name is a program's name or path.
	Name string
	// Flags come before all others on its command line.
	Flags []string
}

// runtimeDirs are where runtimes are looked for beside PATH, which ordinary users
// often have without sbin.
var runtimeDirs = []string{
	"/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin",
	"/usr/local/libexec", "/usr/libexec", "/usr/lib/cri-o-runc/sbin", "/opt/kata/bin", "/run/current-system/sw/bin",
}

// Path finds the runtime's program; "" is our own.
func (r OCIRuntime) Path() (string, error) {
	if r.Name == "" {
		return "", nil
	}
	if strings.Contains(r.Name, "/") {
		full, err := filepath.Abs(r.Name)
		if err == nil {
			_, err = exec.LookPath(full)
		}
		if err != nil {
			return "", fmt.Errorf("the OCI runtime %s cannot be used: %w: leave out --runtime for the one that is built in", r.Name, cause(err))
		}
		return full, nil
	}
	if found, err := exec.LookPath(r.Name); err == nil {
		return filepath.Abs(found)
	}
	for _, dir := range runtimeDirs {
		if found, err := exec.LookPath(filepath.Join(dir, r.Name)); err == nil {
			return found, nil
		}
	}
	return "", fmt.Errorf("the OCI runtime %s is not installed: it is neither in PATH nor in /usr/local/sbin, /usr/sbin or /usr/libexec: "+
		"install it (Debian has packages runc and crun), or leave out --runtime for the one that is built in", r.Name)
}

// cause is err without what LookPath says in front of it.
func cause(err error) error {
	var e *exec.Error
	if errors.As(err, &e) {
		err = e.Err
	}
	var p *fs.PathError
	if errors.As(err, &p) {
		err = p.Err
	}
	return err
}

// command is the runner's form of r, which keeps its files in dir; nil for our own.
func (r OCIRuntime) command(dir string, t Tier) (*wire.Command, error) {
	program, err := r.Path()
	if program == "" || err != nil {
		return nil, err
	}
	c := &wire.Command{Path: program, Flags: slices.Clone(r.Flags), Dir: dir}
	for name, flag := range withoutCgroup {
		if t.Cgroup == 0 && strings.Contains(filepath.Base(program), name) {
			c.Flags = append(c.Flags, flag)
		}
	}
	return c, nil
}

// specVersion is the version of the runtime-spec that the specification for another
// runtime is said to have: crun refuses those that it has not heard of. What came
// later is left out of account by runtimes that don't know it.
const specVersion = "1.0.2"

// withoutCgroup are the flags that have runtimes do without cgroups where none can be
// made, by what is in the program's name. Others have none for it.
var withoutCgroup = map[string]string{"runc": "--rootless=true", "crun": "--cgroup-manager=disabled"}

// forCommand is a specification for another runtime. Where there are cgroups it gets a
// path: without, a runtime would choose a name by which we could not find the
// container's, and with one, runc does not do without.
func forCommand(s *specs.Spec, req *wire.Run, t Tier) *specs.Spec {
	c, l, p := *s, *s.Linux, *s.Process
	c.Version = specVersion
	if l.CgroupsPath == "" && t.Cgroup != 0 {
		l.CgroupsPath = "cooper-" + req.ID
		if t.Cgroup == 2 {
			l.CgroupsPath = path.Join("/", strings.TrimPrefix(ownParent(), "/sys/fs/cgroup"), l.CgroupsPath)
		}
	}
	// runc wants them also with a user namespace that has them.
	l.UIDMappings, l.GIDMappings = req.UIDs, req.GIDs
	c.Linux, c.Process = &l, &p
	c.Root = &specs.Root{Readonly: s.Root != nil && s.Root.Readonly}
	return &c
}

// runtime is what makes the container.
func (c *Container) runtime() OCIRuntime {
	return OCIRuntime{Name: c.opts().Runtime, Flags: c.opts().RuntimeFlags}
}

// commandDir is the directory of another runtime's files, for all who look after the
// container.
func (c *Container) commandDir() string { return filepath.Join(c.RunDir(), "oci") }

// deleteByCommand has another runtime remove what it has made of the container, if
// there is anything. The container's processes have been killed before; what a runtime
// leaves that has been removed itself meanwhile is in directories that are removed next.
func (c *Container) deleteByCommand() error {
	if c.opts().Runtime == "" {
		return nil
	}
	if err := c.endCommands(); err != nil {
		return err
	}
	state := filepath.Join(c.commandDir(), "state")
	if made, err := os.ReadDir(state); err != nil || len(made) == 0 {
		return nil
	}
	tier, err := DetectTier()
	if err != nil {
		return err
	}
	if r, err := c.runtime().command("", tier); err == nil {
		_ = exec.Command(r.Path, append(r.Flags, "--root", state, "delete", "--force", c.id)...).Run()
	}
	return nil
}

// endCommands kills the calls of the runtime that a killed monitor was in, with what
// they have started. They are about to end too, but could still make the container.
func (c *Container) endCommands() error {
	for deadline := time.Now().Add(clearTime); ; time.Sleep(2 * time.Millisecond) {
		found, err := processesAbout(c.commandDir())
		if err != nil || len(found) == 0 {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("processes %v of the runtime do not end, although they were killed", found)
		}
		for _, pid := range found {
			_ = unix.Kill(pid, unix.SIGKILL) // it may have ended
		}
	}
}

// processesAbout lists the processes that have a path in their arguments or
// environment.
func processesAbout(path string) ([]int, error) {
	all, err := allPIDs()
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(all, func(pid int) bool {
		if pid == os.Getpid() {
			return true
		}
		for _, name := range []string{"cmdline", "environ"} {
			text, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), name))
			if err == nil && bytes.Contains(text, []byte(path)) {
				return false
			}
		}
		return true
	}), nil
}
