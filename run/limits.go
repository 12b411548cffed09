package run

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"cooper/run/internal/spawn"
	"cooper/run/internal/wire"
)

// rlimits turns ulimits into the spec's form. Without CAP_SYS_RESOURCE a hard
// limit can only go down, and a container should run with what is possible rather
// than not at all, so they are lowered to this process's own.
func rlimits(ulimits []Ulimit) ([]specs.POSIXRlimit, error) {
	var out []specs.POSIXRlimit
	for _, u := range ulimits {
		name := "RLIMIT_" + strings.ToUpper(u.Name)
		res, ok := wire.Rlimits[name]
		if !ok {
			return nil, fmt.Errorf("ulimit %q: unknown name", u.Name)
		}
		soft, hard := uint64(u.Soft), uint64(u.Hard) // -1 is RLIM_INFINITY
		if soft > hard {
			return nil, fmt.Errorf("ulimit %s: soft limit %d is above hard limit %d", u.Name, u.Soft, u.Hard)
		}
		var own unix.Rlimit
		if err := unix.Getrlimit(res, &own); err != nil {
			return nil, fmt.Errorf("ulimit %s: %w", u.Name, err)
		}
		if hard > own.Max && !canRaiseLimits() {
			hard = own.Max
			soft = min(soft, hard)
		}
		out = append(out, specs.POSIXRlimit{Type: name, Soft: soft, Hard: hard})
	}
	return out, nil
}

// canRaiseLimits: the kernel asks for the capability in the first user namespace.
func canRaiseLimits() bool {
	return hasCap(unix.CAP_SYS_RESOURCE) && !spawn.InUserNamespace()
}

// oomScoreAdj returns the value to set, or nil to leave it. Lowering it needs a
// privilege too.
func oomScoreAdj(want int) *int {
	if want == 0 {
		return nil
	}
	b, err := os.ReadFile("/proc/self/oom_score_adj")
	if err != nil {
		return nil
	}
	own, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil || (want < own && !canRaiseLimits()) {
		return nil
	}
	want = min(max(want, -1000), 1000)
	return &want
}

// limited reports whether c asks for anything that needs a cgroup.
func (c *Config) limited() bool {
	return c.limitsMemory() || c.CPUs != 0 || c.CPUShares != 0 || c.CPUPeriod != 0 || c.CPUQuota != 0 ||
		c.CPURealtimePeriod != 0 || c.CPURealtimeRuntime != 0 || c.CPUSetCPUs != "" || c.CPUSetMems != "" ||
		c.PidsLimit > 0 || c.BlockIO != nil
}

func (c *Config) limitsMemory() bool {
	return c.Memory != 0 || c.MemorySwap != 0 || c.MemoryReservation != 0 || c.MemorySwappiness != nil || c.OOMKillDisable
}

// checkControllers refuses limits for which version 2 of cgroups has no controller
// in dir, where the container's cgroup goes: those above must have passed it on.
func (c *Config) checkControllers(dir string) error {
	if !c.limited() {
		return nil
	}
	r, err := c.resources()
	if err != nil {
		return err
	}
	b, err := os.ReadFile(filepath.Join(dir, "cgroup.controllers"))
	if err != nil {
		return nil // libcontainer knows what is wrong
	}
	have := strings.Fields(string(b))
	for name, needed := range map[string]bool{
		"memory": r.Memory != nil, "pids": r.Pids != nil, "io": r.BlockIO != nil,
		"cpu":    r.CPU != nil && (r.CPU.Shares != nil || r.CPU.Quota != nil || r.CPU.Period != nil),
		"cpuset": r.CPU != nil && (r.CPU.Cpus != "" || r.CPU.Mems != ""),
	} {
		if needed && !slices.Contains(have, name) {
			return fmt.Errorf("the limit needs the cgroup controller %q, which %s has not: enable it in the cgroup.subtree_control of those above, with systemd by Delegate=", name, dir)
		}
	}
	return nil
}

// resources are the limits in the spec's form, without devices.
func (c *Config) resources() (*specs.LinuxResources, error) {
	r := &specs.LinuxResources{BlockIO: c.BlockIO}
	if c.limitsMemory() {
		m, err := c.memory()
		if err != nil {
			return nil, err
		}
		r.Memory = m
	}
	if c.PidsLimit > 0 {
		r.Pids = &specs.LinuxPids{Limit: &c.PidsLimit}
	}
	cpu, err := c.cpu()
	if err != nil {
		return nil, err
	}
	if *cpu != (specs.LinuxCPU{}) {
		r.CPU = cpu
	}
	return r, nil
}

