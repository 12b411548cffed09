//go:build !embedrunner

package launch

import (
	"io"
	"os"
)

// openProgram: without an embedded program it is this program itself.
func openProgram() (io.ReadCloser, error) { return os.Open("/proc/self/exe") }
