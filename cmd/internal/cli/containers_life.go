package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"cooper/run"
)

const startExample = `
  @ web db
  @ -ai shell                                      And work in it
  @ --all --filter should-start-on-boot=true       After a boot`

// newStart makes the start command.
func newStart(e *Env) *cobra.Command {
	var attach, interactive bool
	var detachKeys string
	var sdnotify notifyFlag
	sel := selection{wanted: func(st *run.State) bool { return !st.Alive() }}
	sigProxy := true
	cmd := &cobra.Command{
		Use:                   "start [OPTIONS] CONTAINER [CONTAINER...]",
		Short:                 "Start stopped containers",
		Long:                  "Start containers that were created or have ended, in the background. With -a the\nexit status is the container's.",
		Example:               startExample,
		DisableFlagsInUseLine: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := sel.check(cmd, args); err != nil {
				return err
			}
			if !attach && !interactive {
				one := func(c *run.Container) error {
					err := sdnotify.start(cmd.Context(), e, c)
					if err != nil && !errors.Is(err, run.ErrRunning) {
						return err
					}
					return sdnotify.tell(cmd.Context(), e, c)
				}
				if sel.given() {
					return e.eachRunning(cmd, args, sel, one)
				}
				return e.eachContainer(cmd.Context(), args, false, one)
			}
			if sel.given() {
				return errors.New("--attach and --interactive are for one container by its name")
			}
			if len(args) > 1 {
				return errors.New("you cannot start and attach multiple containers at once")
			}
			return e.startAttached(cmd.Context(), args[0], interactive, detachKeys, sigProxy)
		},
	}
	fs := cmd.Flags()
	fs.BoolVarP(&attach, "attach", "a", false, "Connect with its output, and forward signals")
	fs.BoolVarP(&interactive, "interactive", "i", false, "Connect standard input too")
	sdnotify.declare(fs)
	fs.StringVar(&detachKeys, "detach-keys", "", "Detach by the keys `SEQUENCE` (default ctrl-p,ctrl-q)")
	fs.BoolVar(&sigProxy, "sig-proxy", true, "Pass on signals to the container")
	fs.BoolVar(&sel.all, "all", false, "Start all that don't run")
	sel.declare(fs, "f")
	e.commonFlags(cmd)
	return cmd
}

// startAttached starts one container and stays with it.
func (e *Env) startAttached(ctx context.Context, name string, interactive bool, detachKeys string, sigProxy bool) error {
	c, err := e.findContainer(ctx, name)
	if err != nil {
		return err
	}
	keys, err := run.ParseDetachKeys(cmp.Or(detachKeys, run.DefaultDetachKeys))
	if err != nil {
		return err
	}
	o := c.Options()
	ctx, streams, stop := e.streams(ctx, interactive && o.OpenStdin, o.Config.Terminal, sigProxy)
	defer stop()
	streams.DetachKeys = keys
	status, err := c.Run(ctx, streams)
	if errors.Is(err, run.ErrRunning) {
		status, err = c.Attach(ctx, streams)
	}
	return e.attachedEnd(ctx, c, status, err)
}

// attachedEnd is the error for the end of an attached container.
func (e *Env) attachedEnd(ctx context.Context, c *run.Container, status run.Status, err error) error {
	if errors.Is(err, run.ErrDetached) {
		fmt.Fprintln(e.Stderr, "read escape sequence")
		return nil
	}
	if c.Options().AutoRemove && !stillRuns(c) {
		err = errors.Join(err, ignoreGone(c.Remove(context.WithoutCancel(ctx), run.RemoveOptions{Volumes: true})))
	}
	if err != nil {
		return startError(err)
	}
	return e.containerStatus(status)
}

// findContainer finds one container.
func (e *Env) findContainer(ctx context.Context, name string) (*run.Container, error) {
	cs, err := e.containers(ctx)
	if err != nil {
		return nil, err
	}
	return cs.Find(name)
}

