// Package orphans ends the processes that a container's first process leaves
// behind when the container has no process id namespace of its own. With one the
// kernel does it.
package orphans

import (
	"fmt"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// Group is the processes of one container. They are known by its mount namespace.
// The namespace is kept open: the kernel would give its number to the next one
// as soon as the last process is gone.
type Group struct{ ns *os.File }

// Watch is called while the first process runs, or has not been waited for.
func Watch(pid int) (*Group, error) {
	f, err := os.Open(fmt.Sprintf("/proc/%d/ns/mnt", pid))
	if err != nil {
		return nil, err
	}
	return &Group{f}, nil
}

// New makes a Group of a namespace that another process has opened.
func New(ns *os.File) *Group { return &Group{ns} }

// File is the namespace, for another process. It stays the Group's.
func (g *Group) File() *os.File { return g.ns }

// Close lets the namespace, and what is mounted in it, go.
func (g *Group) Close() error { return g.ns.Close() }

// Kill ends all processes of the group. New ones may appear while it looks, so it
// looks until there are none, for a second at most.
func (g *Group) Kill() {
	var ns unix.Stat_t
	if unix.Fstat(int(g.ns.Fd()), &ns) != nil {
		return
	}
	killed := map[int]bool{}
	for deadline := time.Now().Add(time.Second); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		n := killOnce(&ns, killed)
		for pid := range killed {
			// Ours to reap if we are a subreaper and its parent is
			// gone; any other one's parent does, and waiting fails.
			if done, err := unix.Wait4(pid, nil, unix.WNOHANG, nil); done == pid || err == unix.ECHILD {
				delete(killed, pid)
			}
		}
		if n == 0 && len(killed) == 0 {
			return
		}
	}
}

func killOnce(ns *unix.Stat_t, killed map[int]bool) (found int) {
	procs, err := os.ReadDir("/proc")
	if err != nil {
		return 0
	}
	for _, e := range procs {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		var st unix.Stat_t
		if unix.Stat("/proc/"+e.Name()+"/ns/mnt", &st) != nil || st.Ino != ns.Ino || st.Dev != ns.Dev {
			continue
		}
		found++
		killed[pid] = true
		unix.Kill(pid, unix.SIGKILL)
	}
	return found
}
