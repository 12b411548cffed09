package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/spf13/pflag"

	"cooper/run"
)

// processFlags are the flags about a container's first process.
type processFlags struct {
	interactive, terminal bool
	env, envFiles         []string
	unsetEnv              []string
	unsetEnvAll, envHost  bool
	httpProxy             bool
	workdir, user         string
	groupAdd              []string
	entrypoint            string
	entrypointSet         bool
	init                  bool
	stopSignal            string
	umask, timezone       string
}

func (f *processFlags) declare(fs *pflag.FlagSet) {
	fs.BoolVarP(&f.interactive, "interactive", "i", false, "Connect standard input")
	fs.BoolVarP(&f.terminal, "tty", "t", false, "Give the container a terminal")
	fs.StringArrayVarP(&f.env, "env", "e", nil, "Set an environment variable: `NAME[=VALUE]` (repeatable)")
	fs.StringArrayVar(&f.envFiles, "env-file", nil, "Read environment variables from `FILE` (repeatable)")
	fs.BoolVar(&f.envHost, "env-host", false, "Start from the environment of this command")
	fs.BoolVar(&f.httpProxy, "http-proxy", false, "Pass on http_proxy, no_proxy and the like")
	fs.StringArrayVar(&f.unsetEnv, "unsetenv", nil, "Leave out the image's variable `NAME` (repeatable)")
	fs.BoolVar(&f.unsetEnvAll, "unsetenv-all", false, "Leave out all of the image's variables")
	fs.StringVarP(&f.workdir, "workdir", "w", "", "Start in the directory `DIR`")
	fs.StringVarP(&f.user, "user", "u", "", "Run as `USER[:GROUP]`, names or ids")
	fs.StringArrayVar(&f.groupAdd, "group-add", nil, "Add a further `GROUP` (repeatable)")
	fs.StringVar(&f.entrypoint, "entrypoint", "", "Replace the image's entry point by `PROGRAM`; empty clears it")
	fs.BoolVar(&f.init, "init", false, "Run an init in front, which passes on signals and reaps orphans")
	fs.StringVar(&f.stopSignal, "stop-signal", "", "Ask the container to stop by `SIGNAL`")
	fs.StringVar(&f.timezone, "tz", "", "Set the time `ZONE`, as Europe/Berlin, or local for the host's")
	fs.StringVar(&f.umask, "umask", "", "Create files with the umask `MODE` (default 0022)")
}

// apply checks the flags and puts into c what does not depend on the image.
func (f *processFlags) apply(c *run.Config) (err error) {
	c.Dir, c.User, c.GroupAdd, c.Terminal, c.Timezone = f.workdir, f.user, f.groupAdd, f.terminal, f.timezone
	if f.workdir != "" && !strings.HasPrefix(f.workdir, "/") {
		return fmt.Errorf("invalid working directory %q: it must be an absolute path", f.workdir)
	}
	if f.stopSignal != "" {
		if c.StopSignal, err = run.ParseSignal(f.stopSignal); err != nil {
			return err
		}
	}
	if f.umask != "" {
		mask, err := strconv.ParseUint(f.umask, 8, 32)
		if err != nil || mask > 0o777 {
			return fmt.Errorf("invalid --umask %q: want octal digits up to 0777", f.umask)
		}
		m := uint32(mask)
		c.Umask = &m
	}
	return nil
}

// entrypointGiven is --entrypoint as run.MergeCommand takes it: nil when it was
// not given. As with podman, a JSON array gives a program and its arguments.
func (f *processFlags) entrypointGiven() *[]string {
	if !f.entrypointSet {
		return nil
	}
	var list []string
	if strings.HasPrefix(f.entrypoint, "[") && json.Unmarshal([]byte(f.entrypoint), &list) == nil {
		return &list
	}
	return &[]string{f.entrypoint}
}

// proxyVariables are what --http-proxy passes on.
var proxyVariables = []string{
	"http_proxy", "https_proxy", "ftp_proxy", "no_proxy", "all_proxy",
	"HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY",
}

// environment is the container's: from the lowest precedence to the highest this
// command's, the proxies, the image's, the files' and the flags'.
func (f *processFlags) environment(image []string, lookupEnv func(string) (string, bool), environ []string) ([]string, error) {
	var env []string
	if f.envHost {
		env = slices.Clone(environ)
	}
	if f.httpProxy {
		for _, name := range proxyVariables {
			if value, found := lookupEnv(name); found {
				env = setEnv(env, name+"="+value)
			}
		}
	}
	if !f.unsetEnvAll {
		for _, entry := range image {
			env = setEnv(env, entry)
		}
	}
	for _, name := range f.unsetEnv {
		env = unsetEnv(env, name)
	}
	return environment(env, f.envFiles, f.env, lookupEnv)
}

// finish puts what was asked for over what the image says.
func (f *processFlags) finish(o *run.ContainerOptions, image dockerspec.DockerOCIImage, command []string) error {
	c, from := &o.Config, run.FromImage(image)
	o.Entrypoint, o.Cmd = run.MergeCommand(image.Config, f.entrypointGiven(), command)
	c.Args = slices.Concat(o.Entrypoint, o.Cmd)
	if len(c.Args) == 0 {
		return withHint(errors.New("no command specified"), "The image names none: give one after the image.")
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
	return nil
}
