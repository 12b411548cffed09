//go:build !embedrunner

package run

import (
	"cooper/run/internal/network/uplink/process"
	"cooper/run/internal/runner"
)

// Init must be the first thing main calls, before flags are read: it becomes
// the runner, a container's first process or the user's network process, and does
// not return, if this process was executed as such.
func Init() {
	process.Init()
	runner.Init()
}
