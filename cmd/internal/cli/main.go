package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime/debug"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"cooper/dockerfile"
)

// Constructor makes a command that works on e.
type Constructor func(e *Env) *cobra.Command

// Main runs a command with this process's arguments and exits with its status.
func Main(c Constructor) {
	if os.Getenv("GOGC") == "" {
		// Commands end soon and need little memory: collecting it less
		// often makes short ones a tenth faster.
		debug.SetGCPercent(400)
	}
	args := os.Args[1:]
	if len(args) > 0 && args[0] == removerName {
		c, args = newRemover, args[1:]
	}
	os.Exit(Execute(context.Background(), NewEnv(), c, args))
}

// Execute runs a command, prints its error and returns its exit status.
func Execute(ctx context.Context, e *Env, c Constructor, args []string) int {
	e.args = args
	root := c(e)
	e.commandLine = append([]string{root.Name()}, args...)
	root.SetArgs(args)
	root.SetIn(e.Stdin)
	root.SetOut(e.Stdout)
	root.SetErr(e.Stderr)
	root.Version = Version()
	root.InitDefaultHelpFlag()
	root.InitDefaultVersionFlag()
	for _, name := range []string{"help", "version"} {
		root.Flags().Lookup(name).Hidden = true
	}
	root.SilenceErrors, root.SilenceUsage = true, true
	root.CompletionOptions.HiddenDefaultCmd = true
	root.SetHelpFunc(help)
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return &usageError{cmd: cmd, err: suggestFlag(cmd, err)}
	})
	cmd, err := root.ExecuteContextC(ctx)
	if closeErr := e.Close(); err == nil {
		err = closeErr
	}
	return report(e, cmd, err)
}

// suggestFlag adds to the error for a flag that cmd has not which one may have
// been meant.
func suggestFlag(cmd *cobra.Command, err error) error {
	var unknown *pflag.NotExistError
	if !errors.As(err, &unknown) || unknown.GetSpecifiedShortnames() != "" {
		return err
	}
	var names []string
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if !f.Hidden {
			names = append(names, f.Name)
		}
	})
	near, ok := dockerfile.Nearest(unknown.GetSpecifiedName(), names)
	if !ok {
		return err
	}
	return fmt.Errorf("%w (did you mean --%s?)", err, near)
}