// cpu are the limits on processors.
func (c *Config) cpu() (*specs.LinuxCPU, error) {
	if err := checkAvailable("CPUs", c.CPUSetCPUs, "/sys/devices/system/cpu/online"); err != nil {
		return nil, err
	}
	if err := checkAvailable("memory nodes", c.CPUSetMems, "/sys/devices/system/node/online"); err != nil {
		return nil, err
	}
	cpu := &specs.LinuxCPU{Cpus: c.CPUSetCPUs, Mems: c.CPUSetMems}
	if c.CPUShares != 0 {
		cpu.Shares = &c.CPUShares
	}
	period, quota := c.CPUPeriod, c.CPUQuota
	if c.CPUs != 0 {
		if period != 0 || quota != 0 {
			return nil, fmt.Errorf("conflicting options: CPUs and CPU quota or period")
		}
		period = 100_000 // microseconds, Docker's
		quota = int64(c.CPUs * float64(period))
		if quota < 1000 {
			return nil, fmt.Errorf("CPUs: %g is less than 0.01", c.CPUs)
		}
	}
	if period != 0 {
		cpu.Period = &period
	}
	if quota != 0 {
		cpu.Quota = &quota
	}
	if c.CPURealtimePeriod != 0 {
		cpu.RealtimePeriod = &c.CPURealtimePeriod
	}
	if c.CPURealtimeRuntime != 0 {
		cpu.RealtimeRuntime = &c.CPURealtimeRuntime
	}
	return cpu, nil
}

// checkAvailable refuses a list such as "0-2,7" that is none, or that names what the
// kernel does not list in file.
func checkAvailable(what, list, file string) error {
	if list == "" {
		return nil
	}
	last, err := lastOf(list)
	if err != nil {
		return fmt.Errorf("invalid list of %s %q: want numbers and ranges such as 0-2,7", what, list)
	}
	b, err := os.ReadFile(file)
	if err != nil {
		return nil // the kernel will say
	}
	online := strings.TrimSpace(string(b))
	if there, err := lastOf(online); err == nil && last > there {
		return fmt.Errorf("requested %s are not available - requested %s, available: %s", what, list, online)
	}
	return nil
}

// lastOf returns the greatest number in a list such as "0-2,7".
func lastOf(list string) (last int, err error) {
	for part := range strings.SplitSeq(list, ",") {
		first, end, isRange := strings.Cut(part, "-")
		if !isRange {
			end = first
		}
		low, err := strconv.ParseUint(first, 10, 16)
		if err != nil {
			return 0, err
		}
		high, err := strconv.ParseUint(end, 10, 16)
		if err != nil {
			return 0, err
		}
		if high < low {
			return 0, strconv.ErrRange
		}
		last = max(last, int(high))
	}
	return last, nil
}

// memory follows Docker: without a swap limit a container may use as much swap as
// memory.
func (c *Config) memory() (*specs.LinuxMemory, error) {
	m := &specs.LinuxMemory{}
	swap := c.MemorySwap
	switch {
	case c.Memory < 0 || c.MemoryReservation < 0:
		return nil, fmt.Errorf("memory limit is negative")
	case c.Memory == 0 && swap > 0:
		return nil, fmt.Errorf("you should always set the memory limit when using a memory and swap limit")
	case swap > 0 && swap < c.Memory:
		return nil, fmt.Errorf("memory and swap limit %d is below memory limit %d", swap, c.Memory)
	case c.Memory > 0 && c.Memory < 6<<20:
		return nil, fmt.Errorf("minimum memory limit is 6 MiB")
	case c.Memory > 0 && swap == 0 && hasSwapLimit():
		swap = 2 * c.Memory
	}
	if c.Memory != 0 {
		m.Limit = &c.Memory
	}
	if swap != 0 {
		m.Swap = &swap
	}
	if c.MemoryReservation != 0 {
		m.Reservation = &c.MemoryReservation
	}
	if cgroupVersion() != 1 && (c.MemorySwappiness != nil || c.OOMKillDisable) {
		return nil, fmt.Errorf("memory swappiness and disabling the OOM killer need cgroup version 1, which this host does not have")
	}
	m.Swappiness = c.MemorySwappiness
	if c.OOMKillDisable {
		m.DisableOOMKiller = &c.OOMKillDisable
	}
	return m, nil
}

// hasSwapLimit reports whether the kernel accounts for swap. In cgroup v2 it
// always can.
func hasSwapLimit() bool {
	if cgroupVersion() != 1 {
		return true
	}
	_, err := os.Stat("/sys/fs/cgroup/memory/memory.memsw.limit_in_bytes")
	return err == nil
}
