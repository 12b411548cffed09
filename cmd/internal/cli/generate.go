package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"cooper/cmd/internal/quadlet"
	"cooper/run"
)

// newGenerate makes the generate command, which podman has.
func newGenerate(e *Env) *cobra.Command {
	cmd := newCommandGroup("generate", "Make systemd units for containers")
	cmd.AddCommand(newGenerateSystemd(e))
	return cmd
}

const generateExample = `
  @ web > ~/.config/systemd/user/web.service     Start and stop the container web
  @ --new --name --files web                     Make it anew at every start, in container-web.service
  @ --name --after db.service --requires db.service web`

// systemdFlags are the flags of generate systemd.
type systemdFlags struct {
	byName, files, anew, noHeader bool
	format                        string
	restartPolicy                 string
	restartSec                    uint
	restartSecSet                 bool
	startTimeout                  uint
	stopTimeout                   uint
	stopTimeoutSet                bool
	after, requires, wants        []string
	env                           []string
	prefix, separator             string
}

// newGenerateSystemd makes the generate systemd command.
func newGenerateSystemd(e *Env) *cobra.Command {
	var f systemdFlags
	cmd := &cobra.Command{
		Use:   "systemd [OPTIONS] CONTAINER",
		Short: "Make a systemd unit for a container",
		Long: `Make a systemd unit that starts and stops a container, and print it. The unit is
of type notify: systemd watches the container's monitor, which ends as the
container does. With --new the unit does not need this container: it makes one
by the same command at every start and removes it in the end. Paths in that
command should be absolute.

Quadlet files are the better way to describe services, see 'cooper quadlet'.`,
		Example:               generateExample,
		DisableFlagsInUseLine: true,
		Args:                  exactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			f.restartSecSet, f.stopTimeoutSet = cmd.Flags().Changed("restart-sec"), cmd.Flags().Changed("stop-timeout")
			if err := f.check(); err != nil {
				return err
			}
			return e.generateSystemd(cmd, &f, args[0])
		},
	}
	f.declare(cmd.Flags())
	e.commonFlags(cmd)
	return cmd
}

func (f *systemdFlags) declare(fs *pflag.FlagSet) {
	fs.SortFlags = false
	fs.SetNormalizeFunc(func(_ *pflag.FlagSet, name string) pflag.NormalizedName {
		if name == "time" {
			name = "stop-timeout"
		}
		return pflag.NormalizedName(name)
	})
	fs.BoolVarP(&f.byName, "name", "n", false, "Call the container by its name instead of its id")
	fs.BoolVar(&f.anew, "new", false, "Make a new container at every start")
	fs.BoolVarP(&f.files, "files", "f", false, "Write the unit into this directory and print its path")
	fs.StringVar(&f.format, "format", "", "Print `FORMAT` json: the unit by its name")
	fs.BoolVar(&f.noHeader, "no-header", false, "Leave out the comment at the top, which has a time")
	fs.StringVar(&f.restartPolicy, "restart-policy", "on-failure", "Let systemd start it again: `POLICY` no, on-success, on-failure, on-abnormal, on-watchdog, on-abort, always")
	fs.UintVar(&f.restartSec, "restart-sec", 0, "Wait `SECONDS` before that")
	fs.UintVar(&f.startTimeout, "start-timeout", 0, "Fail when it has not started after `SECONDS` (default systemd's)")
	fs.UintVarP(&f.stopTimeout, "stop-timeout", "t", 10, "Kill it when it has not stopped after `SECONDS` (default the container's)")
	fs.StringArrayVar(&f.after, "after", nil, "Start after `UNIT` (repeatable)")
	fs.StringArrayVar(&f.requires, "requires", nil, "Start only with `UNIT` (repeatable)")
	fs.StringArrayVar(&f.wants, "wants", nil, "Start `UNIT` as well (repeatable)")
	fs.StringArrayVarP(&f.env, "env", "e", nil, "Set a variable for the unit's commands: `NAME[=VALUE]`, NAME* for all that begin so (repeatable)")
	fs.StringVar(&f.prefix, "container-prefix", "container", "Begin the unit's name with `PREFIX`")
	fs.StringVar(&f.separator, "separator", "-", "Put `TEXT` between prefix and name")
}

// restartPolicies are systemd's.
var restartPolicies = []string{"no", "on-success", "on-failure", "on-abnormal", "on-watchdog", "on-abort", "always"}

