// Command cmd is the network process as a program of its own, for embedding into
// the commands (build tag embedrunner). It is never installed.
package main

import (
	"fmt"
	"os"

	"cooper/run/internal/network/uplink/process"
)

func main() {
	process.Init()
	fmt.Fprintln(os.Stderr, "this program is executed by cooper only")
	os.Exit(2)
}
