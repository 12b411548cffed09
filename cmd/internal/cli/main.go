package cli

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

// Constructor makes a command that works on e.
type Constructor func(e *Env) *cobra.Command

// Main runs a command with this process's arguments and exits with its status.
func Main(c Constructor) {
	os.Exit(Execute(context.Background(), NewEnv(), c, os.Args[1:]))
}

// Execute runs a command, prints its error and returns its exit status.
func Execute(ctx context.Context, e *Env, c Constructor, args []string) int {
	root := c(e)
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
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error { return &usageError{cmd: cmd, err: err} })
	cmd, err := root.ExecuteContextC(ctx)
	if closeErr := e.Close(); err == nil {
		err = closeErr
	}
	return report(e, cmd, err)
}

// interruption is the cause of a context that a signal ended.
type interruption struct{ signal syscall.Signal }

func (i interruption) Error() string {
	if i.signal == syscall.SIGINT {
		return "interrupted"
	}
	return fmt.Sprintf("ended by %s", i.signal)
}

// interruptible returns a context that the first SIGINT, SIGTERM or SIGHUP ends;
// the second ends the process at once. Containers and mounts do not outlive it.
func interruptible(parent context.Context) (ctx context.Context, stop func()) {
	ctx, cancel := context.WithCancelCause(parent)
	ch := make(chan os.Signal, 2)
	signal.Notify(ch, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	done := make(chan struct{})
	go func() {
		for n := 1; ; n++ {
			select {
			case <-done:
				return
			case sig := <-ch:
				i := interruption{sig.(syscall.Signal)}
				if n > 1 {
					os.Exit(128 + int(i.signal))
				}
				cancel(i)
			}
		}
	}()
	return ctx, func() {
		signal.Stop(ch)
		close(done)
		cancel(nil)
	}
}
