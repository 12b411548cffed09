package run

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// supervisor is the cgroup of a service's processes outside of containers.
const supervisor = "supervisor"

// DivideCgroup makes room for containers in the cgroup of the systemd service that
// this process is started for: its processes, the monitor of a container among them,
// move into a cgroup "supervisor" below it, and containers get theirs beside that.
// cgroup v2 allows no limits for the cgroups below one that has processes itself;
// without this, containers would be outside of the service. With cgroup v1, or when
// this process is no service's, nothing happens.
func DivideCgroup() error {
	if cgroupVersion() != 2 {
		return nil
	}
	return divideCgroup("/sys/fs/cgroup")
}

// divideCgroup is DivideCgroup for the cgroup v2 hierarchy mounted at mount.
func divideCgroup(mount string) error {
	own, err := unifiedCgroup()
	if err != nil || filepath.Ext(own) != ".service" {
		return err
	}
	dir := filepath.Join(mount, own)
	below := filepath.Join(dir, supervisor)
	if err := os.Mkdir(below, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
		return fmt.Errorf("make room for containers in the service's cgroup (has it Delegate=yes?): %w", err)
	}
	// Some may be started meanwhile.
	for range 10 {
		procs, err := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
		if err != nil || len(procs) == 0 {
			return err
		}
		for _, pid := range strings.Fields(string(procs)) {
			err := os.WriteFile(filepath.Join(below, "cgroup.procs"), []byte(pid), 0)
			if err != nil && !errors.Is(err, unix.ESRCH) {
				return fmt.Errorf("move process %s within the service's cgroup: %w", pid, err)
			}
		}
	}
	return nil
}

// unifiedCgroup is this process's cgroup in the v2 hierarchy, "" if there is none.
func unifiedCgroup() (string, error) {
	b, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(b)) {
		if path, ok := strings.CutPrefix(line, "0::"); ok {
			return strings.TrimSpace(path), nil
		}
	}
	return "", nil
}
