package cli

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/docker/go-units"
	"github.com/spf13/pflag"

	"cooper/run"
)

// keptFlags are the flags about a container beside its processes: its name, what
// is written about it, and what happens at its end.
type keptFlags struct {
	name               string
	remove, replace    bool
	labels, labelFiles []string
	annotations        []string
	cidFile, pidFile   string
	logDriver          string
	logOptions         []string
	restart            string
	stopTimeout        int
	stopTimeoutSet     bool
	timeout            uint64
	runtimeFlags       runtimeFlags
	uts                string
	ipc, pid, cgroupns string
	ids                idFlags
}

func (f *keptFlags) declare(fs *pflag.FlagSet) {
	fs.StringVar(&f.name, "name", "", "Name the container `NAME`")
	fs.BoolVar(&f.replace, "replace", false, "Remove the container that has the name now")
	fs.BoolVar(&f.remove, "rm", false, "Remove the container and its anonymous volumes when it ends")
	fs.StringArrayVarP(&f.labels, "label", "l", nil, "Label the container: `KEY[=VALUE]` (repeatable)")
	fs.StringArrayVar(&f.labelFiles, "label-file", nil, "Read labels from `FILE` (repeatable)")
	fs.StringArrayVar(&f.annotations, "annotation", nil, "Put `KEY=VALUE` into the specification (repeatable)")
	fs.StringVar(&f.cidFile, "cidfile", "", "Write the container's id to `FILE`, which must not exist")
	fs.StringVar(&f.pidFile, "pidfile", "", "Write the first process's id to `FILE` at every start")
	fs.StringVar(&f.logDriver, "log-driver", "", "Keep the output as `DRIVER` k8s-file (default), json-file, passthrough or none")
	fs.StringArrayVar(&f.logOptions, "log-opt", nil, "Set `OPTION` max-size=SIZE or max-file=N (repeatable)")
	fs.StringVar(&f.restart, "restart", "", "Start it again when it ends: `POLICY` no, on-failure[:N], always, unless-stopped")
	fs.IntVar(&f.stopTimeout, "stop-timeout", 0, "Let stop wait `SECONDS` before it kills, -1 for ever (default 10)")
	fs.Uint64Var(&f.timeout, "timeout", 0, "End the container after `SECONDS`")
	fs.StringVar(&f.pid, "pid", "", "See processes of `MODE` host or container:NAME")
	fs.StringVar(&f.ipc, "ipc", "", "Share memory by `MODE` host, container:NAME, shareable, private or none")
	fs.StringVar(&f.uts, "uts", "", "Have the host name of `MODE` host or private")
	fs.StringVar(&f.cgroupns, "cgroupns", "", "See cgroups of `MODE` host or private")
	f.ids.declare(fs)
	f.runtimeFlags.declare(fs)
}

// apply checks the flags and puts them into o.
func (f *keptFlags) apply(o *run.ContainerOptions) error {
	steps := []func(*run.ContainerOptions) error{f.names, f.written, f.log, f.ends, f.namespaces}
	for _, step := range steps {
		if err := step(o); err != nil {
			return err
		}
	}
	return nil
}

func (f *keptFlags) names(o *run.ContainerOptions) error {
	if f.name != "" && !run.IsName(f.name) {
		return fmt.Errorf("invalid container name %q: want at least two letters, digits, _, . and -, the first a letter or digit", f.name)
	}
	if f.replace && f.name == "" {
		return errors.New("cannot replace container without --name being set")
	}
	o.Name, o.AutoRemove = f.name, f.remove
	oci, err := f.runtimeFlags.runtime()
	o.Runtime, o.RuntimeFlags = oci.Name, oci.Flags
	return err
}

// written are labels, annotations and files.
func (f *keptFlags) written(o *run.ContainerOptions) error {
	var lines []string
	for _, name := range f.labelFiles {
		list, err := readEnvFile(name)
		if err != nil {
			return fmt.Errorf("label file: %w", err)
		}
		lines = append(lines, list...)
	}
	o.Labels = make(map[string]string)
	for _, l := range append(lines, f.labels...) {
		key, value, _ := strings.Cut(l, "=")
		if key == "" {
			return fmt.Errorf("invalid label %q: want KEY[=VALUE]", l)
		}
		o.Labels[key] = value
	}
	for _, a := range f.annotations {
		if err := setPair(&o.Config.Annotations, a); err != nil {
			return fmt.Errorf("invalid annotation: %w", err)
		}
	}
	if f.cidFile != "" {
		if _, err := os.Lstat(f.cidFile); err == nil {
			return fmt.Errorf("container ID file found, make sure the other container isn't running or delete %s", f.cidFile)
		}
	}
	if f.pidFile == "" {
		return nil
	}
	path, err := filepath.Abs(f.pidFile)
	o.PIDFile = path
	return err
}