// newAttach makes the attach command.
func newAttach(e *Env) *cobra.Command {
	var noStdin bool
	var detachKeys string
	sigProxy := true
	cmd := &cobra.Command{
		Use:                   "attach [OPTIONS] CONTAINER",
		Short:                 "Connect this terminal with a running container",
		Long:                  "Connect standard input and output with those of a running container. Its exit\nstatus is the command's. Ctrl-P Ctrl-Q leaves a container that has a terminal.",
		DisableFlagsInUseLine: true,
		Args:                  exactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := e.findContainer(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			keys, err := run.ParseDetachKeys(cmp.Or(detachKeys, run.DefaultDetachKeys))
			if err != nil {
				return err
			}
			o := c.Options()
			ctx, streams, stop := e.streams(cmd.Context(), !noStdin && o.OpenStdin, o.Config.Terminal, sigProxy)
			defer stop()
			streams.DetachKeys = keys
			status, err := c.Attach(ctx, streams)
			if errors.Is(err, run.ErrNotRunning) {
				return fmt.Errorf("you cannot attach to a stopped container, start it first: %w", err)
			}
			return e.attachedEnd(ctx, c, status, err)
		},
	}
	fs := cmd.Flags()
	fs.BoolVar(&noStdin, "no-stdin", false, "Leave standard input alone")
	fs.StringVar(&detachKeys, "detach-keys", "", "Detach by the keys `SEQUENCE` (default ctrl-p,ctrl-q)")
	fs.BoolVar(&sigProxy, "sig-proxy", true, "Pass on signals to the container")
	e.commonFlags(cmd)
	return cmd
}

// stopFlags are those of stop and restart.
type stopFlags struct {
	seconds int
	signal  string
}

func (f *stopFlags) declare(cmd *cobra.Command) {
	cmd.Flags().IntVarP(&f.seconds, "time", "t", 0, "Kill it after `SECONDS`, -1 is never (default as it was created, 10)")
	cmd.Flags().StringVarP(&f.signal, "signal", "s", "", "Ask it to end by `SIGNAL` (default as it was created, SIGTERM)")
	cmd.Flags().IntVar(&f.seconds, "timeout", 0, "The same as --time")
	cmd.Flags().Lookup("timeout").Hidden = true
}

func (f *stopFlags) options(cmd *cobra.Command) (o run.StopOptions, err error) {
	if cmd.Flags().Changed("time") || cmd.Flags().Changed("timeout") {
		grace := time.Duration(f.seconds) * time.Second
		o.Grace = &grace
	}
	o.Signal, err = run.ParseSignal(f.signal)
	return o, err
}

// newStop makes the stop command.
func newStop(e *Env) *cobra.Command {
	var f stopFlags
	var sel selection
	cmd := &cobra.Command{
		Use:                   "stop [OPTIONS] CONTAINER [CONTAINER...]",
		Short:                 "Stop running containers",
		Long:                  "Ask containers to end, and kill those that have not ended after a while.",
		DisableFlagsInUseLine: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			o, err := f.options(cmd)
			if err != nil {
				return err
			}
			return e.eachRunning(cmd, args, sel, func(c *run.Container) error { return c.Stop(cmd.Context(), o) })
		},
	}
	f.declare(cmd)
	cmd.Flags().BoolVarP(&sel.all, "all", "a", false, "Stop all that run")
	cmd.Flags().BoolVarP(&sel.ignore, "ignore", "i", false, "No error if there is none")
	sel.declare(cmd.Flags(), "f")
	e.commonFlags(cmd)
	return cmd
}

// newRestart makes the restart command.
func newRestart(e *Env) *cobra.Command {
	var f stopFlags
	var sel selection
	cmd := &cobra.Command{
		Use:                   "restart [OPTIONS] CONTAINER [CONTAINER...]",
		Short:                 "Stop containers and start them again",
		DisableFlagsInUseLine: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			o, err := f.options(cmd)
			if err != nil {
				return err
			}
			return e.eachRunning(cmd, args, sel, func(c *run.Container) error { return c.Restart(cmd.Context(), o) })
		},
	}
	f.declare(cmd)
	cmd.Flags().BoolVarP(&sel.all, "all", "a", false, "Restart all that run")
	sel.declare(cmd.Flags(), "f")
	e.commonFlags(cmd)
	return cmd
}

// newKill makes the kill command.
func newKill(e *Env) *cobra.Command {
	signal := "KILL"
	var sel selection
	cmd := &cobra.Command{
		Use:                   "kill [OPTIONS] CONTAINER [CONTAINER...]",
		Short:                 "Send a signal to running containers",
		DisableFlagsInUseLine: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := run.ParseSignal(signal)
			if err != nil {
				return err
			}
			return e.eachRunning(cmd, args, sel, func(c *run.Container) error { return kill(cmd.Context(), c, s) })
		},
	}
	cmd.Flags().StringVarP(&signal, "signal", "s", "KILL", "Send `SIGNAL`")
	cmd.Flags().BoolVarP(&sel.all, "all", "a", false, "Send it to all that run")
	sel.declare(cmd.Flags(), "")
	e.commonFlags(cmd)
	return cmd
}

