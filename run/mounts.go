package run

import (
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

const defaultShmSize = 64 << 20

// maskedPaths and readOnlyPaths are Docker's.
var (
	maskedPaths = []string{
		"/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
		"/proc/sched_debug", "/proc/scsi", "/proc/timer_list", "/proc/timer_stats",
		"/sys/devices/virtual/powercap", "/sys/firmware",
	}
	readOnlyPaths = []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"}
)

// hiddenPaths are the masked and read-only paths less those in Unmask.
func (c *Config) hiddenPaths() (masked, readOnly []string) {
	if slices.Contains(c.Unmask, "ALL") {
		return nil, nil
	}
	left := func(l []string) []string {
		return slices.DeleteFunc(slices.Clone(l), func(p string) bool {
			return slices.ContainsFunc(c.Unmask, func(u string) bool {
				ok, _ := path.Match(u, p)
				return ok
			})
		})
	}
	return left(maskedPaths), left(readOnlyPaths)
}

// mounts are the default ones and those of c, in place of or after them, in the
// order of their depth, so that none hides another.
func (c *Config) mounts(t Tier) ([]specs.Mount, error) {
	ms := c.defaultMounts(t)
	if t.chroot {
		ms = chrootMounts(ms, t)
	}
	for _, m := range c.Mounts {
		if !path.IsAbs(m.Destination) {
			return nil, fmt.Errorf("mount destination %q is not absolute", m.Destination)
		}
		m.Destination = path.Clean(m.Destination)
		if m.Destination == "/" {
			return nil, fmt.Errorf("mount destination is the root directory")
		}
		m, err := c.userMount(m)
		if err != nil {
			return nil, err
		}
		ms = slices.DeleteFunc(ms, func(d specs.Mount) bool { return d.Destination == m.Destination })
		ms = append(ms, m)
	}
	slices.SortStableFunc(ms, func(a, b specs.Mount) int {
		return strings.Count(a.Destination, "/") - strings.Count(b.Destination, "/")
	})
	return ms, nil
}

// userMount completes a mount of c's.
func (c *Config) userMount(m specs.Mount) (specs.Mount, error) {
	switch m.Type {
	case "bind", "":
		m.Type = "bind"
		abs, err := filepath.Abs(m.Source)
		if err != nil {
			return m, err
		}
		if _, err := os.Stat(abs); err != nil {
			return m, fmt.Errorf("bind mount: %w", err)
		}
		m.Source = abs
		m.Options = slices.Clone(m.Options)
		if !slices.Contains(m.Options, "bind") && !slices.Contains(m.Options, "rbind") {
			m.Options = append([]string{"rbind"}, m.Options...)
		}
		if !slices.ContainsFunc(m.Options, isPropagation) {
			m.Options = append(m.Options, "rprivate")
		}
	case "tmpfs":
		if m.Source == "" {
			m.Source = "tmpfs"
		}
		m.Options = append([]string{"nosuid", "nodev", "noexec"}, m.Options...)
	default:
		return m, fmt.Errorf("mount type %q is not known", m.Type)
	}
	return m, nil
}

func isPropagation(o string) bool {
	return slices.Contains([]string{"private", "rprivate", "slave", "rslave", "shared", "rshared"}, o)
}

// defaultMounts are Docker's in the given tier.
func (c *Config) defaultMounts(t Tier) []specs.Mount {
	shm := c.ShmSize
	if shm == 0 {
		shm = defaultShmSize
	}
	pts := []string{"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"}
	if c.hasTTYGroup(t) {
		pts = append(pts, "gid=5") // tty's, which does not exist with a single id
	}
	ms := []specs.Mount{
		c.procMount(t),
		{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "strictatime", "mode=755", "size=65536k"}},
		{Destination: "/dev/pts", Type: "devpts", Source: "devpts", Options: pts},
		c.sysMount(t),
	}
	if m, ok := c.cgroupMount(t); ok {
		ms = append(ms, m)
	}
	if c.IPC == "host" {
		for _, dir := range []string{"/dev/mqueue", "/dev/shm"} {
			if _, err := os.Stat(dir); err == nil { // small machines have no mqueue
				ms = append(ms, specs.Mount{Destination: dir, Type: "bind", Source: dir, Options: []string{"rbind", "nosuid", "noexec", "nodev"}})
			}
		}
		return ms
	}
	ms = append(ms, specs.Mount{Destination: "/dev/mqueue", Type: "mqueue", Source: "mqueue", Options: []string{"nosuid", "noexec", "nodev"}})
	if c.IPC == "none" || strings.HasPrefix(c.IPC, "ns:") { // the runner mounts that of whom the namespace is
		return ms
	}
	return append(ms,
		specs.Mount{Destination: "/dev/shm", Type: "tmpfs", Source: "shm",
			Options: []string{"nosuid", "noexec", "nodev", "mode=1777", "size=" + strconv.FormatInt(shm, 10)}})
}

func (c *Config) procMount(t Tier) specs.Mount {
	if t.Proc && (c.PID != "host" || !t.Rootless && c.UserNS == nil) {
		return specs.Mount{Destination: "/proc", Type: "proc", Source: "proc", Options: []string{"nosuid", "noexec", "nodev"}}
	}
	// The outer one, because a fresh one is refused here.
	return specs.Mount{Destination: "/proc", Type: "bind", Source: "/proc", Options: []string{"rbind", "nosuid", "noexec", "nodev"}}
}

// sysMount: a fresh sysfs belongs to the network namespace, so it needs one of our
// own or root's rights over the host's; and like /proc it is refused where parts of
// the outer one are hidden.
func (c *Config) sysMount(t Tier) specs.Mount {
	opts := []string{"nosuid", "noexec", "nodev"}
	own := c.Network == "none" || c.UserNS != nil && c.joinedUserNS() == "" && c.Network == sandboxed
	if (t.Rootless || c.UserNS != nil) && (!own || !t.Proc) {
		// Everything below as well: a delegated cgroup of the user's is
		// writable for the container's root.
		ro := "ro"
		if hasRecursiveReadOnly() {
			ro = "rro"
		}
		return specs.Mount{Destination: "/sys", Type: "bind", Source: "/sys", Options: append([]string{"rbind", ro}, opts...)}
	}
	if !c.Privileged {
		opts = append(opts, "ro")
	}
	return specs.Mount{Destination: "/sys", Type: "sysfs", Source: "sysfs", Options: opts}
}

// cgroupMount: with version 1 it takes a bind mount for each controller (2 ms), so
// a build step without limits, which could read nothing but "unlimited" there,
// does without.
func (c *Config) cgroupMount(t Tier) (specs.Mount, bool) {
	if t.Cgroup == 0 || (t.Cgroup == 1 && (t.Rootless || c.BareEnv && !c.limited() && !c.Privileged)) {
		return specs.Mount{}, false
	}
	opts := []string{"nosuid", "noexec", "nodev"}
	if !c.Privileged {
		opts = append(opts, "ro")
	}
	return specs.Mount{Destination: "/sys/fs/cgroup", Type: "cgroup", Source: "cgroup", Options: opts}, true
}

// hasRecursiveReadOnly: mount_setattr came with Linux 5.12.
func hasRecursiveReadOnly() bool {
	return unix.MountSetattr(-1, "", 0, &unix.MountAttr{}) != unix.ENOSYS
}
