package seccomp

import (
	"fmt"
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/net/bpf"
)

// rule is one alternative for a system call: all conditions must hold.
type rule struct {
	ret  uint32
	args []specs.LinuxSeccompArg
}

// rules are a profile's, by the system call's name and in the profile's order.
type rules struct {
	byName map[string][]rule
	// def is what is returned when no rule matches, and newer what a call
	// gets that is newer than every one that the profile names.
	def, newer uint32
	// names of calls in rules of any action, for the newest one.
	known map[string]bool
}

func newRules(p *specs.LinuxSeccomp) (*rules, error) {
	def, err := returnValue(p.DefaultAction, p.DefaultErrnoRet)
	if err != nil {
		return nil, fmt.Errorf("default action: %w", err)
	}
	rs := &rules{byName: map[string][]rule{}, known: map[string]bool{}, def: def, newer: retENOSYS}
	if permissive(p.DefaultAction) {
		rs.newer = def
	}
	for _, call := range p.Syscalls {
		ret, err := returnValue(call.Action, call.ErrnoRet)
		if err != nil {
			return nil, fmt.Errorf("system calls %v: %w", call.Names, err)
		}
		alternatives, err := split(ret, call.Args)
		if err != nil {
			return nil, fmt.Errorf("system calls %v: %w", call.Names, err)
		}
		for _, name := range call.Names {
			rs.known[name] = true
			if ret != def {
				rs.byName[name] = append(rs.byName[name], alternatives...)
			}
		}
	}
	return rs, nil
}

// split makes one rule of conditions on different arguments, and one for each
// condition as soon as two are about the same argument: what runc does.
func split(ret uint32, args []specs.LinuxSeccompArg) ([]rule, error) {
	seen, twice := map[uint]bool{}, false
	for _, a := range args {
		if a.Index > 5 {
			return nil, fmt.Errorf("argument %d", a.Index)
		}
		twice = twice || seen[a.Index]
		seen[a.Index] = true
	}
	if !twice {
		return []rule{{ret, args}}, nil
	}
	var out []rule
	for _, a := range args {
		out = append(out, rule{ret, []specs.LinuxSeccompArg{a}})
	}
	return out, nil
}

// compile makes the part of the program for one architecture.
func (rs *rules) compile(t *table) ([]bpf.Instruction, error) {
	calls := t.numbers()
	byNumber := map[uint32][]rule{}
	newest := uint32(0)
	for name := range rs.known {
		if n, ok := calls[name]; ok {
			newest = max(newest, n)
		}
	}
	for name, r := range rs.byName {
		if n, ok := calls[name]; ok {
			byNumber[n] = append(byNumber[n], r...)
		}
	}
	prog := []bpf.Instruction{bpf.LoadAbsolute{Off: offNumber, Size: 4}}
	if t.x32 {
		prog = append(prog, bpf.JumpIf{Cond: bpf.JumpGreaterOrEqual, Val: x32Bit, SkipFalse: 1}, bpf.RetConstant{Val: retENOSYS})
	}
	if rs.newer != rs.def {
		prog = append(prog, bpf.JumpIf{Cond: bpf.JumpGreaterThan, Val: newest, SkipFalse: 1}, bpf.RetConstant{Val: rs.newer})
	}
	numbers := make([]uint32, 0, len(byNumber))
	for n := range byNumber {
		numbers = append(numbers, n)
	}
	slices.Sort(numbers)
	for i := 0; i < len(numbers); {
		n := numbers[i]
		if ret, ok := unconditional(byNumber[n]); ok {
			last := i
			for last+1 < len(numbers) && numbers[last+1] == numbers[last]+1 && returns(byNumber[numbers[last+1]], ret) {
				last++
			}
			prog = append(prog, matchRange(n, numbers[last], ret)...)
			i = last + 1
			continue
		}
		body, err := rs.body(byNumber[n])
		if err != nil {
			return nil, fmt.Errorf("system call %d: %w", n, err)
		}
		prog = append(prog, bpf.JumpIf{Cond: bpf.JumpEqual, Val: n, SkipFalse: uint8(len(body))})
		prog = append(prog, body...)
		i++
	}
	return append(prog, bpf.RetConstant{Val: rs.def}), nil
}

// unconditional returns what a system call without conditions returns.
func unconditional(rs []rule) (uint32, bool) { return rs[0].ret, len(rs[0].args) == 0 }

func returns(rs []rule, ret uint32) bool {
	r, ok := unconditional(rs)
	return ok && r == ret
}

// matchRange returns ret for the numbers from first to last.
func matchRange(first, last, ret uint32) []bpf.Instruction {
	if first == last {
		return []bpf.Instruction{bpf.JumpIf{Cond: bpf.JumpEqual, Val: first, SkipFalse: 1}, bpf.RetConstant{Val: ret}}
	}
	return []bpf.Instruction{
		bpf.JumpIf{Cond: bpf.JumpGreaterOrEqual, Val: first, SkipFalse: 2},
		bpf.JumpIf{Cond: bpf.JumpGreaterThan, Val: last, SkipTrue: 1},
		bpf.RetConstant{Val: ret},
	}
}

// body tries the rules of one system call in order and ends with the default.
func (rs *rules) body(alternatives []rule) ([]bpf.Instruction, error) {
	var body []bpf.Instruction
	for _, r := range alternatives {
		code, err := r.code()
		if err != nil {
			return nil, err
		}
		body = append(body, code...)
		if len(r.args) == 0 {
			break
		}
	}
	if last := alternatives[len(alternatives)-1]; len(last.args) > 0 {
		body = append(body, bpf.RetConstant{Val: rs.def})
	}
	if len(body) > 255 {
		return nil, fmt.Errorf("%d instructions of conditions, 255 is the most", len(body))
	}
	return body, nil
}
