package cli

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"cooper/builder"
	"cooper/layers"
	"cooper/run"
)

// runFlags are the flags of run and create as given.
type runFlags struct {
	processFlags
	keptFlags
	mountFlags
	networkFlags
	healthFlags
	containerFlags
	limitFlags
	readOnly, privileged         bool
	capAdd, capDrop, securityOpt []string
	sysctls                      []string
	pull, platform               string
	quiet, rootfs                bool
	domainname                   string
	noHosts, noHostname          bool
	registry                     registryFlags
	startFlags
}

// startFlags are the flags of run alone.
type startFlags struct {
	detach      bool
	detachKeys  string
	sigProxy    bool
	attach      []string
	wait        bool
	waitTimeout uint64
	sdnotify    notifyFlag
}

// flagAliases are other names that docker and buildah have for flags.
var flagAliases = map[string]string{"net": "network", "net-alias": "network-alias", "dns-opt": "dns-option", "raw-iidfile": "iidfile-raw"}

// declare declares what run and create have; once they are parsed, noteGiven is
// to be called.
func (f *runFlags) declare(fs *pflag.FlagSet) {
	fs.SortFlags = false
	fs.SetNormalizeFunc(func(_ *pflag.FlagSet, name string) pflag.NormalizedName {
		return pflag.NormalizedName(cmp.Or(flagAliases[name], name))
	})
	f.processFlags.declare(fs)
	f.keptFlags.declare(fs)
	f.mountFlags.declare(fs)
	fs.StringVar(&f.pull, "pull", "", "Fetch the image: `POLICY` missing, always, never or newer (default missing)")
	fs.StringVar(&f.platform, "platform", "", "Fetch the image for `OS/ARCH[/VARIANT]`")
	fs.BoolVarP(&f.quiet, "quiet", "q", false, "Don't show how the image is fetched")
	f.registry.declare(fs)
	fs.BoolVar(&f.rootfs, "rootfs", false, "Use the directory given in place of an image, as it is")
	fs.StringVarP(&f.hostname, "hostname", "h", "", "Host `NAME` in the container")
	fs.StringVar(&f.domainname, "domainname", "", "Domain `NAME` in the container")
	f.declareNames(fs)
	fs.BoolVar(&f.noHosts, "no-hosts", false, "Leave /etc/hosts to the image")
	fs.BoolVar(&f.noHostname, "no-hostname", false, "Leave /etc/hostname to the image")
	f.networkFlags.declare(fs)
	f.healthFlags.declare(fs)
	f.containerFlags.declareLimits(fs)
	f.limitFlags.declare(fs)
	f.declareSecurity(fs)
	fs.Bool("help", false, "Show this help") // docker's -h is the host name
	fs.Bool("disable-content-trust", true, "Without effect: docker's content trust is not there")
	fs.Lookup("disable-content-trust").Hidden = true
}

// declare declares what run has beside create's flags.
func (f *startFlags) declare(fs *pflag.FlagSet) {
	fs.BoolVarP(&f.detach, "detach", "d", false, "Run in the background and print the container's id")
	fs.BoolVar(&f.wait, "wait", false, "With -d: return when the container is healthy, or runs if it has no health check")
	fs.Uint64Var(&f.waitTimeout, "wait-timeout", 0, "With --wait: give up after `SECONDS`")
	f.sdnotify.declare(fs)
	fs.StringArrayVarP(&f.attach, "attach", "a", nil, "Attach to `STREAM` stdin, stdout or stderr only (repeatable)")
	fs.StringVar(&f.detachKeys, "detach-keys", "", "Detach by the keys `SEQUENCE` (default ctrl-p,ctrl-q)")
	fs.BoolVar(&f.sigProxy, "sig-proxy", true, "Pass on signals to the container")
}

// noteGiven remembers which flags were given where their values don't tell.
func (f *runFlags) noteGiven(fs *pflag.FlagSet) {
	f.entrypointSet = fs.Changed("entrypoint")
	f.stopTimeoutSet = fs.Changed("stop-timeout")
}

// declareSecurity declares the flags about rights.
func (f *runFlags) declareSecurity(fs *pflag.FlagSet) {
	fs.BoolVar(&f.readOnly, "read-only", false, "Make the root file system read-only")
	fs.StringArrayVar(&f.capAdd, "cap-add", nil, "Add a `CAPABILITY`, or ALL (repeatable)")
	fs.StringArrayVar(&f.capDrop, "cap-drop", nil, "Drop a `CAPABILITY`, or ALL (repeatable)")
	fs.StringArrayVar(&f.securityOpt, "security-opt", nil, "Set `OPTION` seccomp=FILE, seccomp=unconfined, no-new-privileges, mask=PATH or unmask=PATH (repeatable)")
	fs.BoolVar(&f.privileged, "privileged", false, "Give the container every right this user has")
	fs.StringArrayVar(&f.sysctls, "sysctl", nil, "Set a kernel parameter: `NAME=VALUE` (repeatable)")
	markSections(fs, sectionSecurity, "read-only", "cap-add", "cap-drop", "security-opt", "privileged", "sysctl")
}

// runRequest is what the flags ask for, checked, before the image is known.
type runRequest struct {
	flags *runFlags
	base  run.ContainerOptions
	env   func(image []string) ([]string, error)
	pull  builder.PullPolicy
	fetch pullSettings
}

