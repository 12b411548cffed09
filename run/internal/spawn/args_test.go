package spawn

import (
	"strings"
	"testing"
)

func TestRunsContainer(t *testing.T) {
	for line, want := range map[string]bool{
		"run app":                     true,
		"/usr/local/bin/run --rm app": true,
		"run --rm app --help":         true,
		"cooper run -it app sh":       true,
		"run":                         false,
		"run --help":                  false,
		"run --rm --version":          false,
		"cooper":                      false,
		"cooper images":               false,
		"cooper run":                  false,
		"build .":                     false,
		"storage-untar run app":       false,
	} {
		if got := runsContainer(strings.Fields(line)); got != want {
			t.Errorf("runsContainer(%q) = %v, want %v", line, got, want)
		}
	}
}
