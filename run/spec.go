package run

import (
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	cdispecs "tags.cncf.io/container-device-interface/specs-go"

	"cooper/layers"
)

const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// Spec makes the runtime-spec for c in tier t. Users, groups and mount points
// are looked up in v, which may be nil for an empty root file system.
//
// What c asks for and t cannot give is an error when it is about isolation or
// limits that the user named (Network "none", Memory); what is only a default is
// left out, and t.Missing says so. Ulimits and OOMScoreAdj are lowered to what
// this process may set.
func (c *Config) Spec(v *layers.View, t Tier) (*specs.Spec, error) {
	if len(c.Args) == 0 {
		return nil, errors.New("no command specified")
	}
	if err := c.check(t); err != nil {
		return nil, err
	}
	c, cdiNodes, err := c.withCDI()
	if err != nil {
		return nil, err
	}
	caps, err := c.caps()
	if err != nil {
		return nil, err
	}
	user, home, err := c.lookupUser(v)
	if err != nil {
		return nil, err
	}
	if c.Dir != "" && !path.IsAbs(c.Dir) {
		return nil, fmt.Errorf("working directory %q is not absolute", c.Dir)
	}
	limits, err := rlimits(c.Ulimits)
	if err != nil {
		return nil, err
	}
	user.Umask = c.Umask
	hostname := c.hostname()
	s := &specs.Spec{
		Version: specs.Version,
		Root:    &specs.Root{Readonly: c.ReadOnly},
		Process: &specs.Process{
			Terminal: c.Terminal, User: user, Args: c.Args, Env: c.env(hostname, home),
			Cwd: path.Join("/", c.Dir), Capabilities: specCaps(caps), Rlimits: limits,
			NoNewPrivileges: c.NoNewPrivileges, OOMScoreAdj: oomScoreAdj(c.OOMScoreAdj),
		},
		Annotations: c.Annotations,
		Linux:       &specs.Linux{Namespaces: c.namespaces(t), Sysctl: c.Sysctl, CgroupsPath: c.CgroupParent},
	}
	if t.UTS && c.UTS != "host" {
		s.Hostname, s.Domainname = hostname, c.Domainname
	}
	if s.Mounts, err = c.mounts(t); err != nil {
		return nil, err
	}
	if !c.Privileged && (t.Proc || t.chroot && t.Mounts) {
		s.Linux.MaskedPaths, s.Linux.ReadonlyPaths = c.hiddenPaths()
	}
	s.Linux.MaskedPaths = append(s.Linux.MaskedPaths, c.Mask...)
	if err := c.addResources(s, t, cdiNodes); err != nil {
		return nil, err
	}
	s.Linux.Seccomp, err = c.seccomp(s)
	return s, err
}

// errNoLimits: limits were asked for where they cannot be set.
var errNoLimits = errors.New("limits on memory, processors or processes need a writable cgroup, and there is none " +
	"(rootless: ask for cgroup v2 delegation)")

// check refuses what t cannot give.
func (c *Config) check(t Tier) error {
	if t.chroot {
		if err := c.checkChroot(t); err != nil {
			return err
		}
	} else if !t.Mounts {
		return noContainers()
	}
	switch {
	case c.Network == "" || c.Network == "host" || strings.HasPrefix(c.Network, "ns:"):
	case c.Network != "none":
		return fmt.Errorf("network %q is not known", c.Network)
	case !t.Net:
		return errors.New("network none: this process may not make a network namespace (CAP_SYS_ADMIN and CAP_NET_ADMIN, or a user namespace)")
	}
	for _, mode := range []string{c.PID, c.IPC} {
		if !isPrivate(mode) && mode != "host" && !strings.HasPrefix(mode, "ns:") {
			return fmt.Errorf("namespace %q is not known: want host, or container: and a container that runs", mode)
		}
	}
	if err := c.checkUserNS(t); err != nil {
		return err
	}
	if c.CgroupNS != "" && c.CgroupNS != "host" && c.CgroupNS != "private" {
		return fmt.Errorf("cgroup namespace %q is not known: want host or private", c.CgroupNS)
	}
	if t.Cgroup == 0 && c.limited() {
		return errNoLimits
	}
	if t.Cgroup == 2 && c.CgroupParent == "" {
		return c.checkControllers(ownParent())
	}
	return nil
}

// user is who the first process is, "" meaning root.
func (c *Config) user() string {
	if c.User == "" && c.UserNS != nil {
		return c.UserNS.User
	}
	return c.User
}

func (c *Config) hostNetwork() bool { return c.Network == "" || c.Network == "host" }

// hostname follows Docker: the host's name on the host's network when that was
// asked for. Run fills in the container's id where this is empty.
func (c *Config) hostname() string {
	if c.Hostname == "" && (c.Network == "host" || c.UTS == "host") {
		name, _ := os.Hostname()
		return name
	}
	return c.Hostname
}