// kill sends a signal. After SIGKILL the container has ended.
func kill(ctx context.Context, c *run.Container, s syscall.Signal) error {
	var err error
	if s == syscall.SIGKILL {
		err = c.Kill(ctx)
	} else {
		err = c.Signal(ctx, s)
	}
	if err != nil {
		return fmt.Errorf("cannot kill container: %w", err)
	}
	return nil
}

// inState wants containers of one status.
func inState(status string) func(*run.State) bool {
	return func(st *run.State) bool { return st.Status == status }
}

// newPause makes the pause command.
func newPause(e *Env) *cobra.Command {
	sel := selection{wanted: inState(run.StatusRunning)}
	cmd := &cobra.Command{
		Use:   "pause CONTAINER [CONTAINER...]",
		Short: "Stop all processes of containers for a while",
		Long: `Stop all processes of containers until unpause. They do not notice, except where
containers have no cgroups (ordinary users on cgroup version 1): there it is done
by SIGSTOP and SIGCONT.`,
		DisableFlagsInUseLine: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			return e.eachRunning(cmd, args, sel, func(c *run.Container) error { return c.Pause(cmd.Context()) })
		},
	}
	cmd.Flags().BoolVarP(&sel.all, "all", "a", false, "Pause all that run")
	sel.declare(cmd.Flags(), "f")
	e.commonFlags(cmd)
	return cmd
}

// newUnpause makes the unpause command.
func newUnpause(e *Env) *cobra.Command {
	sel := selection{wanted: inState(run.StatusPaused)}
	cmd := &cobra.Command{
		Use:                   "unpause CONTAINER [CONTAINER...]",
		Short:                 "Let the processes of paused containers go on",
		DisableFlagsInUseLine: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			return e.eachRunning(cmd, args, sel, func(c *run.Container) error { return c.Resume(cmd.Context()) })
		},
	}
	cmd.Flags().BoolVarP(&sel.all, "all", "a", false, "All that are paused")
	sel.declare(cmd.Flags(), "f")
	e.commonFlags(cmd)
	return cmd
}

// newWait makes the wait command.
func newWait(e *Env) *cobra.Command {
	var conditions []string
	var ignore bool
	cmd := &cobra.Command{
		Use:                   "wait [OPTIONS] CONTAINER [CONTAINER...]",
		Short:                 "Wait until containers end, or are healthy, and print their exit codes",
		Example:               "\n  @ job\n  @ --condition healthy web",
		DisableFlagsInUseLine: true,
		Args:                  minArgs(1, statusError),
		RunE: func(cmd *cobra.Command, args []string) error {
			return e.wait(cmd.Context(), args, conditions, ignore)
		},
	}
	cmd.Flags().StringSliceVar(&conditions, "condition", []string{run.WaitNotRunning}, "Wait for `CONDITION` not-running, next-exit, removed, healthy, unhealthy or a state (repeatable: any of them)")
	cmd.Flags().BoolVarP(&ignore, "ignore", "i", false, "Print -1 for containers that don't exist")
	e.commonFlags(cmd)
	return cmd
}

func (e *Env) wait(ctx context.Context, names, conditions []string, ignore bool) error {
	ctx, stop := interruptible(ctx)
	defer stop()
	cs, err := e.containers(ctx)
	if err != nil {
		return err
	}
	var errs []error
	for _, name := range names {
		c, err := cs.Find(name)
		code := -1
		switch {
		case err == nil:
			code, err = waitAny(ctx, c, conditions)
		case ignore && errors.Is(err, run.ErrNoContainer):
			err = nil
		}
		if err == nil {
			_, err = fmt.Fprintln(e.Stdout, code)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// waitAny waits for the first of several conditions.
func waitAny(ctx context.Context, c *run.Container, conditions []string) (int, error) {
	if len(conditions) == 1 {
		return c.Wait(ctx, strings.ToLower(conditions[0]))
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type result struct {
		code int
		err  error
	}
	results := make(chan result, len(conditions))
	for _, condition := range conditions {
		go func() {
			code, err := c.Wait(ctx, strings.ToLower(condition))
			results <- result{code, err}
		}()
	}
	var errs []error
	for range conditions {
		r := <-results
		if r.err == nil {
			return r.code, nil
		}
		errs = append(errs, r.err)
	}
	return -1, errors.Join(errs...)
}
