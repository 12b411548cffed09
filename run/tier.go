package run

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"cooper/layers"
	"cooper/run/internal/spawn"
)

// ErrNoContainers: this process may not make a mount namespace. What wraps it says
// why.
var ErrNoContainers = errors.New("no container can be made here")

// noContainers wraps ErrNoContainers.
func noContainers() error {
	if refused := layers.Refused(); refused != nil {
		return fmt.Errorf("%w: %w", ErrNoContainers, refused)
	}
	return fmt.Errorf("%w: mounting is refused, by the seccomp or AppArmor profile of the container that this runs in: "+
		"start it with --security-opt seccomp=unconfined --security-opt apparmor=unconfined", ErrNoContainers)
}

// Tier says how much isolation this process can give to a container. The zero
// Tier can give none.
type Tier struct {
	// Rootless means that container root is an ordinary user on the host.
	Rootless bool
	// SingleID means that only one uid and one gid exist in the container:
	// changing owners fails there.
	SingleID bool
	// Mounts: a mount namespace can be made and file systems mounted in it.
	// Without it there are no containers.
	Mounts bool
	// Proc: a fresh /proc can be mounted, so that the container has process
	// ids of its own. Without it (inside an unprivileged container) the
	// outer /proc is bound and outer processes are seen.
	Proc bool
	// UTS: a host name of its own.
	UTS bool
	// Net: a network namespace of its own, for Network "none".
	Net bool
	// Cgroup is the version of the cgroup hierarchy that can be written, 1
	// or 2, or 0 for none: then there are no limits and no OOM reports.
	Cgroup int

	chroot  bool // see InChroot
	noKeys  bool // keyrings are forbidden
	noPivot bool // pivot_root(2) is
}

// DetectTier finds out by trying, once per process. Unless this is unconfined root
// it costs a process start (about 1 ms). It must be called after a user namespace
// has been entered.
func DetectTier() (Tier, error) { return detectTier() }

var detectTier = sync.OnceValues(func() (Tier, error) {
	t := Tier{Rootless: spawn.InUserNamespace(), SingleID: singleID(), Cgroup: writableCgroup()}
	if !t.Rootless && hasCap(unix.CAP_SYS_ADMIN) && !confined() {
		t.Mounts, t.Proc, t.UTS, t.Net = true, true, true, true
		return t, nil
	}
	if !hasCap(unix.CAP_SYS_ADMIN) {
		return t, nil
	}
	bits, err := probe()
	t.Mounts, t.Proc = bits&probeMounts != 0, bits&probeProc != 0
	t.UTS, t.Net = bits&probeUTS != 0, bits&probeNet != 0
	t.noKeys, t.noPivot = bits&probeKeys == 0, bits&probePivot == 0
	return t, err
})

// Bits of the probe's exit status, as in stage.h.
const (
	probeMounts = 1 << iota
	probeProc
	probeUTS
	probeNet
	probeKeys
	probePivot
)

// probe tries namespaces and mounts in a process of its own.
func probe() (bits int, err error) {
	cmd, err := spawn.Command([]string{"_COOPER_PROBE=1"})
	if err != nil {
		return 0, err
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return 0, fmt.Errorf("probe for isolation: %w", err)
	}
	cmd.Wait() // the exit status is the answer
	if !cmd.ProcessState.Exited() {
		return 0, fmt.Errorf("probe for isolation: %v", cmd.ProcessState)
	}
	return cmd.ProcessState.ExitCode(), nil
}

// String names the tier: "root", "rootless", "rootless with a single id",
// "nested", "none".
func (t Tier) String() string {
	switch {
	case !t.Mounts:
		return "none"
	case !t.Proc || !t.UTS:
		return "nested"
	case t.Rootless && t.SingleID:
		return "rootless with a single id"
	case t.Rootless:
		return "rootless"
	}
	return "root"
}

// Missing lists what a container will not have in this tier, in words for
// users; empty for root.
func (t Tier) Missing() []string {
	var m []string
	if t.chroot {
		return t.missingInChroot()
	}
	if !t.Mounts {
		return []string{"containers: " + noContainers().Error()}
	}
	if t.SingleID {
		m = append(m, missingUsers())
	}
	if !t.Proc {
		m = append(m, "process isolation: the processes around the container are seen in it")
	}
	if !t.UTS {
		m = append(m, missingUTS)
	}
	if !t.Net {
		m = append(m, missingNet)
	}
	if t.Cgroup == 0 {
		m = append(m, MissingLimits)
	}
	return m
}

// MissingLimits is what Missing says where there is no cgroup: often, and of no
// concern as long as nobody asks for a limit.
const MissingLimits = "limits on memory, processors and processes, and reports of killing for lack of memory"

// What Missing says in more than one place.
const (
	missingUTS = "a host name of its own"
	missingNet = "network none"
)

func missingUsers() string {
	return "users: only root exists, changing owners fails, because " + layers.WhySingleID()
}

// cgroupVersion is 2 for the unified hierarchy, 1 for the old or a hybrid one.
var cgroupVersion = sync.OnceValue(func() int {
	var st unix.Statfs_t
	switch err := unix.Statfs("/sys/fs/cgroup", &st); {
	case err != nil:
		return 0
	case st.Type == unix.CGROUP2_SUPER_MAGIC:
		return 2
	case st.Type == unix.TMPFS_MAGIC:
		return 1
	}
	return 0
})

// writableCgroup returns the version if a container's cgroup can be made where
// libcontainer makes it: below this process's own with version 1, beside it with
// version 2, where a cgroup with processes cannot have limited children.
func writableCgroup() int {
	b, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return 0
	}
	v := cgroupVersion()
	for line := range strings.Lines(string(b)) {
		f := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(f) != 3 {
			continue
		}
		dir := ""
		switch {
		case v == 2 && f[0] == "0":
			dir = parentOf(f[2])
		case v == 1 && f[1] == "devices":
			dir = ownDir("/sys/fs/cgroup/devices", f[2])
		default:
			continue
		}
		if unix.Access(dir, unix.W_OK) == nil && unix.Access(filepath.Join(dir, "cgroup.procs"), unix.W_OK) == nil {
			return v
		}
	}
	return 0
}

// ownDir is where the version 1 hierarchy at mount shows this process's cgroup own.
func ownDir(mount, own string) string {
	dir := filepath.Join(mount, own)
	if unix.Access(dir, unix.F_OK) == nil {
		return dir
	}
	mountinfo, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return dir
	}
	return shownDir(string(mountinfo), mount, own)
}

// shownDir is ownDir in a container without a cgroup namespace: own begins with the
// container's cgroup there, which the hierarchy has for its root.
func shownDir(mountinfo, mount, own string) string {
	for line := range strings.Lines(mountinfo) {
		f := strings.Fields(line) // see proc_pid_mountinfo(5)
		if len(f) < 5 || f[4] != mount {
			continue
		}
		if below, err := filepath.Rel(f[3], own); err == nil && filepath.IsLocal(below) {
			return filepath.Join(mount, below)
		}
	}
	return filepath.Join(mount, own)
}

// parentOf is the directory, in version 2, where libcontainer makes the cgroup of a
// container of a process in the cgroup own.
func parentOf(own string) string { return filepath.Join("/sys/fs/cgroup", filepath.Dir(own)) }

// ownParent is parentOf this process's cgroup.
func ownParent() string {
	b, _ := os.ReadFile("/proc/self/cgroup")
	for line := range strings.Lines(string(b)) {
		if own, found := strings.CutPrefix(strings.TrimSpace(line), "0::"); found {
			return parentOf(own)
		}
	}
	return parentOf("/")
}
