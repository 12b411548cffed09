package run

import (
	"os"
	"strconv"
	"syscall"

	"cooper/run/internal/spawn"
)

// networkDir is where leases of networks are: one directory for all stores, since
// bridges and published ports are the machine's (or, rootless, the user's), and one
// for each network namespace that commands are started in. It lies beside the
// runner's state directory, which the runner covers.
func networkDir() string {
	dir := spawn.DefaultDir() + "-networks"
	if st, err := os.Stat("/proc/self/ns/net"); err == nil {
		dir += "-" + strconv.FormatUint(st.Sys().(*syscall.Stat_t).Ino, 10)
	}
	return dir
}
