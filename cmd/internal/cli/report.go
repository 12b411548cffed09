package cli

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"cooper/builder"
	"cooper/cmd/internal/progress"
	"cooper/dockerfile"
	"cooper/run"
)

// The exit statuses that are neither 0 nor a container's own.
const (
	statusError = 1
	statusUsage = 125 // as docker's for mistakes on the command line
	statusRun   = 125 // run failed before the container's program started
)

// usageError is a mistake on the command line.
type usageError struct {
	cmd    *cobra.Command
	err    error
	status int // 0 means statusUsage
}

func (u *usageError) Error() string { return u.err.Error() }
func (u *usageError) Unwrap() error { return u.err }

// exitStatus ends the process with a status; err may be nil when all has been
// said.
type exitStatus struct {
	status int
	err    error
}

func (x *exitStatus) Error() string {
	if x.err == nil {
		return fmt.Sprintf("exit status %d", x.status)
	}
	return x.err.Error()
}

func (x *exitStatus) Unwrap() error { return x.err }

// hinted is an error with the next thing to try.
type hinted struct {
	error
	hint string
}

func (h *hinted) Unwrap() error { return h.error }

// withHint adds the next thing to try to err.
func withHint(err error, format string, args ...any) error {
	return &hinted{error: err, hint: fmt.Sprintf(format, args...)}
}

// report prints err, if any, and returns the exit status that it stands for.
func report(e *Env, cmd *cobra.Command, err error) int {
	if err == nil {
		return 0
	}
	var usage *usageError
	var exit *exitStatus
	var interrupted interruption
	switch {
	case errors.As(err, &usage):
		printUsageError(e.Stderr, usage)
		if usage.status != 0 {
			return usage.status
		}
		return statusUsage
	case errors.As(err, &exit):
		if exit.err != nil {
			printErrors(e.Stderr, cmd, err, terminal(e.Stderr))
		}
		return exit.status
	}
	printErrors(e.Stderr, cmd, err, terminal(e.Stderr))
	if errors.As(err, &interrupted) {
		return 128 + int(interrupted.signal)
	}
	return statusError
}

// printUsageError prints the mistake, how the command is called and where to
// read more.
func printUsageError(w io.Writer, u *usageError) {
	fmt.Fprintf(w, "%s: %s\n", u.cmd.CommandPath(), u.err)
	if u.cmd.Runnable() {
		fmt.Fprintf(w, "\nUsage:  %s\n", u.cmd.UseLine())
	}
	fmt.Fprintf(w, "\nRun '%s --help' for more information\n", u.cmd.CommandPath())
}

// printErrors prints err, or each of the errors that were joined to it.
func printErrors(w io.Writer, cmd *cobra.Command, err error, terminal bool) {
	for _, one := range parts(err) {
		printError(w, cmd, one, terminal)
	}
}

// parts takes apart what errors.Join joined.
func parts(err error) []error {
	if exit, ok := err.(*exitStatus); ok {
		return parts(exit.err)
	}
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok || err.Error() != errors.Join(joined.Unwrap()...).Error() {
		return []error{err}
	}
	var list []error
	for _, one := range joined.Unwrap() {
		list = append(list, parts(one)...)
	}
	return list
}

// printError prints err with what helps to mend it: for a mistake in a
// Dockerfile or a failed step the output's last lines and the lines of the
// file, and the next thing to try. terminal says that w is one.
func printError(w io.Writer, cmd *cobra.Command, err error, terminal bool) {
	prefix := cmd.CommandPath() + ": "
	if cmd.Name() == "build" {
		prefix = "ERROR: "
	}
	var step *builder.StepError
	var mistake *dockerfile.Error
	switch {
	case errors.As(err, &step):
		progress.Tail(w, step.Step, step.Tail, terminal)
		io.WriteString(w, step.Excerpt())
	case errors.As(err, &mistake):
		io.WriteString(w, mistake.Excerpt())
		if mistake.Location.IsZero() { // no line is to blame
			prefix += mistake.File + ": "
		}
	}
	fmt.Fprintf(w, "%s%s\n", prefix, strings.TrimRight(err.Error(), "\n"))
	if hint := hintFor(err); hint != "" {
		fmt.Fprintf(w, "%s\n", hint)
	}
}

// hintFor is the next thing to try, "" when nothing better is known than the
// error itself.
func hintFor(err error) string {
	var h *hinted
	if errors.As(err, &h) {
		return h.hint
	}
	var step *builder.StepError
	if errors.As(err, &step) {
		return stepHint(step)
	}
	var target *dockerfile.TargetError
	if errors.As(err, &target) && len(target.Stages) > 0 {
		return "The stages are: " + strings.Join(target.Stages, ", ")
	}
	return ""
}

// stepHint is the next thing to try after a failed step.
func stepHint(step *builder.StepError) string {
	switch {
	case step.OOMKilled:
		return "The kernel ended it for lack of memory: give the machine or its control group more, or let the step use less (make -j1)."
	case step.ExitCode == 127 && len(step.Command) > 0:
		return "Exit code 127 means that a command was not found: is it installed in this stage, and in PATH?"
	case step.ExitCode == 126 && len(step.Command) > 0:
		return "Exit code 126 means that a command may not be executed: is it a program for this platform, with mode +x?"
	}
	return ""
}

// startStatus is the exit status of a container that did not start.
func startStatus(err error) int {
	var start *run.StartError
	if errors.As(err, &start) && start.Code != 0 {
		return start.Code
	}
	return statusRun
}

// exactArgs requires n arguments, minArgs at least n, else the command ends with
// status; what they are is in the command's usage line.
func exactArgs(n int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) == n {
			return nil
		}
		return &usageError{cmd: cmd, err: fmt.Errorf("requires %s, got %d", arguments(n), len(args)), status: statusError}
	}
}

func minArgs(n, status int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) >= n {
			return nil
		}
		return &usageError{cmd: cmd, err: fmt.Errorf("requires at least %s", arguments(n)), status: status}
	}
}

// rangeArgs requires at least min and at most max arguments.
func rangeArgs(min, max int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) >= min && len(args) <= max {
			return nil
		}
		want := fmt.Sprintf("requires %d to %s", min, arguments(max))
		if min == 0 {
			want = "takes at most " + arguments(max)
		}
		return &usageError{cmd: cmd, err: fmt.Errorf("%s, got %d", want, len(args)), status: statusError}
	}
}

func arguments(n int) string {
	if n == 1 {
		return "1 argument"
	}
	return fmt.Sprintf("%d arguments", n)
}