func (f *keptFlags) log(o *run.ContainerOptions) (err error) {
	switch f.logDriver {
	case "", "k8s-file", "json-file", "none", "passthrough":
	default:
		return fmt.Errorf("log driver %q is not there: use k8s-file, json-file, passthrough or none", f.logDriver)
	}
	o.Log = run.LogConfig{Driver: f.logDriver}
	for _, s := range f.logOptions {
		if err := setPair(&o.Log.Options, s); err != nil {
			return fmt.Errorf("invalid --log-opt: %w", err)
		}
	}
	for _, key := range slices.Sorted(maps.Keys(o.Log.Options)) {
		value := o.Log.Options[key]
		switch key {
		case "max-size":
			if o.Log.MaxSize, err = logSize(value); err != nil {
				return err
			}
		case "max-file":
			if o.Log.MaxFiles, err = strconv.Atoi(value); err != nil || o.Log.MaxFiles < 1 {
				return fmt.Errorf("invalid --log-opt max-file=%s: want a number from 1 on", value)
			}
		default:
			return fmt.Errorf("unknown log opt %q: want max-size or max-file", key)
		}
	}
	if o.Log.MaxFiles > 1 && o.Log.MaxSize == 0 {
		return errors.New("--log-opt max-file needs max-size as well")
	}
	return nil
}

// logSize reads max-size; -1 is no limit.
func logSize(s string) (int64, error) {
	if s == "-1" {
		return 0, nil
	}
	n, err := units.RAMInBytes(s)
	if err != nil || n <= 0 {
		return 0, fmt.Errorf("invalid --log-opt max-size=%s: want a size such as 10m", s)
	}
	return n, nil
}

// ends is what happens when the container ends or is to end.
func (f *keptFlags) ends(o *run.ContainerOptions) (err error) {
	if o.Restart, err = parseRestart(f.restart); err != nil {
		return err
	}
	if f.remove && o.Restart.Name != "" && o.Restart.Name != "no" {
		return errors.New("conflicting options: cannot specify both --restart and --rm")
	}
	if f.stopTimeoutSet {
		d := time.Duration(f.stopTimeout) * time.Second
		o.StopTimeout = &d
	}
	o.Timeout = time.Duration(f.timeout) * time.Second
	return nil
}

// parseRestart reads a value of --restart, with docker's errors.
func parseRestart(s string) (run.RestartPolicy, error) {
	name, count, counted := strings.Cut(s, ":")
	p := run.RestartPolicy{Name: name}
	if s != "" && name == "" {
		return p, errors.New("invalid restart policy format: no policy provided before colon")
	}
	if counted {
		var err error
		if p.MaxRetries, err = strconv.Atoi(count); err != nil {
			return p, errors.New("invalid restart policy format: maximum retry count must be an integer")
		}
	}
	switch {
	case !slices.Contains([]string{"", "no", "always", "unless-stopped", "on-failure"}, name):
		return p, fmt.Errorf("invalid restart policy: unknown policy '%s'; use one of 'no', 'always', 'on-failure', or 'unless-stopped'", name)
	case p.MaxRetries < 0:
		return p, errors.New("invalid restart policy: maximum retry count cannot be negative")
	case counted && name != "on-failure":
		return p, errors.New("invalid restart policy: maximum retry count can only be used with 'on-failure'")
	}
	return p, nil
}

// namespaces checks the modes. Names of containers become ids later.
func (f *keptFlags) namespaces(o *run.ContainerOptions) error {
	c := &o.Config
	for _, mode := range []struct {
		flag, value string
		allowed     []string
		join        bool // container:NAME is allowed
		to          *string
	}{
		{"pid", f.pid, []string{"host"}, true, &c.PID},
		{"ipc", f.ipc, []string{"host", "none"}, true, &c.IPC},
		{"uts", f.uts, []string{"host"}, false, &c.UTS},
		{"cgroupns", f.cgroupns, []string{"host", "private"}, false, &c.CgroupNS},
	} {
		name, joins := strings.CutPrefix(mode.value, "container:")
		switch {
		case slices.Contains(mode.allowed, mode.value), mode.join && joins && name != "":
			*mode.to = mode.value
		case mode.value == "", mode.value == "private", mode.flag == "ipc" && mode.value == "shareable":
		default:
			return fmt.Errorf("--%s: invalid %s mode: %s", mode.flag, strings.ToUpper(mode.flag), mode.value)
		}
	}
	if c.UTS == "host" && (c.Hostname != "" || c.Domainname != "") {
		return errors.New("conflicting options: hostname and the UTS mode")
	}
	return f.ids.apply(c)
}
