package run

import (
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// cgroup makes a directory with files.
func cgroup(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		write(t, filepath.Join(dir, name), content, 0o644)
	}
	return dir
}

// TestCgroupUsage reads both versions of cgroups.
func TestCgroupUsage(t *testing.T) {
	v2 := cgroupFiles{cgroup(t, map[string]string{
		"cpu.stat": "usage_usec 1500000\nuser_usec 1\n", "memory.current": "5000\n", "memory.max": "8000\n",
		"memory.stat": "anon 1\ninactive_file 1000\n", "pids.current": "7\n",
		"io.stat": "8:0 rbytes=10 wbytes=20 rios=1 wios=1\n8:16 rbytes=1 wbytes=2\n",
	})}
	v1 := cgroupFiles{
		cgroup(t, map[string]string{"cpu.stat": "nr_periods 0\n"}),
		cgroup(t, map[string]string{"cpuacct.usage": "1500000000\n"}),
		cgroup(t, map[string]string{
			"memory.usage_in_bytes": "5000\n", "memory.limit_in_bytes": "8000\n", "memory.stat": "inactive_file 3\ntotal_inactive_file 1000\n",
		}),
		cgroup(t, map[string]string{"pids.current": "7\n"}),
		cgroup(t, map[string]string{"blkio.throttle.io_service_bytes_recursive": "8:0 Read 10\n8:0 Write 20\n8:0 Total 30\n8:16 Read 1\n8:16 Write 2\nTotal 33\n"}),
	}
	mixed := append(cgroupFiles{}, v1...) // cgroups of version 2 beside those of version 1, where kept containers have no cpuacct
	mixed[1] = cgroup(t, map[string]string{"cpu.stat": "usage_usec 1500000\n"})
	want := Usage{CPU: 1500 * time.Millisecond, Memory: 4000, MemoryLimit: 8000, PIDs: 7, BlockRead: 11, BlockWrite: 22}
	for name, g := range map[string]cgroupFiles{"version 2": v2, "version 1": v1, "both": mixed} {
		got := Usage{MemoryLimit: 1 << 40}
		if !g.cpu(&got) || !g.memory(&got) || !g.pids(&got) {
			t.Errorf("%s: something is not found", name)
		}
		g.blockIO(&got)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	unlimited := cgroupFiles{cgroup(t, map[string]string{"memory.current": "5000\n", "memory.max": "max\n"})}
	got := Usage{MemoryLimit: 1 << 40}
	if !unlimited.memory(&got) || got.MemoryLimit != 1<<40 {
		t.Errorf("without a limit: %+v, want the machine's memory as limit", got)
	}
	if g := (cgroupFiles{}); g.cpu(&got) || g.memory(&got) || g.pids(&got) {
		t.Error("without a cgroup something is found")
	}
}

func TestParseNetDev(t *testing.T) {
	const text = `Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo:   100       1    0    0    0     0          0         0      100       1    0    0    0     0       0          0
  eth0: 1000      10    0    0    0     0          0         0     2000      20    0    0    0     0       0          0
  eth1:1 1 0 0 0 0 0 0 2 1 0 0 0 0 0 0
`
	if in, out := parseNetDev(text); in != 1001 || out != 2002 {
		t.Errorf("parseNetDev = %d, %d, want 1001, 2002", in, out)
	}
}

func TestParseStat(t *testing.T) {
	const stat = "42 (a b) c) (d) S 1 42 41 34817 42 4194304 100 0 0 0 250 50 0 0 20 5 3 0 100 4096000 10 18446744073709551615 0 0"
	got, err := parseStat([]byte(stat))
	want := Process{
		PID: 42, PPID: 1, PGID: 42, SID: 41, Name: "a b) c) (d", State: "S", TTY: "pts/1", Priority: 20, Nice: 5, Threads: 3,
		CPU: 3 * time.Second, Started: bootTime().Add(time.Second), VirtualSize: 4096000, ResidentSize: 10 * int64(os.Getpagesize()),
	}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("parseStat: %v (-want +got):\n%s", err, diff)
	}
	for _, bad := range []string{"", "42", "42 (a", "42 (a) S 1", ") 42 (", "x (a) S 1 42 41 34817 42 4194304 100 0 0 0 250 50 0 0 20 5 3 0 100 4096000 10"} {
		if _, err := parseStat([]byte(bad)); err == nil {
			t.Errorf("parseStat(%q) succeeds", bad)
		}
	}
}

func TestTerminalName(t *testing.T) {
	for dev, want := range map[int]string{0: "", 136 << 8: "pts/0", 137 << 8: "pts/1048576", 4<<8 | 1: "tty1", 4<<8 | 65: "ttyS1", 5<<8 | 1: "5,1"} {
		if got := terminalName(dev); got != want {
			t.Errorf("terminalName(%#x) = %q, want %q", dev, got, want)
		}
	}
}

// This process is one that is surely there.
func TestReadProcess(t *testing.T) {
	got, err := readProcess("/proc/self")
	want := Process{PID: os.Getpid(), PPID: os.Getppid(), UID: os.Geteuid(), GID: os.Getegid(), Args: os.Args}
	seen := cmpopts.IgnoreFields(Process{}, "PGID", "SID", "Name", "State", "TTY", "Nice", "Priority", "Threads", "Started", "CPU", "VirtualSize", "ResidentSize")
	if diff := cmp.Diff(want, got, seen); err != nil || diff != "" {
		t.Errorf("readProcess: %v (-want +got):\n%s", err, diff)
	}
	if age := time.Since(got.Started); age < -time.Second || age > time.Hour {
		t.Errorf("started %v ago", age)
	}
	if _, err := readProcess("/proc/" + strconv.Itoa(1<<30)); !gone(err) {
		t.Errorf("readProcess of none = %v", err)
	}
}

func TestDescendants(t *testing.T) {
	all, err := allPIDs()
	if err != nil {
		t.Fatal(err)
	}
	found := map[int]bool{}
	for _, pid := range descendants(os.Getppid(), all) {
		found[pid] = true
	}
	if !found[os.Getpid()] || found[1] && os.Getppid() != 1 {
		t.Errorf("descendants of the parent = %v", found)
	}
}
