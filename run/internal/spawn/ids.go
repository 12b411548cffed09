package spawn

import (
	"os"
	"strconv"
	"strings"
	"sync"
)

// IDMap is the uid map of this process's user namespace, GIDMap the gid map: ids inside,
// ids outside, and how many.
var (
	IDMap  = sync.OnceValue(func() [][3]uint64 { return readMap("/proc/self/uid_map") })
	GIDMap = sync.OnceValue(func() [][3]uint64 { return readMap("/proc/self/gid_map") })
)

// ProcessIDMaps are the maps of another process's user namespace, with the ids that
// this process's has for those outside.
func ProcessIDMaps(pid string) (uids, gids [][3]uint64) {
	return readMap("/proc/" + pid + "/uid_map"), readMap("/proc/" + pid + "/gid_map")
}

func readMap(path string) [][3]uint64 {
	b, err := os.ReadFile(path)
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
}

// IDCount is how many ids from 0 on a map has without a gap. The last number of all
// is no id.
func IDCount(m [][3]uint64) uint32 {
	var next uint64
	for range m {
		for _, e := range m {
			if e[0] <= next && e[0]+e[2] > next {
				next = e[0] + e[2]
			}
		}
	}
	return uint32(min(next, 1<<32-1))
}

// InUserNamespace reports whether this is not the first user namespace. Its uid map
// does not tell: root in a container may map every id to itself.
var InUserNamespace = sync.OnceValue(func() bool {
	const first = "user:[4026531837]" // PROC_USER_INIT_INO
	ns, err := os.Readlink("/proc/self/ns/user")
	return err != nil || ns != first
})

// HostUID is this user's id outside of the user namespace.
func HostUID() int { return hostID(os.Geteuid(), IDMap()) }

// HostGID is this user's group outside of the user namespace.
func HostGID() int { return hostID(os.Getegid(), GIDMap()) }

func hostID(own int, m [][3]uint64) int {
	id := uint64(own)
	for _, e := range m {
		if id >= e[0] && id < e[0]+e[2] {
			return int(id - e[0] + e[1])
		}
	}
	return own
}
