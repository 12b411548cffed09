package runner

import (
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// unifiedMount is where systems with cgroups of version 1 have those of version 2
// beside them.
const unifiedMount = "/sys/fs/cgroup/unified"

// unified is this process's own cgroup in that hierarchy, once ownUnified has put it
// in the hierarchy's place; "" before.
var unified string

// ownUnified has libcontainer make containers' cgroups below this process's own in
// the version 2 hierarchy too, by mounting that over the hierarchy in this process's
// mount namespace. Otherwise it makes them at the top; but there systemd keeps its
// services apart, and a container's processes would be in none: systemctl status
// would not show them, nor systemd believe what they say to it. Without such a
// hierarchy, or in its uppermost cgroup, nothing happens.
func ownUnified() {
	groups, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return
	}
	for line := range strings.Lines(string(groups)) {
		own, found := strings.CutPrefix(strings.TrimSpace(line), "0::")
		if !found || own == "/" || !isHierarchy(unifiedMount) {
			continue
		}
		own = filepath.Join(unifiedMount, own)
		if unix.Mount(own, unifiedMount, "", unix.MS_BIND, "") == nil {
			unified = own
		}
	}
}

// outsideUnified is where others find a cgroup that libcontainer names.
func outsideUnified(dir string) string {
	if rest, below := strings.CutPrefix(dir, unifiedMount+"/"); below && unified != "" {
		return filepath.Join(unified, rest)
	}
	return dir
}