// request checks the flags.
func (f *runFlags) request(lookupEnv func(string) (string, bool), environ []string) (*runRequest, error) {
	r := &runRequest{flags: f}
	r.env = func(image []string) ([]string, error) { return f.environment(image, lookupEnv, environ) }
	c := &r.base.Config
	c.ReadOnly, c.Privileged, c.CapAdd, c.CapDrop = f.readOnly, f.privileged, f.capAdd, f.capDrop
	c.Domainname, c.NoHosts, c.NoHostname = f.domainname, f.noHosts, f.noHostname
	r.base.Init, r.base.OpenStdin, r.base.StdinOnce = f.init, f.interactive, f.interactive && !f.detach
	steps := []func() error{
		func() error { return f.processFlags.apply(c) },
		func() error { return f.containerFlags.apply(c) },
		func() error { return f.keptFlags.apply(&r.base) },
		func() error { return f.limitFlags.apply(c) },
		func() error { return f.security(c) },
		func() error { return f.networkFlags.apply(&r.base) },
		f.healthFlags.check,
		func() (err error) { r.base.Mounts, err = f.list(); return err },
		func() error { return f.source(r) },
		f.startFlags.check,
		f.conflicts,
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return nil, err
		}
	}
	r.base.Foreground = f.foreground(&r.base)
	return r, nil
}

// conflicts refuses flags that do not go together and belong to different groups.
func (f *runFlags) conflicts() error {
	if f.noHosts && len(f.addHost) > 0 {
		return errors.New("--no-hosts and --add-host cannot be set together")
	}
	return nil
}

// foreground reports whether the container is to end with the command: nothing
// of it is looked at from elsewhere or afterwards.
func (f *runFlags) foreground(o *run.ContainerOptions) bool {
	return f.remove && !f.detach && f.name == "" && !(f.interactive && f.terminal) &&
		f.logDriver == "" && len(f.logOptions) == 0 && !f.healthFlags.given &&
		f.cidFile == "" && f.pidFile == "" && o.Timeout == 0
}

// source checks what says where the image comes from.
func (f *runFlags) source(r *runRequest) (err error) {
	if r.pull, err = parsePull(f.pull); err != nil {
		return err
	}
	r.fetch, err = parsePullSettings(f.platform, "", f.quiet)
	r.fetch.registry, r.fetch.newer = f.registry, r.pull == builder.PullNewer
	return err
}

// check looks at the flags once they are parsed.
func (f *startFlags) check() error {
	for _, s := range f.attach {
		if !slices.Contains([]string{"stdin", "stdout", "stderr"}, strings.ToLower(s)) {
			return fmt.Errorf("invalid --attach %q: valid streams are STDIN, STDOUT and STDERR", s)
		}
	}
	switch {
	case f.detach && len(f.attach) > 0:
		return errors.New("conflicting options: cannot specify both --attach and --detach")
	case f.wait && !f.detach:
		return errors.New("--wait needs --detach as well")
	case f.waitTimeout > 0 && !f.wait:
		return errors.New("--wait-timeout needs --wait as well")
	}
	return nil
}

func (f *runFlags) security(c *run.Config) error {
	for _, opt := range f.securityOpt {
		if err := c.ParseSecurityOpt(opt); err != nil {
			return fmt.Errorf("invalid --security-opt %q: %w", opt, err)
		}
	}
	for _, entry := range f.sysctls {
		name, value, found := strings.Cut(entry, "=")
		if !found || name == "" {
			return fmt.Errorf("invalid --sysctl %q: want NAME=VALUE", entry)
		}
		if c.Sysctl == nil {
			c.Sysctl = make(map[string]string)
		}
		c.Sysctl[name] = value
	}
	return nil
}

// options puts what was asked for over what the image says. Name is the image's
// as it was given, or with --rootfs the directory; the image is the zero Image
// then. What else the container should know comes as a warning.
func (r *runRequest) options(image layers.Image, name string, command []string) (o run.ContainerOptions, warning string, err error) {
	o = r.base
	o.Mounts, o.Labels = slices.Clone(o.Mounts), maps.Clone(o.Labels)
	o.Networks, o.Ports, o.Exposed = slices.Clone(o.Networks), slices.Clone(o.Ports), slices.Clone(o.Exposed)
	if r.flags.rootfs {
		o.Rootfs = name
	} else {
		o.Image, o.ImageID = name, image.ID
	}
	if err := r.flags.processFlags.finish(&o, image.Config, command); err != nil {
		return o, "", err
	}
	if o.Config.Env, err = r.env(image.Config.Config.Env); err != nil {
		return o, "", err
	}
	for key, value := range image.Config.Config.Labels {
		if _, given := o.Labels[key]; !given {
			o.Labels[key] = value
		}
	}
	o.Health = r.flags.healthFlags.config(image.Config.Config)
	if o.Foreground {
		o.Health = nil
	}
	addImageVolumes(&o, image.Config.Config.Volumes)
	warning, err = r.flags.networkFlags.finish(&o, image.Config.Config)
	if o.NetworkMode == "host" || o.NetworkMode == "none" {
		o.Config.Network = o.NetworkMode
	}
	return o, warning, err
}

// addImageVolumes adds an anonymous volume for each VOLUME of the image at which
// nothing else is mounted.
func addImageVolumes(o *run.ContainerOptions, volumes map[string]struct{}) {
	for _, dest := range slices.Sorted(maps.Keys(volumes)) {
		dest = path.Join("/", cmp.Or(dest, "/"))
		if dest != "/" && !covers(o.Mounts, dest) {
			o.Mounts = append(o.Mounts, run.ContainerMount{Type: "volume", Destination: dest})
		}
	}
}
