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

func TestDetaches(t *testing.T) {
	for line, want := range map[string]bool{
		"run -d app":             true,
		"cooper run --rm -itd a": true,
		"run --detach app":       true,
		"run --rm --read-only a": false,
		"run -it app":            false,
	} {
		if got := detaches(strings.Fields(line)); got != want {
			t.Errorf("detaches(%q) = %v, want %v", line, got, want)
		}
	}
}

func TestNotifies(t *testing.T) {
	for line, want := range map[string]bool{
		"run -d --sdnotify=conmon app":     true,
		"cooper start --sdnotify conmon a": true,
		"run -d app":                       false,
		"--sdnotify":                       false,
	} {
		if got := notifies(strings.Fields(line)); got != want {
			t.Errorf("notifies(%q) = %v, want %v", line, got, want)
		}
	}
}
