package seccomp

import (
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

var tables = []table{
	{name: specs.ArchX86_64, audit: unix.AUDIT_ARCH_X86_64, x32: true, calls: callsAmd64},
	{name: specs.ArchX86, audit: unix.AUDIT_ARCH_I386, calls: calls386},
}
