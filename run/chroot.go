package run

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"cooper/layers"
	"cooper/run/internal/wire"
)

// errNoChroot: this process may not call chroot(2).
var errNoChroot = errors.New("chroot needs the capability CAP_SYS_CHROOT, which root in a container has by default: " +
	"run as root there (docker run --user 0; Kubernetes: runAsUser: 0, without capabilities.drop: [ALL])")

// errPlain is about what a chroot without mounts cannot have.
var errPlain = errors.New("nothing can be mounted here, and a chroot alone does without: " +
	"that takes CAP_SYS_ADMIN or a user namespace (docker run --security-opt seccomp=unconfined)")

// InChroot is the tier of a Task with Chroot set.
func (t Tier) InChroot() (Tier, error) {
	c := Tier{Rootless: t.Rootless, SingleID: t.SingleID, Mounts: t.Mounts, Net: t.Net, chroot: true}
	if !t.Mounts && !hasCap(unix.CAP_SYS_CHROOT) {
		return c, errNoChroot
	}
	return c, nil
}

// missingInChroot is Missing for a process by chroot(2).
func (t Tier) missingInChroot() []string {
	m := []string{"process isolation: the processes around a step are seen and signalled like its own"}
	if t.SingleID {
		m = append(m, missingUsers())
	}
	if !t.Mounts {
		m = append(m, "mounts: there is no /proc and no /sys, /etc/hosts and the like are copies, RUN --mount is refused")
		if !hasCap(unix.CAP_MKNOD) {
			m = append(m, "devices: there is nothing in /dev")
		}
	}
	if !canFilter() {
		m = append(m, "a seccomp filter of its own")
	}
	if !t.Net {
		m = append(m, missingNet)
	}
	return append(m, missingUTS, MissingLimits)
}

// canFilter reports whether a seccomp filter can be installed without taking setuid
// programs their rights.
func canFilter() bool {
	set, err := unix.PrctlRetInt(unix.PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0)
	return hasCap(unix.CAP_SYS_ADMIN) || err == nil && set == 1
}

// checkChroot refuses what a process by chroot(2) cannot have in t.
func (c *Config) checkChroot(t Tier) error {
	switch {
	case c.Terminal:
		return errors.New("a terminal needs a container, not a chroot")
	case c.ReadOnly:
		return errors.New("a read-only root file system needs a container, not a chroot")
	case len(c.Sysctl) > 0:
		return errors.New("sysctls need a container, not a chroot")
	case c.Seccomp != "" && c.Seccomp != "unconfined" && !c.NoNewPrivileges && !canFilter():
		return errors.New("a seccomp profile cannot be installed here but with --security-opt no-new-privileges")
	case c.UserNS != nil || !isPrivate(c.PID) || !isPrivate(c.IPC) || strings.HasPrefix(c.Network, "ns:"):
		return errors.New("namespaces of its own or of others need a container, not a chroot")
	case t.Mounts:
		return nil
	case len(c.Mask) > 0:
		return fmt.Errorf("mask %s: %w", c.Mask[0], errPlain)
	case len(c.Mounts) > 0:
		return fmt.Errorf("mount at %s: %w", c.Mounts[0].Destination, errPlain)
	}
	return nil
}

// chrootMounts are the default ones less those that need namespaces.
func chrootMounts(ms []specs.Mount, t Tier) []specs.Mount {
	if !t.Mounts {
		return nil
	}
	return slices.DeleteFunc(ms, func(m specs.Mount) bool { return m.Type == "mqueue" })
}

// putInChroot changes a request for a container into one for a process by chroot(2).
func (t Tier) putInChroot(req *wire.Run, s *specs.Spec, task *Task, view *layers.View) error {
	c := &wire.Chroot{Mounts: t.Mounts, Umask: 0o022}
	c.Network = slices.ContainsFunc(s.Linux.Namespaces, func(n specs.LinuxNamespace) bool { return n.Type == specs.NetworkNamespace })
	if u := s.Process.User.Umask; u != nil {
		c.Umask = *u
	}
	for _, l := range s.Process.Rlimits {
		c.Limits = append(c.Limits, wire.Limit{Resource: wire.Rlimits[l.Type], Soft: l.Soft, Hard: l.Hard})
	}
	st := &req.Stage
	st.Chroot = c
	own := permittedCaps()
	for _, set := range []*uint64{&st.Caps.Bounding, &st.Caps.Effective, &st.Caps.Permitted, &st.Caps.Inheritable, &st.Caps.Ambient} {
		*set &= own
	}
	st.SetGroups = st.SetGroups && hasCap(unix.CAP_SETGID)
	if !st.NoNewPrivs && !canFilter() {
		st.Filter = nil // Missing says so
	}
	if t.Mounts {
		return nil
	}
	req.Stubs = nil
	if len(task.Trees) > 0 {
		return fmt.Errorf("mount at %s: %w", task.Trees[0].Target, errPlain)
	}
	for name, f := range task.Files {
		if f.Secret {
			return fmt.Errorf("secret %s: %w; a variable needs no mount: --mount=type=secret,env=NAME", name, errPlain)
		}
	}
	for i := range req.Files {
		f := &req.Files[i]
		name, err := view.Resolve(strings.TrimPrefix(f.Path, "/"))
		if err != nil {
			return fmt.Errorf("file %s: %w", f.Path, err)
		}
		f.Path = path.Join("/", name)
	}
	return nil
}

// permittedCaps are the capabilities that this process may have.
func permittedCaps() uint64 {
	head := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&head, &data[0]); err != nil {
		return 0
	}
	return uint64(data[1].Permitted)<<32 | uint64(data[0].Permitted)
}
