// Command cooper is the docker-compatible front door: build, run, images and more.
package main

import (
	"os"

	"cooper/cmd/internal/cli"
	"cooper/layers"
	_ "cooper/layers/rootless" // an ordinary user starts in the user namespace
	"cooper/run"
)

func main() {
	run.Init()
	layers.Init()
	cli.Main(cli.ForProgram(os.Args[0]))
}
