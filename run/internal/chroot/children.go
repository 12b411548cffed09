package chroot

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
)

// Children are the processes whose parent this one is.
func Children() []int {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	var pids []int
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		b, err := os.ReadFile("/proc/" + e.Name() + "/stat")
		if err != nil {
			continue
		}
		var state string
		var parent int
		// The name before it, in parentheses, may hold anything.
		if _, err := fmt.Sscan(string(b[bytes.LastIndexByte(b, ')')+1:]), &state, &parent); err == nil && parent == os.Getpid() {
			pids = append(pids, pid)
		}
	}
	return pids
}
