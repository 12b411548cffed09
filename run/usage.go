package run

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Usage is what a container has used of the machine until now.
type Usage struct {
	// At is when it was measured.
	At time.Time
	// CPU is the time of all processors together, since the start.
	CPU time.Duration
	// Memory is in bytes, without what could be dropped at once; MemoryLimit
	// is the machine's memory when the container has no limit.
	Memory, MemoryLimit int64
	// NetworkIn and NetworkOut are bytes over the container's own interfaces;
	// 0 on the host's network.
	NetworkIn, NetworkOut int64
	// BlockRead and BlockWrite are bytes from and to block devices.
	BlockRead, BlockWrite int64
	// PIDs is how many processes and threads there are.
	PIDs int64
}

// Usage measures the container: from its cgroup, or where it has none by adding
// up its processes, which leaves out those that have ended. The error wraps
// ErrNotRunning if it does not run.
func (c *Container) Usage() (Usage, error) {
	st, err := c.State()
	if err != nil {
		return Usage{}, err
	}
	if !st.Running() || st.PID == 0 {
		return Usage{}, fmt.Errorf("container %s: %w", c.opts().Name, ErrNotRunning)
	}
	u := Usage{At: time.Now(), MemoryLimit: TotalMemory()}
	g := cgroupFiles(st.Cgroups)
	if !g.cpu(&u) || !g.memory(&u) || !g.pids(&u) {
		if err := c.addProcesses(&u); err != nil {
			return u, err
		}
	}
	if len(g) > 0 {
		g.blockIO(&u)
	}
	addNetwork(&u, st.PID)
	return u, nil
}

// addProcesses fills u from the container's processes.
func (c *Container) addProcesses(u *Usage) error {
	list, err := c.Processes()
	if err != nil {
		return err
	}
	u.CPU, u.Memory, u.PIDs = 0, 0, 0
	for _, p := range list {
		u.CPU += p.CPU
		u.Memory += p.ResidentSize
		u.PIDs += int64(p.Threads)
		io, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(p.PID), "io"))
		if err == nil {
			u.BlockRead += keyed(string(io), "read_bytes:")
			u.BlockWrite += keyed(string(io), "write_bytes:")
		}
	}
	return nil
}

// cgroupFiles are a container's cgroup directories, one for each hierarchy of
// version 1, or that of version 2.
type cgroupFiles []string

// read returns a file of the first directory that has it; "" when none does.
func (g cgroupFiles) read(name string) string {
	for _, dir := range g {
		if b, err := os.ReadFile(filepath.Join(dir, name)); err == nil {
			return string(b)
		}
	}
	return ""
}

// number is the number that a file consists of.
func (g cgroupFiles) number(name string) (int64, bool) {
	n, err := strconv.ParseInt(strings.TrimSpace(g.read(name)), 10, 64)
	return n, err == nil
}

func (g cgroupFiles) cpu(u *Usage) bool {
	if ns, ok := g.number("cpuacct.usage"); ok {
		u.CPU = time.Duration(ns)
		return true
	}
	for i := range g { // that of version 1 has not, but there may be both
		stat := g[i : i+1].read("cpu.stat")
		if strings.Contains(stat, "usage_usec") {
			u.CPU = time.Duration(keyed(stat, "usage_usec")) * time.Microsecond
			return true
		}
	}
	return false
}

func (g cgroupFiles) memory(u *Usage) bool {
	used, ok := g.number("memory.current")
	limit, limited := g.number("memory.max")
	inactive := "inactive_file"
	if !ok {
		used, ok = g.number("memory.usage_in_bytes")
		limit, limited = g.number("memory.limit_in_bytes")
		inactive = "total_inactive_file"
	}
	if cache := keyed(g.read("memory.stat"), inactive); cache < used {
		used -= cache
	}
	u.Memory = used
	if limited && limit < u.MemoryLimit {
		u.MemoryLimit = limit
	}
	return ok
}

func (g cgroupFiles) pids(u *Usage) (ok bool) {
	u.PIDs, ok = g.number("pids.current")
	return ok
}

func (g cgroupFiles) blockIO(u *Usage) {
	if stat := g.read("io.stat"); stat != "" { // "8:0 rbytes=1 wbytes=2 ..."
		for word := range strings.FieldsSeq(stat) {
			key, value, _ := strings.Cut(word, "=")
			n, _ := strconv.ParseInt(value, 10, 64)
			switch key {
			case "rbytes":
				u.BlockRead += n
			case "wbytes":
				u.BlockWrite += n
			}
		}
		return
	}
	for line := range strings.Lines(g.read("blkio.throttle.io_service_bytes_recursive")) { // "8:0 Read 1"
		fields := strings.Fields(line)
		if len(fields) != 3 {
			continue
		}
		n, _ := strconv.ParseInt(fields[2], 10, 64)
		switch fields[1] {
		case "Read":
			u.BlockRead += n
		case "Write":
			u.BlockWrite += n
		}
	}
}

// keyed finds the number behind a key at the beginning of a line.
func keyed(text, key string) int64 {
	for line := range strings.Lines(text) {
		if fields := strings.Fields(line); len(fields) > 1 && fields[0] == key {
			n, _ := strconv.ParseInt(fields[1], 10, 64)
			return n
		}
	}
	return 0
}

// addNetwork adds what went over the interfaces of a process's network, unless it
// is the host's.
func addNetwork(u *Usage, pid int) {
	dir := filepath.Join("/proc", strconv.Itoa(pid))
	own, err := os.Readlink(filepath.Join(dir, "ns/net"))
	host, _ := os.Readlink("/proc/self/ns/net")
	if err != nil || own == host {
		return
	}
	text, err := os.ReadFile(filepath.Join(dir, "net/dev"))
	if err != nil {
		return
	}
	u.NetworkIn, u.NetworkOut = parseNetDev(string(text))
}

// parseNetDev adds up the bytes received and sent in /proc/PID/net/dev, without
// the loopback interface.
func parseNetDev(text string) (in, out int64) {
	for line := range strings.Lines(text) {
		name, counters, found := strings.Cut(line, ":")
		fields := strings.Fields(counters)
		if !found || strings.TrimSpace(name) == "lo" || len(fields) < 9 {
			continue
		}
		received, _ := strconv.ParseInt(fields[0], 10, 64)
		sent, _ := strconv.ParseInt(fields[8], 10, 64)
		in, out = in+received, out+sent
	}
	return in, out
}

// TotalMemory is the machine's memory in bytes; 0 when it is not known.
func TotalMemory() int64 {
	text, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0
	}
	return keyed(string(text), "MemTotal:") << 10
}
