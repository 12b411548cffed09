package builder

import (
	"fmt"
	"strings"

	"cooper/dockerfile"
)

// StepError is a step that could not be done. Error is one line; the source
// excerpt, the command and its last output are for the caller to show.
type StepError struct {
	// File and Source are the Dockerfile's name and bytes.
	File   string
	Source []byte
	// Location is where the step stands in it.
	Location dockerfile.Location
	// Step is the instruction as the display names it.
	Step string
	// Command is what a RUN step executed; nil for other steps.
	Command []string
	// ExitCode is the command's exit code; 0 when it did not get that far.
	ExitCode int
	// OOMKilled is true when the kernel's OOM killer ended the command.
	OOMKilled bool
	// Tail are the last lines of output, oldest first.
	Tail []string
	// Err is the cause; nil when ExitCode says it all.
	Err error
}

// Error says which step failed and how, in BuildKit's words where it has some.
func (e *StepError) Error() string {
	switch {
	case e.OOMKilled:
		return fmt.Sprintf("process %q was killed by the kernel: out of memory (exit code: %d)", strings.Join(e.Command, " "), e.ExitCode)
	case e.Err != nil:
		return e.Err.Error()
	}
	return fmt.Sprintf("process %q did not complete successfully: exit code: %d", strings.Join(e.Command, " "), e.ExitCode)
}

// Unwrap returns the cause.
func (e *StepError) Unwrap() error { return e.Err }

// Excerpt is the Dockerfile around the step, marked, in BuildKit's form.
func (e *StepError) Excerpt() string {
	return dockerfile.Excerpt(e.File, e.Source, e.Location)
}
