package run

import (
	"fmt"
	"math/bits"
	"slices"
	"strings"
	"sync"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"cooper/run/internal/wire"
)

// capNames are Linux's capabilities by number.
var capNames = [...]string{
	"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL",
	"CAP_SETGID", "CAP_SETUID", "CAP_SETPCAP", "CAP_LINUX_IMMUTABLE", "CAP_NET_BIND_SERVICE",
	"CAP_NET_BROADCAST", "CAP_NET_ADMIN", "CAP_NET_RAW", "CAP_IPC_LOCK", "CAP_IPC_OWNER",
	"CAP_SYS_MODULE", "CAP_SYS_RAWIO", "CAP_SYS_CHROOT", "CAP_SYS_PTRACE", "CAP_SYS_PACCT",
	"CAP_SYS_ADMIN", "CAP_SYS_BOOT", "CAP_SYS_NICE", "CAP_SYS_RESOURCE", "CAP_SYS_TIME",
	"CAP_SYS_TTY_CONFIG", "CAP_MKNOD", "CAP_LEASE", "CAP_AUDIT_WRITE", "CAP_AUDIT_CONTROL",
	"CAP_SETFCAP", "CAP_MAC_OVERRIDE", "CAP_MAC_ADMIN", "CAP_SYSLOG", "CAP_WAKE_ALARM",
	"CAP_BLOCK_SUSPEND", "CAP_AUDIT_READ", "CAP_PERFMON", "CAP_BPF", "CAP_CHECKPOINT_RESTORE",
}

// defaultCaps are Docker's.
var defaultCaps = capSet(
	unix.CAP_CHOWN, unix.CAP_DAC_OVERRIDE, unix.CAP_FSETID, unix.CAP_FOWNER, unix.CAP_MKNOD,
	unix.CAP_NET_RAW, unix.CAP_SETGID, unix.CAP_SETUID, unix.CAP_SETFCAP, unix.CAP_SETPCAP,
	unix.CAP_NET_BIND_SERVICE, unix.CAP_SYS_CHROOT, unix.CAP_KILL, unix.CAP_AUDIT_WRITE,
)

func capSet(caps ...int) uint64 {
	var s uint64
	for _, c := range caps {
		s |= 1 << c
	}
	return s
}

// ownCaps are the capabilities of this process's bounding set: what a container
// can have at most. Docker gives a privileged container what its daemon has.
var ownCaps = sync.OnceValue(func() uint64 {
	var s uint64
	for c := range capNames {
		if r, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, uintptr(c), 0, 0, 0); err == nil && r == 1 {
			s |= 1 << c
		}
	}
	return s
})

// caps applies Privileged, CapAdd and CapDrop to Docker's default set, by Docker's
// rules: ALL first, then single names; what is dropped by name stays dropped when
// ALL is added.
func (c *Config) caps() (uint64, error) {
	if c.Privileged {
		return ownCaps(), nil
	}
	add, addAll, err := parseCaps(c.CapAdd)
	if err != nil {
		return 0, err
	}
	drop, dropAll, err := parseCaps(c.CapDrop)
	if err != nil {
		return 0, err
	}
	s := defaultCaps
	switch {
	case addAll:
		s = ownCaps() &^ drop
	case dropAll:
		s = add
	default:
		s = s&^drop | add
	}
	return s & ownCaps(), nil
}

func parseCaps(names []string) (set uint64, all bool, err error) {
	for _, n := range names {
		name := strings.ToUpper(strings.TrimSpace(n))
		if name == "ALL" || name == "CAP_ALL" {
			all = true
			continue
		}
		if !strings.HasPrefix(name, "CAP_") {
			name = "CAP_" + name
		}
		i := slices.Index(capNames[:], name)
		if i < 0 {
			return 0, false, fmt.Errorf("unknown capability %q", n)
		}
		set |= 1 << i
	}
	return set, all, nil
}

// capList names the capabilities of a set.
func capList(s uint64) []string {
	names := make([]string, 0, bits.OnesCount64(s))
	for i, n := range capNames {
		if s&(1<<i) != 0 {
			names = append(names, n)
		}
	}
	return names
}

// specCaps are a process's sets in the spec: like Docker none inheritable, so that
// a program run by an ordinary user has none.
func specCaps(s uint64) *specs.LinuxCapabilities {
	l := capList(s)
	return &specs.LinuxCapabilities{Bounding: l, Effective: l, Permitted: l}
}

// stageCaps turns the spec's names into bits. Names that this kernel does not have
// are left out.
func stageCaps(c *specs.LinuxCapabilities) (wire.Caps, error) {
	if c == nil {
		return wire.Caps{}, nil
	}
	var w wire.Caps
	for _, s := range []struct {
		names []string
		set   *uint64
	}{
		{c.Bounding, &w.Bounding}, {c.Effective, &w.Effective}, {c.Permitted, &w.Permitted},
		{c.Inheritable, &w.Inheritable}, {c.Ambient, &w.Ambient},
	} {
		set, _, err := parseCaps(s.names)
		if err != nil {
			return wire.Caps{}, err
		}
		*s.set = set & ownCaps()
	}
	return w, nil
}