func (f *systemdFlags) check() error {
	if !slices.Contains(restartPolicies, f.restartPolicy) {
		return fmt.Errorf("invalid --restart-policy %q: want %s", f.restartPolicy, strings.Join(restartPolicies, ", "))
	}
	if f.format != "" && f.format != "json" {
		return fmt.Errorf("invalid --format %q: want json", f.format)
	}
	for _, name := range slices.Concat(f.after, f.requires, f.wants) {
		if name == "" || strings.ContainsAny(name, " \t\n") {
			return fmt.Errorf("invalid unit name %q", name)
		}
	}
	return nil
}

// generateSystemd is the generate systemd command.
func (e *Env) generateSystemd(cmd *cobra.Command, f *systemdFlags, name string) error {
	cs, err := e.containers(cmd.Context())
	if err != nil {
		return err
	}
	c, err := cs.Find(name)
	if err != nil {
		return err
	}
	program, err := os.Executable()
	if err != nil {
		return err
	}
	u := systemdUnit{flags: f, options: c.Options(), program: program, store: storeArgs(cmd.Flags())}
	if u.environment, err = unitEnvironment(f.env, e.LookupEnv, os.Environ()); err != nil {
		return err
	}
	text, err := u.text()
	if err != nil {
		return err
	}
	shown := text
	if f.files {
		path, err := filepath.Abs(u.name() + ".service")
		if err != nil {
			return err
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			return err
		}
		shown = path + "\n"
	}
	if f.format == "json" {
		return printJSON(e.Stdout, map[string]string{u.name(): strings.TrimSuffix(shown, "\n")})
	}
	_, err = fmt.Fprint(e.Stdout, shown)
	return err
}

// storeArgs are the flags by which another command finds the same store.
func storeArgs(fs *pflag.FlagSet) []string {
	var args []string
	fs.Visit(func(f *pflag.Flag) {
		if marked := f.Annotations[sectionKey]; len(marked) > 0 && marked[0] == sectionStore {
			args = append(args, asGiven(f)...)
		}
	})
	return args
}

// unitEnvironment reads --env. A name alone takes its value from the environment
// and is left out where that has none; NAME* takes all that begin with NAME.
func unitEnvironment(flags []string, lookupEnv func(string) (string, bool), environ []string) ([]string, error) {
	var env []string
	for _, entry := range flags {
		name, _, given := strings.Cut(entry, "=")
		prefix, all := strings.CutSuffix(name, "*")
		switch {
		case name == "":
			return nil, fmt.Errorf("invalid variable %q: want NAME[=VALUE]", entry)
		case given:
			env = append(env, entry)
		case all:
			for _, variable := range environ {
				if strings.HasPrefix(variable, prefix) {
					env = append(env, variable)
				}
			}
		default:
			if value, ok := lookupEnv(name); ok {
				env = append(env, name+"="+value)
			}
		}
	}
	return env, nil
}

// systemdUnit is a unit for one container.
type systemdUnit struct {
	flags       *systemdFlags
	options     run.ContainerOptions
	program     string
	store       []string // flags
	environment []string
}

// container is how the unit calls the container.
func (u *systemdUnit) container() string {
	if u.flags.byName {
		return u.options.Name
	}
	return u.options.ID
}

// name is the unit's name without .service.
func (u *systemdUnit) name() string { return u.flags.prefix + u.flags.separator + u.container() }

// command is an entry that runs a command on the store.
func (u *systemdUnit) command(verb string, args ...string) string {
	words := slices.Concat([]string{u.program, verb}, u.store, args)
	for i, word := range words {
		words[i] = quadlet.Literal(word)
	}
	return quadlet.QuoteWords(words...)
}

