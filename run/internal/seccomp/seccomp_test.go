package seccomp

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	profile "github.com/moby/profiles/seccomp"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// call is what the kernel shows to a filter.
type call struct {
	arch, number uint32
	args         [6]uint64
}

// machine runs a compiled profile.
type machine struct{ vm *bpf.VM }

func compile(t testing.TB, p *specs.LinuxSeccomp) machine {
	t.Helper()
	raw, err := assemble(p)
	if err != nil {
		t.Fatal(err)
	}
	prog, ok := bpf.Disassemble(raw)
	if !ok {
		t.Fatal("program does not disassemble")
	}
	vm, err := bpf.NewVM(prog)
	if err != nil {
		t.Fatal(err)
	}
	return machine{vm}
}

// run answers for one call. The VM reads its packet big-endian, word by word.
func (m machine) run(t testing.TB, c call) uint32 {
	t.Helper()
	b := make([]byte, 0, 64)
	b = binary.BigEndian.AppendUint32(b, c.number)
	b = binary.BigEndian.AppendUint32(b, c.arch)
	b = append(b, make([]byte, 8)...) // instruction pointer
	for _, a := range c.args {
		b = binary.BigEndian.AppendUint32(b, uint32(a))
		b = binary.BigEndian.AppendUint32(b, uint32(a>>32))
	}
	n, err := m.vm.Run(b)
	if err != nil {
		t.Fatal(err)
	}
	return uint32(n)
}

// expect reads the profile as its documentation does, with no BPF.
func expect(p *specs.LinuxSeccomp, c call) uint32 {
	i := slices.IndexFunc(tables, func(t table) bool { return t.audit == c.arch })
	if i < 0 || (i > 0 && !slices.Contains(p.Architectures, tables[i].name)) {
		return unix.SECCOMP_RET_KILL_PROCESS
	}
	if tables[i].x32 && c.number >= x32Bit {
		return retENOSYS
	}
	def, _ := returnValue(p.DefaultAction, p.DefaultErrnoRet)
	numbers := numbersOf(i)
	newest := uint32(0)
	for _, s := range p.Syscalls {
		for _, n := range s.Names {
			newest = max(newest, numbers[n])
		}
	}
	if c.number > newest && !permissive(p.DefaultAction) {
		return retENOSYS
	}
	for _, s := range p.Syscalls {
		ret, _ := returnValue(s.Action, s.ErrnoRet)
		for _, name := range s.Names {
			if n, ok := numbers[name]; !ok || n != c.number || ret == def {
				continue
			}
			if holds(s.Args, c) {
				return ret
			}
		}
	}
	return def
}

var parsed = map[int]map[string]uint32{}

func numbersOf(table int) map[string]uint32 {
	if parsed[table] == nil {
		parsed[table] = tables[table].numbers()
	}
	return parsed[table]
}

func holds(args []specs.LinuxSeccompArg, c call) bool {
	twice, seen := false, map[uint]bool{}
	for _, a := range args {
		twice = twice || seen[a.Index]
		seen[a.Index] = true
	}
	n := 0
	for _, a := range args {
		v := c.args[a.Index]
		var ok bool
		switch a.Op {
		case specs.OpEqualTo:
			ok = v == a.Value
		case specs.OpNotEqual:
			ok = v != a.Value
		case specs.OpMaskedEqual:
			ok = v&a.Value == a.ValueTwo
		case specs.OpGreaterThan:
			ok = v > a.Value
		case specs.OpGreaterEqual:
			ok = v >= a.Value
		case specs.OpLessThan:
			ok = v < a.Value
		case specs.OpLessEqual:
			ok = v <= a.Value
		}
		if ok {
			n++
		}
	}
	if twice {
		return n > 0
	}
	return n == len(args)
}

// values are arguments worth trying: those the profile names and their neighbours.
func values(p *specs.LinuxSeccomp, r *rand.Rand) []uint64 {
	v := []uint64{0, 1, ^uint64(0), 1 << 32, 1<<32 - 1, 1 << 63}
	for _, s := range p.Syscalls {
		for _, a := range s.Args {
			v = append(v, a.Value, a.Value-1, a.Value+1, a.ValueTwo, a.Value|1<<32, a.Value|1<<40)
		}
	}
	for range 8 {
		v = append(v, r.Uint64())
	}
	return v
}

