package spawn

import (
	"os"
	"strconv"
	"strings"
	"sync"
)

// IDMap is the uid map of this process's user namespace.
var IDMap = sync.OnceValue(func() [][3]uint64 {
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

// InUserNamespace reports whether this is not the first user namespace. Its uid map
// does not tell: root in a container may map every id to itself.
var InUserNamespace = sync.OnceValue(func() bool {
	const first = "user:[4026531837]" // PROC_USER_INIT_INO
	ns, err := os.Readlink("/proc/self/ns/user")
	return err != nil || ns != first
})

// HostUID is this user's id outside of the user namespace.
func HostUID() int {
	uid := uint64(os.Geteuid())
	for _, e := range IDMap() {
		if uid >= e[0] && uid < e[0]+e[2] {
			return int(uid - e[0] + e[1])
		}
	}
	return int(uid)
}
