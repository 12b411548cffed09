// Command run runs an image in the foreground.
package main

import (
	"cooper/cmd/internal/cli"
	"cooper/layers"
	"cooper/run"
)

func main() {
	run.Init()
	layers.Init()
	cli.Main(cli.NewRun)
}
