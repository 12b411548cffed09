package runner

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"time"

	"github.com/opencontainers/runc/libcontainer"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// orphans are what a first process leaves behind. In a process id namespace the
// kernel kills them with it. Without one (the host's, or the nested tier) they are
// known by their mount namespace, which is the container's own.
type orphans struct{ namespace string }

// watchOrphans is called while p runs.
func (c *container) watchOrphans(p *libcontainer.Process) orphans {
	private := slices.ContainsFunc(c.req.Spec.Linux.Namespaces, func(n specs.LinuxNamespace) bool {
		return n.Type == specs.PIDNamespace && n.Path == ""
	})
	pid, err := p.Pid()
	if private || err != nil {
		return orphans{}
	}
	ns, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/mnt", pid))
	if err != nil {
		return orphans{}
	}
	return orphans{ns}
}

// kill ends them all. New ones may appear while it looks, so it looks until there
// are none, for a second at most.
func (o orphans) kill() {
	if o.namespace == "" {
		return
	}
	killed := map[int]bool{}
	for deadline := time.Now().Add(time.Second); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		n := o.killOnce(killed)
		for pid := range killed {
			// Ours to reap if its parent is gone (see prepare); any
			// other one's parent does, and waiting for it fails.
			if done, err := unix.Wait4(pid, nil, unix.WNOHANG, nil); done == pid || err == unix.ECHILD {
				delete(killed, pid)
			}
		}
		if n == 0 && len(killed) == 0 {
			return
		}
	}
}

func (o orphans) killOnce(killed map[int]bool) (found int) {
	procs, err := os.ReadDir("/proc")
	if err != nil {
		return 0
	}
	for _, e := range procs {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if ns, err := os.Readlink("/proc/" + e.Name() + "/ns/mnt"); err != nil || ns != o.namespace {
			continue
		}
		found++
		killed[pid] = true
		unix.Kill(pid, unix.SIGKILL)
	}
	return found
}