func defaultProfile(t testing.TB, caps ...string) *specs.LinuxSeccomp {
	t.Helper()
	p, err := profile.GetDefaultProfile(&specs.Spec{
		Process: &specs.Process{Capabilities: &specs.LinuxCapabilities{Bounding: caps}},
		Linux:   &specs.Linux{},
	})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func errno(n uint) *uint { return &n }

// TestDecisions compares the compiled programs with the profiles, call by call.
func TestDecisions(t *testing.T) {
	arches := []specs.Arch{specs.ArchX86_64, specs.ArchX86, specs.ArchAARCH64, specs.ArchARM}
	ops := func(op specs.LinuxSeccompOperator) *specs.LinuxSeccomp {
		return &specs.LinuxSeccomp{
			DefaultAction: specs.ActErrno, Architectures: arches,
			Syscalls: []specs.LinuxSyscall{
				{Names: []string{"read"}, Action: specs.ActAllow, Args: []specs.LinuxSeccompArg{{Index: 1, Value: 5<<32 | 7, ValueTwo: 5<<32 | 5, Op: op}}},
				{Names: []string{"openat2"}, Action: specs.ActAllow},
			},
		}
	}
	profiles := map[string]*specs.LinuxSeccomp{
		"docker's default":                    defaultProfile(t, "CAP_CHOWN"),
		"docker's default with CAP_SYS_ADMIN": defaultProfile(t, "CAP_SYS_ADMIN", "CAP_SYS_PTRACE", "CAP_BPF"),
		"native architecture only":            {DefaultAction: specs.ActErrno, Syscalls: []specs.LinuxSyscall{{Names: []string{"read", "write"}, Action: specs.ActAllow}}},
		"deny list": {DefaultAction: specs.ActAllow, Architectures: arches, Syscalls: []specs.LinuxSyscall{
			{Names: []string{"mkdir", "mkdirat"}, Action: specs.ActErrno, ErrnoRet: errno(17)},
			{Names: []string{"ptrace"}, Action: specs.ActKillProcess},
			{Names: []string{"kill"}, Action: specs.ActLog},
			{Names: []string{"no_such_call"}, Action: specs.ActTrap},
		}},
		"first rule counts": {DefaultAction: specs.ActErrno, Syscalls: []specs.LinuxSyscall{
			{Names: []string{"read"}, Action: specs.ActErrno, ErrnoRet: errno(9), Args: []specs.LinuxSeccompArg{{Index: 0, Value: 1, Op: specs.OpEqualTo}}},
			{Names: []string{"read"}, Action: specs.ActAllow},
			{Names: []string{"read"}, Action: specs.ActKill},
		}},
		"two conditions on two arguments": {DefaultAction: specs.ActErrno, Syscalls: []specs.LinuxSyscall{
			{Names: []string{"read"}, Action: specs.ActAllow, Args: []specs.LinuxSeccompArg{
				{Index: 0, Value: 1, Op: specs.OpGreaterThan}, {Index: 1, Value: 1 << 40, Op: specs.OpLessEqual}}},
		}},
		"two conditions on one argument": {DefaultAction: specs.ActErrno, Syscalls: []specs.LinuxSyscall{
			{Names: []string{"read"}, Action: specs.ActAllow, Args: []specs.LinuxSeccompArg{
				{Index: 0, Value: 1, Op: specs.OpEqualTo}, {Index: 0, Value: 7, Op: specs.OpEqualTo}}},
		}},
		"no rules": {DefaultAction: specs.ActErrno, DefaultErrnoRet: errno(38)},
	}
	for _, op := range []specs.LinuxSeccompOperator{specs.OpEqualTo, specs.OpNotEqual, specs.OpMaskedEqual,
		specs.OpGreaterThan, specs.OpGreaterEqual, specs.OpLessThan, specs.OpLessEqual} {
		profiles[string(op)] = ops(op)
	}
	for name, p := range profiles {
		t.Run(name, func(t *testing.T) { compareDecisions(t, p) })
	}
}

func compareDecisions(t *testing.T, p *specs.LinuxSeccomp) {
	m, r := compile(t, p), rand.New(rand.NewPCG(1, 2))
	vals := values(p, r)
	archs := []uint32{unix.AUDIT_ARCH_RISCV64}
	for i := range tables {
		archs = append(archs, tables[i].audit)
	}
	named := map[uint32]bool{}
	for _, s := range p.Syscalls {
		for _, n := range s.Names {
			for i := range tables {
				if number, ok := numbersOf(i)[n]; ok && len(s.Args) > 0 {
					named[number] = true
				}
			}
		}
	}
	for _, arch := range archs {
		for number := range uint32(520) {
			for i, v := range vals {
				if i%7 != int(number)%7 && !named[number] {
					continue // most calls have no conditions
				}
				c := call{arch: arch, number: number}
				for k := range c.args {
					c.args[k] = v
				}
				c.args[1], c.args[2] = vals[(i*7+3)%len(vals)], vals[(i*5+1)%len(vals)]
				if number == 519 {
					c.number = x32Bit | uint32(i)
				}
				if got, want := m.run(t, c), expect(p, c); got != want {
					t.Fatalf("decision for %+v = %#x, want %#x", c, got, want)
				}
			}
		}
	}
}

// TestDefaultRefuses names what every container relies on.
func TestDefaultRefuses(t *testing.T) {
	m, numbers := compile(t, defaultProfile(t, "CAP_CHOWN")), tables[0].numbers()
	eperm, enosys := uint32(unix.SECCOMP_RET_ERRNO)|uint32(unix.EPERM), retENOSYS
	for name, want := range map[string]uint32{
		"read": unix.SECCOMP_RET_ALLOW, "execve": unix.SECCOMP_RET_ALLOW, "openat2": unix.SECCOMP_RET_ALLOW,
		"mount": eperm, "umount2": eperm, "unshare": eperm, "setns": eperm, "keyctl": eperm, "add_key": eperm,
		"bpf": eperm, "perf_event_open": eperm, "init_module": eperm, "kexec_load": eperm, "reboot": eperm,
		"swapon": eperm, "pivot_root": eperm, "open_by_handle_at": eperm, "userfaultfd": eperm, "clone3": enosys,
		"fsopen": eperm, "move_mount": eperm, "open_tree": eperm, "mount_setattr": eperm, "io_uring_setup": eperm,
	} {
		if got := m.run(t, call{arch: tables[0].audit, number: numbers[name]}); got != want {
			t.Errorf("%s: filter returns %#x, want %#x", name, got, want)
		}
	}
	if got := m.run(t, call{arch: tables[0].audit, number: 9999}); got != enosys {
		t.Errorf("a call from the future: filter returns %#x, want ENOSYS", got)
	}
}

func TestRefusedProfiles(t *testing.T) {
	for name, p := range map[string]*specs.LinuxSeccomp{
		"notify":           {DefaultAction: specs.ActAllow, Syscalls: []specs.LinuxSyscall{{Names: []string{"read"}, Action: specs.ActNotify}}},
		"unknown action":   {DefaultAction: "SCMP_ACT_MAYBE"},
		"no action":        {},
		"unknown operator": {DefaultAction: specs.ActErrno, Syscalls: []specs.LinuxSyscall{{Names: []string{"read"}, Action: specs.ActAllow, Args: []specs.LinuxSeccompArg{{Op: "SCMP_CMP_X"}}}}},
		"argument 6":       {DefaultAction: specs.ActErrno, Syscalls: []specs.LinuxSyscall{{Names: []string{"read"}, Action: specs.ActAllow, Args: []specs.LinuxSeccompArg{{Index: 6, Op: specs.OpEqualTo}}}}},
		"unknown flag":     {DefaultAction: specs.ActAllow, Flags: []specs.LinuxSeccompFlag{"SECCOMP_FILTER_FLAG_X"}},
	} {
		if f, err := Compile(p); err == nil {
			t.Errorf("Compile(%s) = %d bytes, want an error", name, len(f.Program))
		}
	}
	if f, err := Compile(nil); err != nil || len(f.Program) != 0 {
		t.Errorf("Compile(nil) = %v, %v, want no filter", f, err)
	}
}

func BenchmarkCompileDefault(b *testing.B) {
	p := defaultProfile(b, "CAP_CHOWN")
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Compile(p); err != nil {
			b.Fatal(err)
		}
	}
}

func ExampleCompile() {
	f, err := Compile(&specs.LinuxSeccomp{
		DefaultAction: specs.ActAllow,
		Syscalls:      []specs.LinuxSyscall{{Names: []string{"mkdirat"}, Action: specs.ActErrno}},
	})
	fmt.Println(len(f.Program) > 0, err)
	// Output: true <nil>
}
