// Command cooper is the docker-compatible front door: build, run, images and more.
package main

import (
	"cooper/cmd/internal/cli"
	"cooper/layers"
	"cooper/run"
)

func main() {
	run.Init()
	layers.Init()
	cli.Main(cli.NewCooper)
}
