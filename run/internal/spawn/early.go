//go:build embedrunner

package spawn

import (
	"os"
	"sync"
)

// init starts the runner at once when the command line says that a container will
// be run. Go initialises packages in the order of their import paths, as far as
// imports allow: this one comes before all of github.com, go.podman.io and so on,
// whose seven milliseconds of initialisation the runner's start then runs beside.
// A runner that nobody takes ends with this process.
func init() {
	if !runsContainer(os.Args) {
		return
	}
	if detaches(os.Args) {
		Keep()
	}
	var p *Process
	var done sync.WaitGroup
	done.Go(func() { p, _ = start(DefaultDir()) })
	var once sync.Once
	early = func() (taken *Process) {
		once.Do(func() {
			done.Wait()
			taken = p
		})
		return taken
	}
}
