package dockerfile

import (
	"fmt"
	"path"
	"strconv"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
	"github.com/moby/buildkit/frontend/dockerfile/shell"
)

func (d *dispatcher) run(c *instructions.RunCommand) error {
	op := &Run{
		Env:      d.stage.env.list(),
		ProxyEnv: d.proxy,
		User:     d.config.Config.User,
		Dir:      joinDir("/", d.config.Config.WorkingDir),
		Shell:    shellOf(&d.config),
		Network:  instructions.GetNetwork(c),
		Security: instructions.GetSecurity(c),
		Hostname: d.buildArgs["BUILDKIT_SANDBOX_HOSTNAME"],
	}
	if op.Network == instructions.NetworkDefault && d.o.Network != "" {
		op.Network = d.o.Network
	}
	for _, device := range instructions.GetDevices(c) {
		op.Devices = append(op.Devices, Device{Name: device.Name, Required: device.Required})
	}
	summary, err := d.runArgs(op, c)
	if err != nil {
		return err
	}
	if err := d.mounts(op, c); err != nil {
		return err
	}
	created := "RUN " + d.argString() + strings.Join(op.Args, " ") + " # buildkit"
	text := d.text(d.source()+summary, rawLex(d.lex), maskSecrets(d.stage.env, op.Mounts))
	return d.step(op, created, text, true)
}

// runArgs sets the command of op and returns what is to be added to its text
// for a heredoc.
func (d *dispatcher) runArgs(op *Run, c *instructions.RunCommand) (summary string, err error) {
	args := c.CmdLine
	if len(c.Files) > 0 {
		if len(args) != 1 || !c.PrependShell {
			return "", fmt.Errorf("parsing produced an invalid run command: %v", args)
		}
		if parser.MustParseHeredoc(args[0]) == nil {
			// The shell has to read these heredocs itself.
			var b strings.Builder
			b.WriteString(args[0])
			for _, f := range c.Files {
				b.WriteString("\n" + f.Data + f.Name)
			}
			args = []string{b.String()}
		} else {
			summary = " (" + summarize(c.Files[0].Data) + ")"
			script := c.Files[0].Data
			if c.Files[0].Chomp {
				script = parser.ChompHeredocContent(script)
			}
			if d.config.OS != "windows" && strings.HasPrefix(script, "#!") {
				name := c.Files[0].Name
				op.Files = []InlineFile{{Name: name, Data: []byte(script), Mode: 0o755}}
				args = []string{path.Join("/dev/pipes", name)}
			} else {
				args = []string{script}
			}
		}
	}
	if c.PrependShell {
		args = withShell(&d.config, args)
	}
	op.Args = args
	return summary, nil
}

// summarize returns the first line of a heredoc.
func summarize(data string) string {
	first, rest, _ := strings.Cut(strings.ReplaceAll(strings.TrimSpace(data), "\r\n", "\n"), "\n")
	if rest != "" {
		first += "..."
	}
	return first
}

// argString returns what the history says about build arguments: "|1 A=b ".
func (d *dispatcher) argString() string {
	var list []string
	at := map[string]int{}
	for _, arg := range d.args {
		v, ok := d.stage.env.Get(arg.Key)
		if !ok {
			v = arg.ValueString()
		}
		kv := arg.Key + "=" + v
		if i, ok := at[arg.Key]; ok {
			list[i] = kv
			continue
		}
		at[arg.Key] = len(list)
		list = append(list, kv)
	}
	if len(list) == 0 {
		return ""
	}
	return "|" + strconv.Itoa(len(list)) + " " + strings.Join(list, " ") + " "
}

// maskSecrets shows the variables that get their value from a secret.
func maskSecrets(e shell.EnvGetter, mounts []Mount) shell.EnvGetter {
	masked := map[string]string{}
	for _, m := range mounts {
		if m.Type == MountSecret && m.Env != nil {
			masked[*m.Env] = "****"
		}
	}
	if len(masked) == 0 {
		return e
	}
	return overlay{e, masked}
}
