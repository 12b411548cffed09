//go:build embedrunner

package launch

import (
	"bytes"
	_ "embed"
	"io"
)

// program is the network process's: see package process's cmd, and the Makefile.
//
//go:embed uplink.bin
var program []byte

func openProgram() (io.ReadCloser, error) {
	return io.NopCloser(bytes.NewReader(program)), nil
}