// text is the unit.
func (u *systemdUnit) text() (string, error) {
	start, err := u.start()
	if err != nil {
		return "", err
	}
	var b strings.Builder
	add := func(key, value string) { fmt.Fprintf(&b, "%s=%s\n", key, value) }
	f := u.flags
	if !f.noHeader {
		fmt.Fprintf(&b, "# %s.service\n# autogenerated by cooper %s\n# %s\n\n", u.name(), Version(), time.Now().Format(time.UnixDate))
	}
	b.WriteString("[Unit]\n")
	add("Description", "Cooper "+noSpecifiers(u.name())+".service")
	add("Wants", "network-online.target")
	add("After", "network-online.target")
	add("RequiresMountsFor", "%t/containers")
	for _, list := range []struct {
		key   string
		units []string
	}{{"Wants", f.wants}, {"Requires", f.requires}, {"After", f.after}} {
		if len(list.units) > 0 {
			add(list.key, strings.Join(list.units, " "))
		}
	}
	b.WriteString("\n[Service]\nType=notify\nNotifyAccess=all\n")
	for _, variable := range u.environment {
		add("Environment", quadlet.QuoteWords(noSpecifiers(variable)))
	}
	add("Restart", f.restartPolicy)
	if f.restartSecSet {
		add("RestartSec", fmt.Sprint(f.restartSec))
	}
	if f.startTimeout > 0 {
		add("TimeoutStartSec", fmt.Sprint(f.startTimeout))
	}
	add("TimeoutStopSec", fmt.Sprint(u.stopSeconds()+stopReserve))
	add("ExecStart", start)
	what := u.container()
	if f.anew {
		what = u.options.Name
	}
	stop := []string{"-t", fmt.Sprint(u.stopSeconds()), what}
	add("ExecStop", "-"+u.command("stop", stop...))
	if f.anew {
		add("ExecStopPost", "-"+u.command("rm", "-f", "-v", what))
	}
	add("KillMode", "mixed")
	add("Delegate", "yes")
	add("SuccessExitStatus", quadlet.EndedBySignal)
	b.WriteString("\n[Install]\nWantedBy=default.target\n")
	return b.String(), nil
}

// noSpecifiers protects a value that is no command line from systemd's specifiers.
func noSpecifiers(value string) string { return strings.ReplaceAll(value, "%", "%%") }

// stopReserve is how many seconds systemd gives stop beyond the container's own
// time, as with podman.
const stopReserve = 60

// stopSeconds is how long stop waits before it kills.
func (u *systemdUnit) stopSeconds() uint {
	if d := u.options.StopTimeout; d != nil && !u.flags.stopTimeoutSet && *d >= 0 {
		return uint(d.Round(time.Second).Seconds())
	}
	return u.flags.stopTimeout
}

// start is what starts the container.
func (u *systemdUnit) start() (string, error) {
	if !u.flags.anew {
		return u.command("start", "--sdnotify=conmon", u.container()), nil
	}
	flags, operands, err := splitRun(u.options.CreateCommand)
	if err != nil {
		return "", fmt.Errorf("container %s: %w", u.options.Name, err)
	}
	flags = append(flags, "--name="+u.options.Name, "--replace", "--sdnotify=conmon", "-d")
	return u.command("run", slices.Concat(flags, operands)...), nil
}

// ownFlags are those that a unit gives itself, or whose work systemd does.
var ownFlags = []string{"cidfile", "detach", "name", "replace", "restart", "sdnotify"}

// splitRun takes the command line of a run or create command apart: its flags but
// ownFlags, and the image and the command in it.
func splitRun(command []string) (flags, operands []string, err error) {
	verb := slices.IndexFunc(command, func(word string) bool { return word == "run" || word == "create" })
	if verb < 0 {
		return nil, nil, withHint(errors.New("it is not known by which command it was made"), "Leave out --new.")
	}
	cmd := NewRun(&Env{LookupEnv: os.LookupEnv})
	if err := cmd.ParseFlags(command[verb+1:]); err != nil {
		return nil, nil, err
	}
	cmd.Flags().Visit(func(f *pflag.Flag) {
		if marked := f.Annotations[sectionKey]; len(marked) > 0 && marked[0] == sectionStore || slices.Contains(ownFlags, f.Name) {
			return
		}
		flags = append(flags, asGiven(f)...)
	})
	return flags, cmd.Flags().Args(), nil
}

// asGiven are arguments that set a flag to what it is.
func asGiven(f *pflag.Flag) []string {
	name := "--" + f.Name
	if list, ok := f.Value.(pflag.SliceValue); ok {
		var args []string
		for _, value := range list.GetSlice() {
			args = append(args, name+"="+value)
		}
		return args
	}
	if f.Value.Type() == "bool" && f.Value.String() == "true" {
		return []string{name}
	}
	return []string{name + "=" + f.Value.String()}
}

// printJSON prints v indented.
func printJSON(w *os.File, v any) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}
