package run

import (
	"os"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// idMap is the uid map of this process's user namespace.
var idMap = sync.OnceValue(func() [][3]uint64 {
	b, err := os.ReadFile("/proc/self/uid_map")
	if err != nil {
		return nil
	}
	var m [][3]uint64
	for line := range strings.Lines(string(b)) {
		var e [3]uint64
		for i, f := range strings.Fields(line) {
			if i < 3 {
				e[i], _ = strconv.ParseUint(f, 10, 64)
			}
		}
		m = append(m, e)
	}
	return m
})

// inUserNamespace reports whether this is not the first user namespace. Its uid map
// does not tell: root in a container may map every id to itself.
var inUserNamespace = sync.OnceValue(func() bool {
	const first = "user:[4026531837]" // PROC_USER_INIT_INO
	ns, err := os.Readlink("/proc/self/ns/user")
	return err != nil || ns != first
})

// singleID reports whether root is the only user.
func singleID() bool {
	var n uint64
	for _, e := range idMap() {
		n += e[2]
	}
	return n == 1
}

// hostUID is this user's id outside of the user namespace.
func hostUID() int {
	uid := uint64(os.Geteuid())
	for _, e := range idMap() {
		if uid >= e[0] && uid < e[0]+e[2] {
			return int(uid - e[0] + e[1])
		}
	}
	return int(uid)
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
