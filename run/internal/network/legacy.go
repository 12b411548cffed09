package network

import (
	"encoding/binary"
	"fmt"
	"os"
	"slices"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Of linux/netfilter_ipv4/ip_tables.h: the questions, and where things are in the
// answers.
const (
	legacyInfo    = 64 // IPT_SO_GET_INFO: struct ipt_getinfo
	legacyEntries = 65 // IPT_SO_GET_ENTRIES: struct ipt_get_entries, then the entries
	infoSize      = 84 // of struct ipt_getinfo
	underflows    = 56 // in it: for each hook where the policy's entry is
	entriesSize   = 80 // in it: the length of all entries
	entriesHeader = 40 // of struct ipt_get_entries
	targetOffset  = 88 // in struct ipt_entry
	verdictOffset = 32 // in struct xt_standard_target
	verdictDrop   = -1 // -NF_DROP - 1
	hookForward   = 2  // NF_INET_FORWARD
	tableNameSize = 32 // XT_TABLE_MAXNAMELEN
	nfFilterTable = "filter"
)

// warnOfLegacy says what n's packets need where the older iptables, of which nft knows
// nothing, drops forwarded ones: rules there are made by its own program only. It is
// called in the bridges' namespace.
func warnOfLegacy(n *Network) []string {
	// Asking about a table that is not there would make it.
	names, err := os.ReadFile("/proc/thread-self/net/ip_tables_names")
	if err != nil || !slices.Contains(strings.Fields(string(names)), nfFilterTable) || !legacyDrops() {
		return nil
	}
	return []string{fmt.Sprintf("iptables-legacy drops forwarded packets: network %s needs iptables-legacy -I FORWARD -i %s -j ACCEPT and the same with -o", n.Name, n.Bridge)}
}

// legacyDrops reports whether the policy of FORWARD is DROP there.
func legacyDrops() bool {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	info := make([]byte, infoSize)
	copy(info, nfFilterTable)
	if getsockopt(fd, legacyInfo, info) != nil {
		return false
	}
	policy := binary.NativeEndian.Uint32(info[underflows+4*hookForward:])
	size := binary.NativeEndian.Uint32(info[entriesSize:])
	entries := make([]byte, entriesHeader+int(size))
	copy(entries, nfFilterTable)
	binary.NativeEndian.PutUint32(entries[tableNameSize:], size)
	if getsockopt(fd, legacyEntries, entries) != nil {
		return false
	}
	entry := entriesHeader + int(policy)
	if entry+targetOffset+2 > len(entries) {
		return false
	}
	verdict := entry + int(binary.NativeEndian.Uint16(entries[entry+targetOffset:])) + verdictOffset
	return verdict+4 <= len(entries) && int32(binary.NativeEndian.Uint32(entries[verdict:])) == verdictDrop
}

// getsockopt fills b, which says what is asked for.
func getsockopt(fd, option int, b []byte) error {
	size := uint32(len(b))
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.IPPROTO_IP, uintptr(option),
		uintptr(unsafe.Pointer(&b[0])), uintptr(unsafe.Pointer(&size)), 0)
	if errno != 0 {
		return os.NewSyscallError("getsockopt", errno)
	}
	return nil
}
