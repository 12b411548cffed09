package cli

import (
	"errors"

	"github.com/spf13/cobra"

	"cooper/run"
)

// execFlags are the flags of exec.
type execFlags struct {
	interactive, terminal, detach, privileged bool
	env, envFiles                             []string
	workdir, user                             string
}

// newExec makes the exec command.
func newExec(e *Env) *cobra.Command {
	var f execFlags
	cmd := &cobra.Command{
		Use:   "exec [OPTIONS] CONTAINER COMMAND [ARG...]",
		Short: "Run a further command in a running container",
		Long: `Run a further command in a running container. The exit status is the command's;
126 means that it can't be executed, 127 that it was not found.`,
		Example:               "\n  @ -it web sh\n  @ -u postgres db psql -c 'select 1'",
		DisableFlagsInUseLine: true,
		Args:                  minArgs(2, statusError),
		RunE: func(cmd *cobra.Command, args []string) error {
			err := startError(e.exec(cmd, &f, args[0], args[1:]))
			if errors.Is(err, run.ErrNoContainer) || errors.Is(err, run.ErrNotRunning) {
				return &exitStatus{status: statusError, err: errors.Unwrap(err)}
			}
			return err
		},
	}
	fs := cmd.Flags()
	fs.BoolVarP(&f.interactive, "interactive", "i", false, "Connect standard input")
	fs.BoolVarP(&f.terminal, "tty", "t", false, "Give the command a terminal")
	fs.BoolVarP(&f.detach, "detach", "d", false, "Leave the command to itself")
	fs.StringArrayVarP(&f.env, "env", "e", nil, "Set an environment variable: `NAME[=VALUE]` (repeatable)")
	fs.StringArrayVar(&f.envFiles, "env-file", nil, "Read environment variables from `FILE` (repeatable)")
	fs.StringVarP(&f.workdir, "workdir", "w", "", "Start in the directory `DIR`")
	fs.StringVarP(&f.user, "user", "u", "", "Run as `USER[:GROUP]`, names or ids")
	fs.BoolVar(&f.privileged, "privileged", false, "Give the command every right this user has")
	fs.String("detach-keys", "", "For docker's sake: an exec has nothing to come back to")
	fs.Lookup("detach-keys").Hidden = true
	fs.SetInterspersed(false)
	e.commonFlags(cmd)
	return cmd
}

func (e *Env) exec(cmd *cobra.Command, f *execFlags, name string, command []string) error {
	if f.terminal && f.interactive && !f.detach && !terminal(e.Stdin) {
		return withHint(&exitStatus{status: statusError, err: errors.New("the input device is not a TTY")},
			"Leave out -t, or give it a terminal as standard input.")
	}
	env, err := environment(nil, f.envFiles, f.env, e.LookupEnv)
	if err != nil {
		return err
	}
	c, err := e.findContainer(cmd.Context(), name)
	if err != nil {
		return err
	}
	o := run.ExecOptions{Args: command, Env: env, Dir: f.workdir, User: f.user, Privileged: f.privileged, Terminal: f.terminal}
	if f.detach {
		return c.ExecDetached(cmd.Context(), o)
	}
	ctx, streams, stop := e.streams(cmd.Context(), f.interactive, f.terminal, true)
	defer stop()
	status, err := c.Exec(ctx, o, streams)
	if err != nil {
		return err
	}
	if status.ExitCode != 0 {
		return &exitStatus{status: status.ExitCode}
	}
	return nil
}
