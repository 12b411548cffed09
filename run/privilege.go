package run

import (
	"os"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"cooper/run/internal/spawn"
)

// singleID reports whether root is the only user.
func singleID() bool {
	var n uint64
	for _, e := range spawn.IDMap() {
		n += e[2]
	}
	return n == 1
}

// groupsDenied: a user namespace made without privileges has no setgroups(2).
var groupsDenied = sync.OnceValue(func() bool {
	b, err := os.ReadFile("/proc/self/setgroups")
	return err == nil && strings.HasPrefix(string(b), "deny")
})

// hasCap reports whether this process has a capability in effect.
func hasCap(c int) bool {
	head := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&head, &data[0]); err != nil {
		return false
	}
	return data[c/32].Effective&(1<<(c%32)) != 0
}

// confined reports whether a seccomp filter or an AppArmor profile may refuse what
// capabilities allow.
func confined() bool {
	if mode, err := unix.PrctlRetInt(unix.PR_GET_SECCOMP, 0, 0, 0, 0); err != nil || mode != 0 {
		return true
	}
	b, err := os.ReadFile("/proc/self/attr/apparmor/current")
	return err == nil && !strings.HasPrefix(string(b), "unconfined")
}
