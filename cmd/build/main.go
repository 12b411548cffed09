// Command build makes an image from a Dockerfile.
package main

import (
	"cooper/cmd/internal/cli"
	"cooper/layers"
	"cooper/run"
)

func main() {
	run.Init()
	layers.Init()
	cli.Main(cli.NewBuild)
}
