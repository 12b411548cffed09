//go:build embedrunner

package run

import (
	"bytes"
	_ "embed"
	"io"
)

// runnerProgram is the runner: see package runner's cmd, and the Makefile.
//
//go:embed runner.bin
var runnerProgram []byte

func openProgram() (io.ReadCloser, error) {
	return io.NopCloser(bytes.NewReader(runnerProgram)), nil
}

// Init must be the first thing main calls, before flags are read: it becomes
// the runner or a container's first process, and does not return, if this
// process was executed as such.
func Init() {}
