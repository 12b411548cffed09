// Command cmd is the container runner as a program of its own, small and static,
// for embedding into the commands (build tag embedrunner). It is never installed.
package main

import (
	"fmt"
	"os"

	"cooper/run/internal/runner"
)

func main() {
	runner.Init()
	fmt.Fprintln(os.Stderr, "this program is executed by cooper only")
	os.Exit(2)
}
