package dockerfile

import (
	"errors"
	"fmt"
	"path"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/linter"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/moby/sys/signal"
)

// configure plans the instructions that change nothing but the image config.
func (d *dispatcher) configure(c instructions.Command) error {
	config := &d.config.Config
	switch c := c.(type) {
	case *instructions.EnvCommand:
		return d.setEnv(c)
	case *instructions.LabelCommand:
		return d.label(c)
	case *instructions.ExposeCommand:
		return d.expose(c)
	case *instructions.VolumeCommand:
		return d.volume(c)
	case *instructions.HealthCheckCommand:
		return d.healthcheck(c)
	case *instructions.CmdCommand:
		d.stage.cmd.mark(c, d.lint)
		config.Cmd = d.commandLine(c.Name(), c.ShellDependantCmdLine)
		//lint:ignore SA1019 BuildKit sets it in all images
		config.ArgsEscaped = true
		return d.metadata(fmt.Sprintf("CMD %q", config.Cmd))
	case *instructions.EntrypointCommand:
		d.entrypoint.mark(c, d.lint)
		config.Entrypoint = d.commandLine(c.Name(), c.ShellDependantCmdLine)
		if !d.stage.cmd.set {
			config.Cmd = nil // the base's command was meant for the base's entrypoint
		}
		return d.metadata(fmt.Sprintf("ENTRYPOINT %q", config.Entrypoint))
	case *instructions.UserCommand:
		config.User = c.User
		return d.metadata("USER " + c.User)
	case *instructions.StopSignalCommand:
		if _, err := signal.ParseSignal(c.Signal); err != nil {
			return err
		}
		config.StopSignal = c.Signal
		return d.metadata("STOPSIGNAL " + c.Signal)
	case *instructions.ShellCommand:
		config.Shell = c.Shell
		return d.metadata(fmt.Sprintf("SHELL %v", c.Shell))
	case *instructions.MaintainerCommand:
		d.config.Author = c.Maintainer
		return d.metadata("MAINTAINER " + c.Maintainer)
	case *instructions.OnbuildCommand:
		config.OnBuild = append(config.OnBuild, c.Expression)
		return d.metadata("")
	default:
		return fmt.Errorf("unknown instruction: %s", c.Name())
	}
}

// commandLine returns the arguments of CMD and ENTRYPOINT.
func (d *dispatcher) commandLine(name string, line instructions.ShellDependantCmdLine) []string {
	if !line.PrependShell {
		return line.CmdLine
	}
	if len(d.config.Config.Shell) == 0 {
		d.lint.Run(&linter.RuleJSONArgsRecommended, d.cmd.Location(), linter.RuleJSONArgsRecommended.Format(name))
	}
	return withShell(&d.config, line.CmdLine)
}

func (d *dispatcher) setEnv(c *instructions.EnvCommand) error {
	created := "ENV"
	for _, kv := range c.Env {
		d.lintLegacy(c, kv)
		lintSecret("ENV", kv.Key, c.Location(), d.lint)
		created += " " + kv.String()
		d.stage.env.set(kv.Key, kv.Value)
		d.config.Config.Env = setConfigEnv(d.config.Config.Env, kv.Key, kv.Value)
	}
	return d.metadata(created)
}

func (d *dispatcher) label(c *instructions.LabelCommand) error {
	config := &d.config.Config
	if config.Labels == nil {
		config.Labels = map[string]string{}
	}
	created := "LABEL"
	for _, kv := range c.Labels {
		d.lintLegacy(c, kv)
		config.Labels[kv.Key] = kv.Value
		created += " " + kv.String()
	}
	return d.metadata(created)
}

func (d *dispatcher) lintLegacy(c instructions.Command, kv instructions.KeyValuePair) {
	if kv.NoDelim {
		d.lint.Run(&linter.RuleLegacyKeyValueFormat, c.Location(), linter.RuleLegacyKeyValueFormat.Format(c.Name()))
	}
}

