package runner

import (
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"cooper/run/internal/wire"
)

// alwaysKept are the version 1 controllers that every container uses: for its
// devices, its out-of-memory events, its count of processes and its end. The version
// 2 hierarchy beside them libcontainer has seen before it can be dropped: it would
// make plain directories in its place.
var alwaysKept = []string{"devices", "memory", "pids", "freezer", "unified"}

// dropHierarchies takes the version 1 cgroup hierarchies that no limit needs out of
// this process's mount namespace. libcontainer makes a cgroup in every hierarchy it
// finds and mounts every one in the container, which is a fifth of the system calls
// of a container's start. It remembers what it found: this comes before its first
// look. Without cgroups of version 1 nothing happens.
func dropHierarchies(needed []string) {
	const root = "/sys/fs/cgroup"
	dirs, err := os.ReadDir(root)
	if err != nil {
		return
	}
	keep := make(map[string]bool)
	for _, name := range append(needed, alwaysKept...) {
		keep[name] = true
	}
	for _, d := range dirs {
		if d.IsDir() && !keepsAny(keep, d.Name()) && isHierarchy(filepath.Join(root, d.Name())) {
			// What stays mounted costs time and nothing else.
			_ = unix.Unmount(filepath.Join(root, d.Name()), unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
		}
	}
}

// keepsAny reports whether one of the controllers of a hierarchy, named with commas
// between, is kept.
func keepsAny(keep map[string]bool, controllers string) bool {
	for name := range strings.SplitSeq(controllers, ",") {
		if keep[name] {
			return true
		}
	}
	return false
}

// isHierarchy reports whether dir is a mounted version 1 hierarchy, or the version 2
// one beside them. In version 2 alone, dir is a plain cgroup and no mount point.
func isHierarchy(dir string) bool {
	var fs unix.Statfs_t
	var st, parent unix.Stat_t
	if unix.Statfs(dir, &fs) != nil || unix.Lstat(dir, &st) != nil || unix.Lstat(filepath.Dir(dir), &parent) != nil {
		return false
	}
	return st.Dev != parent.Dev && (fs.Type == unix.CGROUP_SUPER_MAGIC || fs.Type == unix.CGROUP2_SUPER_MAGIC)
}

// dropOnce drops what the first container does not need; a Runtime sends those that
// need more to another runner. Other OCI runtimes see what they would see anyway.
func (r *runner) dropOnce(req *wire.Run) {
	if !req.NoCgroup && req.Command == nil {
		r.dropped.Do(func() { dropHierarchies(wire.Controllers(req.Spec)) })
	}
}
