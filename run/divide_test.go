package run

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// TestDivideCgroup divides a real cgroup, by a process in it.
func TestDivideCgroup(t *testing.T) {
	if mount := os.Getenv("COOPER_TEST_DIVIDE"); mount != "" {
		if err := divideCgroup(mount); err != nil {
			t.Fatal(err)
		}
		own, err := unifiedCgroup()
		fmt.Printf("cgroup %s %v\n", filepath.Base(own), err)
		return
	}
	mount := unifiedMount(t)
	for name, want := range map[string]string{"web.service": supervisor, "session.scope": "session.scope"} {
		t.Run(name, func(t *testing.T) {
			own, err := unifiedCgroup()
			if err != nil {
				t.Fatal(err)
			}
			parent, err := os.MkdirTemp(filepath.Join(mount, own), "cooper-test-")
			if err != nil {
				t.Skip("no cgroup can be made here:", err)
			}
			dir := filepath.Join(parent, name)
			defer func() {
				for _, d := range []string{filepath.Join(dir, supervisor), dir, parent} {
					if err := os.Remove(d); err != nil && !os.IsNotExist(err) {
						t.Error(err)
					}
				}
			}()
			if err := os.Mkdir(dir, 0o755); err != nil {
				t.Fatal(err)
			}
			fd, err := os.Open(dir)
			if err != nil {
				t.Fatal(err)
			}
			defer fd.Close()
			cmd := exec.Command(os.Args[0], "-test.run=^TestDivideCgroup$")
			cmd.Env = append(os.Environ(), "COOPER_TEST_DIVIDE="+mount)
			cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(fd.Fd())}
			out, err := cmd.CombinedOutput()
			if err != nil || !strings.Contains(string(out), "cgroup "+want+" <nil>\n") {
				t.Errorf("in %s: %v\n%s\nwant it in %s", name, err, out, want)
			}
		})
	}
}

// unifiedMount is where the v2 hierarchy is mounted, beside one of version 1 or
// alone.
func unifiedMount(t *testing.T) string {
	t.Helper()
	for _, dir := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/unified"} {
		var st unix.Statfs_t
		if unix.Statfs(dir, &st) == nil && st.Type == unix.CGROUP2_SUPER_MAGIC {
			return dir
		}
	}
	t.Skip("no cgroup v2 here")
	return ""
}