func (d *dispatcher) volume(c *instructions.VolumeCommand) error {
	config := &d.config.Config
	if config.Volumes == nil {
		config.Volumes = map[string]struct{}{}
	}
	for _, v := range c.Volumes {
		if v == "" {
			return errors.New("VOLUME specified can not be an empty string")
		}
		config.Volumes[v] = struct{}{}
	}
	return d.metadata(fmt.Sprintf("VOLUME %v", c.Volumes))
}

func (d *dispatcher) healthcheck(c *instructions.HealthCheckCommand) error {
	d.health.mark(c, d.lint)
	health := dockerspec.HealthcheckConfig{
		Test:          c.Health.Test,
		Interval:      c.Health.Interval,
		Timeout:       c.Health.Timeout,
		StartPeriod:   c.Health.StartPeriod,
		StartInterval: c.Health.StartInterval,
		Retries:       c.Health.Retries,
	}
	d.config.Config.Healthcheck = &health
	return d.metadata(fmt.Sprintf("HEALTHCHECK %+v", health))
}

// arg declares build arguments. A value comes from the build's options, from
// the default, or from a global argument of the same name, in this order.
func (d *dispatcher) arg(c *instructions.ArgCommand) error {
	created := "ARG"
	for _, arg := range c.Args {
		lintSecret("ARG", arg.Key, c.Location(), d.lint)
		inherited := false
		if v, ok := d.buildArgs[arg.Key]; ok {
			arg.Value = &v
		} else if arg.Value != nil {
			result, err := expand(d.lex, *arg.Value, d.stage.env)
			d.lintUndefined(result.Unmatched)
			if err != nil {
				return err
			}
			arg.Value = &result.Result
		} else if v, ok := d.globals.Get(arg.Key); ok {
			arg.Value, inherited = &v, true
		}
		d.declare(arg, d.cmd.loc, inherited)
		created += " " + arg.Key
		if arg.Value != nil {
			created += "=" + *arg.Value
			// These two steer BuildKit's scanner and are no variables.
			if arg.Key != "BUILDKIT_SBOM_SCAN_CONTEXT" && arg.Key != "BUILDKIT_SBOM_SCAN_STAGE" {
				d.stage.env.set(arg.Key, *arg.Value)
			}
		}
		d.args = append(d.args, arg)
	}
	return d.metadata(created)
}

func (d *dispatcher) workdir(c *instructions.WorkdirCommand) error {
	if !d.workdirSet && !path.IsAbs(c.Path) {
		d.lint.Run(&linter.RuleWorkdirRelativePath, c.Location(), linter.RuleWorkdirRelativePath.Format(c.Path))
	}
	d.workdirSet = true
	config := &d.config.Config
	config.WorkingDir = joinDir(config.WorkingDir, c.Path)
	created := "WORKDIR " + config.WorkingDir
	text := d.text(d.source(), d.lex, d.stage.env)
	clean := path.Clean(config.WorkingDir)
	if clean == "/" {
		return d.step(&Metadata{}, created, text, config.WorkingDir != "/")
	}
	return d.step(&Workdir{Path: clean, User: config.User}, created, text, true)
}

// joinDir resolves a working directory. Like BuildKit, it leaves an absolute
// path as it is written.
func joinDir(current, dir string) string {
	if !path.IsAbs(current) {
		current = path.Join("/", current)
	}
	switch {
	case dir == "":
		return current
	case path.IsAbs(dir):
		return dir
	default:
		return path.Join(current, dir)
	}
}

// joinFile resolves a destination. It is clean, and ends with a slash when it
// is written as a directory.
func joinFile(current, file string) string {
	joined := path.Join("/", file)
	if !path.IsAbs(file) {
		joined = path.Join("/", current, file)
	}
	isDir := file == "" || file == "." || strings.HasSuffix(file, "/") || strings.HasSuffix(file, "/.")
	if isDir && joined != "/" {
		joined += "/"
	}
	return joined
}
