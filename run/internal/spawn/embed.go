//go:build embedrunner

package spawn

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

// embedded is the program, if it is known without reading a file.
func embedded() []byte { return runnerProgram }