// env adds what docker adds. The last of equal names wins, in the first's place.
func (c *Config) env(hostname, home string) []string {
	var out []string
	if !slices.ContainsFunc(c.Env, func(e string) bool { return strings.HasPrefix(e, "PATH=") }) {
		out = append(out, "PATH="+defaultPath)
	}
	if !c.BareEnv {
		out = append(out, "HOSTNAME="+hostname)
		if c.Terminal {
			out = append(out, "TERM=xterm")
		}
	}
	for _, e := range append([]string{"HOME=" + home}, c.Env...) {
		name, value, ok := strings.Cut(e, "=")
		i := slices.IndexFunc(out, func(o string) bool { return strings.HasPrefix(o, name+"=") })
		switch {
		case !ok: // only a name: docker drops it
		case name == "HOME" && value == "":
			// runc fills in an empty HOME
		case i >= 0:
			out[i] = e
		default:
			out = append(out, e)
		}
	}
	return out
}

func (c *Config) namespaces(t Tier) []specs.LinuxNamespace {
	ns := []specs.LinuxNamespace{{Type: specs.MountNamespace}}
	add := func(want bool, n specs.LinuxNamespaceType) {
		if want {
			ns = append(ns, specs.LinuxNamespace{Type: n})
		}
	}
	add(t.Proc && isPrivate(c.PID), specs.PIDNamespace)
	add(t.UTS && c.UTS != "host", specs.UTSNamespace)
	add(isPrivate(c.IPC), specs.IPCNamespace)
	add(c.Network == "none", specs.NetworkNamespace)
	add(c.cgroupNamespace(t), specs.CgroupNamespace)
	if c.UserNS != nil {
		ns = append(ns, specs.LinuxNamespace{Type: specs.UserNamespace, Path: strings.TrimPrefix(c.joinedUserNS(), userNSPath)})
	}
	for _, join := range []struct {
		kind  specs.LinuxNamespaceType
		value string
	}{{specs.PIDNamespace, c.PID}, {specs.IPCNamespace, c.IPC}, {specs.NetworkNamespace, c.Network}} {
		if p, ok := strings.CutPrefix(join.value, "ns:"); ok {
			ns = append(ns, specs.LinuxNamespace{Type: join.kind, Path: p})
		}
	}
	return ns
}

// isPrivate reports whether mode, PID or IPC, asks for a new namespace.
func isPrivate(mode string) bool { return mode == "" || mode == "none" }

// cgroupNamespace reports whether the container sees its own cgroup as the root.
func (c *Config) cgroupNamespace(t Tier) bool {
	if c.CgroupNS == "" {
		return t.Cgroup == 2 && !c.Privileged
	}
	return t.Cgroup != 0 && c.CgroupNS == "private"
}

// addResources adds limits and devices.
func (c *Config) addResources(s *specs.Spec, t Tier, cdiNodes []*cdispecs.DeviceNode) error {
	devices, rules, err := c.devices()
	if err != nil {
		return err
	}
	bound := t.Rootless || c.UserNS != nil
	addDevices(s, devices, bound)
	cdiRules, err := addCDINodes(s, cdiNodes, bound)
	if err != nil {
		return err
	}
	if t.Cgroup == 0 {
		return nil
	}
	if s.Linux.Resources, err = c.resources(); err != nil {
		return err
	}
	if !t.Rootless {
		s.Linux.Resources.Devices = append(rules, cdiRules...)
	}
	return nil
}

// ParseSecurityOpt applies one --security-opt value of docker run: "seccomp=FILE",
// "seccomp=unconfined", "no-new-privileges[=true|false]", "systempaths=unconfined",
// "unmask=PATH[:PATH]", "mask=PATH[:PATH]", "label=..." and "apparmor=..." (both
// ignored where the kernel has none).
func (c *Config) ParseSecurityOpt(opt string) error {
	key, value, ok := strings.Cut(opt, "=")
	if !ok {
		key, value, _ = strings.Cut(opt, ":") // docker's old form
	}
	switch key {
	case "no-new-privileges":
		if value != "" && value != "true" && value != "false" {
			return fmt.Errorf("security option %q: want true or false", opt)
		}
		c.NoNewPrivileges = value != "false"
	case "seccomp":
		if value == "unconfined" || value == "builtin" {
			c.Seccomp = strings.TrimSuffix(value, "builtin")
			return nil
		}
		b, err := os.ReadFile(value)
		if err != nil {
			return fmt.Errorf("seccomp profile: %w", err)
		}
		c.Seccomp = string(b)
	case "systempaths":
		if value != "unconfined" {
			return fmt.Errorf("security option %q: want systempaths=unconfined", opt)
		}
		c.Unmask = []string{"ALL"}
	case "unmask":
		c.Unmask = append(c.Unmask, strings.Split(value, ":")...)
	case "mask":
		for p := range strings.SplitSeq(value, ":") {
			if !path.IsAbs(p) {
				return fmt.Errorf("security option %q: %q is not an absolute path", opt, p)
			}
			c.Mask = append(c.Mask, p)
		}
	case "label", "apparmor":
	default:
		return fmt.Errorf("unknown security option %q", opt)
	}
	return nil
}
