//go:build !embedrunner

package run

import (
	"io"
	"os"

	"cooper/run/internal/runner"
)

// openProgram: without an embedded runner it is this program itself. The link
// works even where its name does not, as in storage's user namespace.
func openProgram() (io.ReadCloser, error) { return os.Open("/proc/self/exe") }

// Init must be the first thing main calls, before flags are read: it becomes
// the runner or a container's first process, and does not return, if this
// process was executed as such.
func Init() { runner.Init() }
