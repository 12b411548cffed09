//go:build embedrunner

package run

// Init must be the first thing main calls, before flags are read: it becomes
// the runner, a container's first process or the user's network process, and does
// not return, if this process was executed as such.
func Init() {}
