package runner

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// commandGroups are the cgroup directories that another runtime has made.
type commandGroups []string

const cgroupRoot = "/sys/fs/cgroup"

// groupsOf are the cgroups of a process that have this name. Others, those that the
// runtime itself is in, are none of ours.
func groupsOf(pid int, name string) commandGroups {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cgroup")
	if err != nil {
		return nil
	}
	var groups commandGroups
	for line := range strings.Lines(string(text)) {
		// ID:CONTROLLERS:PATH; version 2 has no controllers.
		f := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(f) < 3 || filepath.Base(f[2]) != name {
			continue
		}
		dir := filepath.Join(cgroupRoot, strings.TrimPrefix(f[1], "name="), f[2])
		if _, err := os.Stat(dir); err == nil {
			groups = append(groups, dir)
		}
	}
	return groups
}

// oomKills reads what version 2 and version 1 call it.
func (g commandGroups) oomKills() uint64 {
	for _, dir := range g {
		for _, file := range []string{"memory.events", "memory.oom_control"} {
			text, err := os.ReadFile(filepath.Join(dir, file))
			if err != nil {
				continue
			}
			for line := range strings.Lines(string(text)) {
				if n, ok := strings.CutPrefix(line, "oom_kill "); ok {
					kills, _ := strconv.ParseUint(strings.TrimSpace(n), 10, 64)
					return kills
				}
			}
		}
	}
	return 0
}

// remove removes those that the runtime has left.
func (g commandGroups) remove() error {
	var errs []error
	for _, dir := range g {
		err := unix.Rmdir(dir)
		for i := 0; i < 20 && err == unix.EBUSY; i++ {
			time.Sleep(time.Millisecond << min(i, 6))
			err = unix.Rmdir(dir)
		}
		if err != nil && err != unix.ENOENT {
			errs = append(errs, &os.PathError{Op: "rmdir", Path: dir, Err: err})
		}
	}
	return errors.Join(errs...)
}

// coverUnified hides the version 2 hierarchy where it lies beside those of version 1,
// in this process's mount namespace. crun refuses to run with one that has controllers;
// it makes plain files in its place, which go with this process.
func coverUnified() {
	dir := filepath.Join(cgroupRoot, "unified")
	if isHierarchy(dir) {
		// Without, crun says what is wrong, and others don't mind.
		_ = unix.Mount("cooper", dir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "mode=700")
	}
}
