package seccomp

import (
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
)

//go:generate go run generate.go

// table names the system calls of one architecture. The native one is the first
// of the package's tables.
type table struct {
	name  specs.Arch
	audit uint32 // AUDIT_ARCH_ constant
	x32   bool   // numbers from x32Bit on belong to the x32 ABI
	// calls is "name number" lines: a constant, so that a program that runs
	// no container pays nothing for it at its start.
	calls string
}

func (t *table) numbers() map[string]uint32 {
	m := make(map[string]uint32, 512)
	for line := range strings.Lines(t.calls) {
		name, num, ok := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		if n, err := strconv.ParseUint(num, 10, 32); ok && err == nil {
			m[name] = uint32(n)
		}
	}
	return m
}
