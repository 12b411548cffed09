// Package seccomp compiles a runtime-spec's seccomp profile to a classic BPF
// program for seccomp(2), in Go: libseccomp would need 26 ms for Docker's default
// profile in every container, this needs less than 1 ms once per process.
//
// The program decides as runc's (which uses libseccomp): the first rule of a
// system call that matches counts; rules with the default action are left out; two
// conditions on one argument are alternatives; a system call newer than all that
// the profile names gets ENOSYS instead of a refusal, so that libraries fall back
// to older ones. A process of an architecture that the profile does not list is
// killed. On amd64 calls in the x32 numbering get ENOSYS.
package seccomp

import (
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// Filter is a compiled profile: what seccomp(2) takes.
type Filter struct {
	// Program is an array of struct sock_filter in native byte order.
	Program []byte
	// Flags are SECCOMP_FILTER_FLAG_ bits.
	Flags uint32
}

// Offsets in struct seccomp_data.
const (
	offNumber = 0
	offArch   = 4
	offArgs   = 16
)

const (
	retENOSYS = uint32(unix.SECCOMP_RET_ERRNO) | uint32(unix.ENOSYS)
	// x32Bit marks x32's system calls, which share amd64's architecture number.
	x32Bit = 0x40000000
	// maxProgram is the kernel's BPF_MAXINSNS.
	maxProgram = 4096
)

// Compile compiles p; nil gives an empty Filter.
func Compile(p *specs.LinuxSeccomp) (Filter, error) {
	if p == nil {
		return Filter{}, nil
	}
	prog, err := assemble(p)
	if err != nil {
		return Filter{}, fmt.Errorf("seccomp profile: %w", err)
	}
	flags, err := flagBits(p.Flags)
	if err != nil {
		return Filter{}, fmt.Errorf("seccomp profile: %w", err)
	}
	out := make([]byte, 0, 8*len(prog))
	for _, i := range prog {
		out = binary.NativeEndian.AppendUint16(out, i.Op)
		out = append(out, i.Jt, i.Jf)
		out = binary.NativeEndian.AppendUint32(out, i.K)
	}
	return Filter{Program: out, Flags: flags}, nil
}

func assemble(p *specs.LinuxSeccomp) ([]bpf.RawInstruction, error) {
	if len(tables) == 0 {
		return nil, fmt.Errorf("no system call table for %s", runtime.GOARCH)
	}
	rules, err := newRules(p)
	if err != nil {
		return nil, err
	}
	prog := []bpf.Instruction{bpf.LoadAbsolute{Off: offArch, Size: 4}}
	for i := range tables {
		t := &tables[i]
		if i > 0 && !slices.Contains(p.Architectures, t.name) {
			continue // not the native one, and not asked for
		}
		body, err := rules.compile(t)
		if err != nil {
			return nil, err
		}
		prog = append(prog,
			bpf.JumpIf{Cond: bpf.JumpEqual, Val: t.audit, SkipTrue: 1},
			bpf.Jump{Skip: uint32(len(body))})
		prog = append(prog, body...)
	}
	prog = append(prog, bpf.RetConstant{Val: uint32(unix.SECCOMP_RET_KILL_PROCESS)})
	if len(prog) > maxProgram {
		return nil, fmt.Errorf("%d instructions, the kernel takes %d", len(prog), maxProgram)
	}
	return bpf.Assemble(prog)
}

// returnValue is what a filter returns for an action. Refusals without an error
// number are EPERM.
func returnValue(a specs.LinuxSeccompAction, errno *uint) (uint32, error) {
	n := uint32(unix.EPERM)
	if errno != nil {
		n = uint32(*errno) & unix.SECCOMP_RET_DATA
	}
	switch a {
	case specs.ActKill, specs.ActKillThread:
		return unix.SECCOMP_RET_KILL_THREAD, nil
	case specs.ActKillProcess:
		return unix.SECCOMP_RET_KILL_PROCESS, nil
	case specs.ActTrap:
		return unix.SECCOMP_RET_TRAP, nil
	case specs.ActErrno:
		return unix.SECCOMP_RET_ERRNO | n, nil
	case specs.ActTrace:
		return unix.SECCOMP_RET_TRACE | n, nil
	case specs.ActLog:
		return unix.SECCOMP_RET_LOG, nil
	case specs.ActAllow:
		return unix.SECCOMP_RET_ALLOW, nil
	case specs.ActNotify:
		return 0, errors.New("SCMP_ACT_NOTIFY is not supported")
	}
	return 0, fmt.Errorf("unknown action %q", a)
}

// permissive says whether an action lets the call through, in some way.
func permissive(a specs.LinuxSeccompAction) bool {
	return a == specs.ActAllow || a == specs.ActLog || a == specs.ActTrace
}

// flagBits: without any flag runc sets SPEC_ALLOW, so that a filter does not cost
// the slow mitigation of speculative store bypass.
func flagBits(flags []specs.LinuxSeccompFlag) (uint32, error) {
	if flags == nil {
		return unix.SECCOMP_FILTER_FLAG_SPEC_ALLOW, nil
	}
	var bits uint32
	for _, f := range flags {
		switch f {
		case "SECCOMP_FILTER_FLAG_TSYNC": // the stage has one thread
		case specs.LinuxSeccompFlagLog:
			bits |= unix.SECCOMP_FILTER_FLAG_LOG
		case specs.LinuxSeccompFlagSpecAllow:
			bits |= unix.SECCOMP_FILTER_FLAG_SPEC_ALLOW
		default:
			return 0, fmt.Errorf("flag %s is not supported", f)
		}
	}
	return bits, nil
}
