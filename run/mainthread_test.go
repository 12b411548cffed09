package run

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// TestMainThreadStays: libcontainer moves one of the runner's threads into each
// container's mount namespace for a while. It must never be the main thread: the Go
// runtime would park that one there for ever, and with it the container's mounts.
func TestMainThreadStays(t *testing.T) {
	img := image(t)
	for i := range 30 {
		r := runtimeFor(t)
		if out, st, err := output(t, r, overlay(t, img), sh("true")); err != nil || !st.Success() {
			t.Fatalf("%+v, %v: %s", st, err, out)
		}
		if ns := namespaces(r.link.p.Cmd.Process.Pid); len(ns) != 1 {
			t.Fatalf("runner %d has threads in mount namespaces %v", i, ns)
		}
		r.Close()
	}
}

// namespaces are the mount namespaces of a process's threads, once the threads that
// are about to end have ended.
func namespaces(pid int) (found map[string]int) {
	for range 50 {
		found = map[string]int{}
		tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/ns/mnt", pid))
		for _, task := range tasks {
			if ns, err := os.Readlink(task); err == nil {
				found[ns]++
			}
		}
		if len(found) == 1 {
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	return found
}
