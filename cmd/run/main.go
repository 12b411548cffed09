// Command run runs an image in the foreground.
package main

import (
	"cooper/cmd/internal/cli"
	"cooper/layers"
	_ "cooper/layers/rootless" // an ordinary user starts in the user namespace
	"cooper/run"
)

func main() {
	run.Init()
	layers.Init()
	cli.Main(cli.NewRun)
}
