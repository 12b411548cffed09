//go:build !embedrunner

package run

import "cooper/run/internal/runner"

// Init must be the first thing main calls, before flags are read: it becomes
// the runner or a container's first process, and does not return, if this
// process was executed as such.
func Init() { runner.Init() }
