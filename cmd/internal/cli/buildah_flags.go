package cli

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"cooper/builder"
	"cooper/layers"
	"cooper/registry"
)

// buildahFlags are the flags of build that buildah and podman have and docker
// has not, and those without effect that scripts give to any of them.
type buildahFlags struct {
	registry                        registryFlags
	registriesConf, signaturePolicy string
	volumes                         []string
	buildArgFiles                   []string
	jobs                            int
	layers, rm                      bool
	isolation                       string
	runtime                         runtimeFlags
	logFile                         string
	logSplit                        bool
	omitHistory                     bool
	noCacheFilter                   []string
	cacheTTL                        time.Duration
}

func (f *buildahFlags) declare(fs *pflag.FlagSet) {
	f.registry.declare(fs)
	f.registry.declareCreds(fs)
	fs.StringVar(&f.registriesConf, "registries-conf", "", "Read `FILE` instead of the system's registries.conf")
	fs.StringVar(&f.signaturePolicy, "signature-policy", "", "Read `FILE` instead of the system's policy.json")
	fs.StringArrayVarP(&f.volumes, "volume", "v", nil, "Bind a directory or file in RUN steps: `SOURCE:DESTINATION[:ro|O|U]`, with O changes are thrown away, with U the step's user becomes the owner (repeatable)")
	fs.StringArrayVar(&f.buildArgFiles, "build-arg-file", nil, "Set ARGs from `FILE`, NAME[=VALUE] in each line (repeatable)")
	fs.IntVar(&f.jobs, "jobs", 0, "Run at most `N` steps at once (default no limit)")
	fs.BoolVar(&f.layers, "layers", true, "Use the cache, and give each step a layer; without, all steps have one")
	fs.StringArrayVar(&f.noCacheFilter, "no-cache-filter", nil, "Run every step of `STAGE`, whatever the cache holds (repeatable)")
	fs.DurationVar(&f.cacheTTL, "cache-ttl", -1, "Run steps again whose results are older than `DURATION` (24h), with 0 all (default no limit)")
	fs.StringVar(&f.isolation, "isolation", "", "Run steps in containers (`TYPE` default, oci or rootless) or by chroot, which needs fewer rights and isolates less")
	f.runtime.declare(fs)
	fs.StringVar(&f.logFile, "logfile", "", "Write the progress to `FILE`")
	fs.BoolVar(&f.logSplit, "logsplit", false, "Write that of each --platform to a file of its own: FILE_linux_arm64")
	fs.BoolVar(&f.omitHistory, "omit-history", false, "Leave the history out of the image's config")
	fs.BoolVar(&f.rm, "rm", true, "Keep no containers of steps (they never are)")
	for _, name := range []string{"force-rm", "compress", "disable-content-trust"} {
		fs.Bool(name, false, "Without effect")
		fs.Lookup(name).Hidden = true
	}
	for _, name := range []string{"rm", "layers"} {
		fs.Lookup(name).Hidden = true
	}
}

// apply puts the flags into o.
func (f *buildahFlags) apply(o *builder.Options, lookupEnv func(string) (string, bool)) error {
	switch f.isolation {
	case "", "default", "oci", "rootless":
	case "chroot":
		o.Chroot = true
	default:
		return fmt.Errorf("invalid isolation %q: want default, oci, rootless or chroot", f.isolation)
	}
	switch {
	case !f.rm:
		return errors.New("--rm=false is not supported: containers of steps are never kept")
	case f.jobs < 0:
		return fmt.Errorf("invalid --jobs %d: want a positive number, or 0 for no limit", f.jobs)
	}
	o.Jobs, o.OmitHistory = f.jobs, f.omitHistory
	o.NoCache, o.CacheTTL = o.NoCache || f.cacheTTL == 0, max(f.cacheTTL, 0)
	if !f.layers {
		o.NoCache, o.Squash = true, cmp.Or(o.Squash, builder.SquashNew)
	}
	for _, list := range f.noCacheFilter {
		o.NoCacheFilter = append(o.NoCacheFilter, strings.Split(list, ",")...)
	}
	for _, v := range f.volumes {
		if err := f.volume(o, v); err != nil {
			return err
		}
	}
	return f.argFiles(o, lookupEnv)
}

// volume adds a value of --volume.
func (f *buildahFlags) volume(o *builder.Options, value string) error {
	m, err := parseVolume(value)
	switch {
	case err != nil:
		return err
	case m.Type != "bind":
		return fmt.Errorf("invalid volume %q: want SOURCE:DESTINATION, the source a path", value)
	case m.Chown && m.Overlay:
		return fmt.Errorf("invalid volume %q: options U and O exclude each other", value)
	}
	info, err := os.Stat(m.Source)
	if err != nil {
		return fmt.Errorf("invalid volume %q: %w", value, err)
	}
	if m.Chown {
		o.Chown = append(o.Chown, m.Source)
	}
	if !m.Overlay {
		o.Container.Mounts = append(o.Container.Mounts, m.Mount())
		return nil
	}
	if !info.IsDir() {
		return fmt.Errorf("invalid volume %q: O needs a directory", value)
	}
	o.Overlays = append(o.Overlays, builder.Overlay{Source: m.Source, Target: filepath.Clean(m.Destination)})
	return nil
}

// argFiles adds the build arguments of files, which are written as those of
// --build-arg; the latter win.
func (f *buildahFlags) argFiles(o *builder.Options, lookupEnv func(string) (string, bool)) error {
	var lines []string
	for _, name := range f.buildArgFiles {
		text, err := os.ReadFile(name)
		if err != nil {
			return fmt.Errorf("build argument file: %w", err)
		}
		for line := range strings.Lines(string(text)) {
			line = strings.TrimSpace(line)
			if line == "" || strings.HasPrefix(line, "#") {
				continue
			}
			if strings.HasPrefix(line, "=") {
				return fmt.Errorf("build argument file %s: invalid line %q: want NAME[=VALUE]", name, line)
			}
			lines = append(lines, line)
		}
	}
	given, err := buildArgMap(lines, lookupEnv)
	if err != nil {
		return err
	}
	for key, value := range given {
		if _, ok := o.BuildArgs[key]; !ok {
			o.BuildArgs[key] = value
		}
	}
	return nil
}

// client returns the client for the images of the build.
func (f *buildahFlags) client(store *layers.Store) (*registry.Client, error) {
	c, err := f.registry.client(store)
	if err == nil {
		c.RegistriesConf, c.SignaturePolicy = f.registriesConf, f.signaturePolicy
	}
	return c, err
}
