package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/containerd/platforms"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/spf13/pflag"

	"cooper/builder"
	"cooper/run"
)

// runFlags are the flags of run as given.
type runFlags struct {
	interactive, terminal, remove bool
	name                          string
	env, envFiles                 []string
	volumes, mounts, tmpfs        []string
	workdir, user                 string
	groupAdd                      []string
	entrypoint                    string
	entrypointSet                 bool
	network                       string
	readOnly, privileged          bool
	capAdd, capDrop, securityOpt  []string
	pull, platform                string
	sysctls                       []string
	pidsLimit                     int64
	stopSignal                    string
	containerFlags
}

func (f *runFlags) declare(fs *pflag.FlagSet) {
	fs.SortFlags = false
	fs.BoolVarP(&f.interactive, "interactive", "i", false, "Connect standard input")
	fs.BoolVarP(&f.terminal, "tty", "t", false, "Give the container a terminal")
	fs.BoolVar(&f.remove, "rm", false, "Remove the container when it ends (it always is, for now)")
	fs.StringVar(&f.name, "name", "", "Name the container `NAME` (nothing keeps it yet)")
	fs.StringArrayVarP(&f.env, "env", "e", nil, "Set an environment variable: `NAME[=VALUE]` (repeatable)")
	fs.StringArrayVar(&f.envFiles, "env-file", nil, "Read environment variables from `FILE` (repeatable)")
	fs.StringArrayVarP(&f.volumes, "volume", "v", nil, "Bind a directory or file: `SOURCE:DESTINATION[:ro]` (repeatable)")
	fs.StringArrayVar(&f.mounts, "mount", nil, "Mount `SPEC`: type=bind, tmpfs or volume, source=, target=, readonly, separated by commas (repeatable)")
	fs.StringArrayVar(&f.tmpfs, "tmpfs", nil, "Mount a tmpfs: `DESTINATION[:OPTIONS]` (repeatable)")
	fs.StringVarP(&f.workdir, "workdir", "w", "", "Start in the directory `DIR`")
	fs.StringVarP(&f.user, "user", "u", "", "Run as `USER[:GROUP]`, names or ids")
	fs.StringArrayVar(&f.groupAdd, "group-add", nil, "Add a further `GROUP` (repeatable)")
	fs.StringVar(&f.entrypoint, "entrypoint", "", "Replace the image's entry point by `PROGRAM`; empty clears it")
	fs.StringVar(&f.stopSignal, "stop-signal", "", "Ask the container to stop by `SIGNAL`")
	fs.StringVar(&f.pull, "pull", "", "Fetch the image: `POLICY` missing, always, never or newer (default missing)")
	fs.StringVar(&f.platform, "platform", "", "Fetch the image for `OS/ARCH[/VARIANT]`")
	fs.StringVar(&f.network, "network", "", "Network: `MODE` host or none (default host)")
	fs.StringVar(&f.network, "net", "", "The same as --network")
	fs.Lookup("net").Hidden = true
	fs.StringVarP(&f.hostname, "hostname", "h", "", "Host `NAME` in the container")
	f.declareNames(fs)
	f.containerFlags.declareLimits(fs)
	fs.Int64Var(&f.pidsLimit, "pids-limit", 0, "Limit the number of processes to `N`; -1 is no limit")
	markSections(fs, sectionResources, "pids-limit")
	f.declareSecurity(fs)
	fs.Bool("help", false, "Show this help") // docker's -h is the host name
}

// declareSecurity declares the flags about rights.
func (f *runFlags) declareSecurity(fs *pflag.FlagSet) {
	fs.BoolVar(&f.readOnly, "read-only", false, "Make the root file system read-only")
	fs.StringArrayVar(&f.capAdd, "cap-add", nil, "Add a `CAPABILITY`, or ALL (repeatable)")
	fs.StringArrayVar(&f.capDrop, "cap-drop", nil, "Drop a `CAPABILITY`, or ALL (repeatable)")
	fs.StringArrayVar(&f.securityOpt, "security-opt", nil, "Set `OPTION` seccomp=FILE, seccomp=unconfined or no-new-privileges (repeatable)")
	fs.BoolVar(&f.privileged, "privileged", false, "Give the container every right this user has")
	fs.StringArrayVar(&f.sysctls, "sysctl", nil, "Set a kernel parameter: `NAME=VALUE` (repeatable)")
	markSections(fs, sectionSecurity, "read-only", "cap-add", "cap-drop", "security-opt", "privileged", "sysctl")
}

// entrypointGiven is --entrypoint as run.MergeCommand takes it: nil when it was
// not given. As with podman, a JSON array gives a program and its arguments.
func (f *runFlags) entrypointGiven() *[]string {
	if !f.entrypointSet {
		return nil
	}
	var list []string
	if strings.HasPrefix(f.entrypoint, "[") && json.Unmarshal([]byte(f.entrypoint), &list) == nil {
		return &list
	}
	return &[]string{f.entrypoint}
}

