package main

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// memory is what one process uses: its proportional share, in bytes.
type memory struct {
	comm string
	pss  float64
}

// usage is the memory of processes by their ids.
type usage map[int]memory

// memories looks at the processes outside of containers that are in the network
// namespace of this one, where only the tools are, or are called cooper-something:
// an ordinary user's network has a process in a namespace of its own.
func memories() (usage, error) {
	pids, err := os.Readlink("/proc/self/ns/pid")
	if err != nil {
		return nil, err
	}
	net, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		return nil, err
	}
	names, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return nil, err
	}
	all := usage{}
	for _, name := range names {
		// One that ends meanwhile, or is the kernel's, counts for nothing.
		if ns, err := os.Readlink(filepath.Join(name, "ns/pid")); err != nil || ns != pids {
			continue
		}
		comm, err := os.ReadFile(filepath.Join(name, "comm"))
		if err != nil {
			continue
		}
		if ns, err := os.Readlink(filepath.Join(name, "ns/net")); err != nil || ns != net && !strings.HasPrefix(string(comm), "cooper-") {
			continue
		}
		pss, err := proportional(filepath.Join(name, "smaps_rollup"))
		if err != nil {
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(name))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		all[pid] = memory{strings.TrimSpace(string(comm)), pss}
	}
	return all, nil
}

// proportional reads the Pss line of a smaps_rollup file.
func proportional(name string) (float64, error) {
	f, err := os.Open(name)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		var kib float64
		if _, err := fmt.Sscanf(lines.Text(), "Pss: %f kB", &kib); err == nil {
			return kib * 1024, nil
		}
	}
	return 0, fmt.Errorf("%s has no Pss line", name)
}

// grownBy is the memory of processes that are new since before, and what daemons
// among the others use more.
func (u usage) grownBy(before usage, daemons []string) float64 {
	sum := 0.0
	for pid, m := range u {
		old, there := before[pid]
		switch {
		case !there:
			sum += m.pss
		case slices.Contains(daemons, m.comm):
			sum += m.pss - old.pss
		}
	}
	return sum
}
