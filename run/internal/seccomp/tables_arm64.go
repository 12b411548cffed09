package seccomp

import (
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

var tables = []table{
	{name: specs.ArchAARCH64, audit: unix.AUDIT_ARCH_AARCH64, calls: callsArm64},
	{name: specs.ArchARM, audit: unix.AUDIT_ARCH_ARM, calls: callsArm},
}