// runRequest is what the flags of run ask for, before the image is known.
type runRequest struct {
	base     run.Config // Args, Env, Dir and User are what was given
	env      func(image []string) ([]string, error)
	mounts   []mountRequest
	pull     builder.PullPolicy
	platform ocispec.Platform
}

// request checks the flags.
func (f *runFlags) request(lookupEnv func(string) (string, bool)) (*runRequest, error) {
	r := &runRequest{base: run.Config{
		Dir: f.workdir, User: f.user, GroupAdd: f.groupAdd,
		ReadOnly: f.readOnly, Privileged: f.privileged, CapAdd: f.capAdd, CapDrop: f.capDrop,
		PidsLimit: f.pidsLimit, Terminal: f.terminal,
	}}
	r.env = func(image []string) ([]string, error) { return environment(image, f.envFiles, f.env, lookupEnv) }
	steps := []func(*runRequest) error{f.names, f.networking, f.security, f.allMounts}
	for _, step := range steps {
		if err := step(r); err != nil {
			return nil, err
		}
	}
	return r, nil
}

// names checks the container's name and what says where the image comes from.
func (f *runFlags) names(r *runRequest) (err error) {
	if f.name != "" && !validName(f.name) {
		return fmt.Errorf("invalid container name %q: want letters, digits, _, . and -, the first a letter or digit", f.name)
	}
	if f.workdir != "" && !strings.HasPrefix(f.workdir, "/") {
		return fmt.Errorf("invalid working directory %q: it must be an absolute path", f.workdir)
	}
	if r.pull, err = parsePull(f.pull); err != nil {
		return err
	}
	if f.platform != "" {
		if r.platform, err = platforms.Parse(f.platform); err != nil {
			return fmt.Errorf("invalid platform %q: want OS/ARCH[/VARIANT], such as linux/arm64", f.platform)
		}
	}
	if f.stopSignal != "" {
		if r.base.StopSignal, err = run.ParseSignal(f.stopSignal); err != nil {
			return err
		}
	}
	return nil
}

// validName reports whether docker would take name for a container.
func validName(name string) bool {
	for i, c := range []byte(name) {
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
		if !letter && (i == 0 || !strings.ContainsRune("_.-", rune(c))) {
			return false
		}
	}
	return len(name) > 1
}

func (f *runFlags) networking(r *runRequest) error {
	switch f.network {
	case "", "default":
		r.base.Network = "host"
	case "host", "none":
		r.base.Network = f.network
	default:
		return fmt.Errorf("network %q is not supported yet: use host or none", f.network)
	}
	return f.containerFlags.apply(&r.base)
}

func (f *runFlags) security(r *runRequest) error {
	for _, opt := range f.securityOpt {
		if err := r.base.ParseSecurityOpt(opt); err != nil {
			return fmt.Errorf("invalid --security-opt %q: %w", opt, err)
		}
	}
	for _, entry := range f.sysctls {
		name, value, found := strings.Cut(entry, "=")
		if !found || name == "" {
			return fmt.Errorf("invalid --sysctl %q: want NAME=VALUE", entry)
		}
		if r.base.Sysctl == nil {
			r.base.Sysctl = make(map[string]string)
		}
		r.base.Sysctl[name] = value
	}
	return nil
}

func (f *runFlags) allMounts(r *runRequest) error {
	for _, s := range f.volumes {
		m, err := parseVolume(s)
		if err != nil {
			return err
		}
		r.mounts = append(r.mounts, m)
	}
	for _, s := range f.mounts {
		m, err := parseMount(s)
		if err != nil {
			return err
		}
		r.mounts = append(r.mounts, m)
	}
	for _, s := range f.tmpfs {
		m, err := parseTmpfs(s)
		if err != nil {
			return err
		}
		r.mounts = append(r.mounts, mountRequest{Mount: m})
	}
	for i, m := range r.mounts {
		same := func(other mountRequest) bool { return other.Destination == m.Destination }
		if slices.ContainsFunc(r.mounts[i+1:], same) {
			return fmt.Errorf("duplicate mount point: %s", m.Destination)
		}
	}
	return nil
}

// config puts what was asked for over what the image says.
func (r *runRequest) config(image dockerspec.DockerOCIImage, entrypoint *[]string, command []string) (*run.Config, error) {
	from := run.FromImage(image)
	c := r.base
	c.Args = run.MergeCommand(image.Config, entrypoint, command)
	if len(c.Args) == 0 {
		return nil, withHint(errors.New("no command specified"), "The image names none: give one after the image.")
	}
	if c.Dir == "" {
		c.Dir = from.Dir
	}
	if c.User == "" {
		c.User = from.User
	}
	if c.StopSignal == 0 {
		c.StopSignal = from.StopSignal
	}
	var err error
	if c.Env, err = r.env(from.Env); err != nil {
		return nil, err
	}
	return &c, nil
}
