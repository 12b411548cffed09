package spawn

import (
	"path/filepath"
	"strings"
)

// runsContainer reports whether args are of run IMAGE or cooper run IMAGE.
func runsContainer(args []string) bool {
	name := filepath.Base(args[0])
	args = args[1:]
	if name == "cooper" && len(args) > 0 {
		name, args = args[0], args[1:]
	}
	if name != "run" || len(args) == 0 {
		return false
	}
	for _, a := range args {
		if a == "--help" || a == "--version" {
			return false
		}
		if !strings.HasPrefix(a, "-") {
			break
		}
	}
	return true
}

// detaches reports whether args, of run, may ask for a container that outlives the
// command. Flags' values are not told from flags: a mistake costs a moment.
func detaches(args []string) bool {
	for _, a := range args[1:] {
		long := strings.HasPrefix(a, "--")
		if a == "--detach" || !long && strings.HasPrefix(a, "-") && strings.Contains(a, "d") {
			return true
		}
	}
	return false
}

// notifies reports whether args have --sdnotify.
func notifies(args []string) bool {
	for _, a := range args[1:] {
		if a == "--sdnotify" || strings.HasPrefix(a, "--sdnotify=") {
			return true
		}
	}
	return false
}
