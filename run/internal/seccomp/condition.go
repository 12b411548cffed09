package seccomp

import (
	"fmt"
	"math"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/net/bpf"
)

// BPF's accumulator has 32 bits and a system call's arguments have 64, so each
// condition looks at the high half first and at the low half if that is equal.

// Targets of a condition's jumps, resolved by code once lengths are known.
const (
	next = iota // the next instruction
	pass        // the condition holds: to the code after this condition
	fail        // it does not: to the code after this rule
)

// step is an instruction whose jumps are still symbolic.
type step struct {
	ins     bpf.Instruction
	onTrue  int
	onFalse int
}

func load(off uint32) step { return step{ins: bpf.LoadAbsolute{Off: off, Size: 4}} }

func mask(m uint32) step { return step{ins: bpf.ALUOpConstant{Op: bpf.ALUOpAnd, Val: m}} }

func jump(c bpf.JumpTest, v uint32, onTrue, onFalse int) step {
	return step{ins: bpf.JumpIf{Cond: c, Val: v}, onTrue: onTrue, onFalse: onFalse}
}

// condition makes the steps for one argument, on a little-endian machine.
func condition(a specs.LinuxSeccompArg) ([]step, error) {
	low := offArgs + 8*uint32(a.Index)
	high := low + 4
	vh, vl := uint32(a.Value>>32), uint32(a.Value&math.MaxUint32)
	// ordered compares by the high half; equal high halves leave it to the low.
	ordered := func(c bpf.JumpTest, onTrue, onFalse int) []step {
		highLess, highGreater := onFalse, onTrue
		return []step{
			load(high),
			jump(bpf.JumpGreaterThan, vh, highGreater, next),
			jump(bpf.JumpEqual, vh, next, highLess),
			load(low),
			jump(c, vl, onTrue, onFalse),
		}
	}
	switch a.Op {
	case specs.OpEqualTo:
		return []step{load(high), jump(bpf.JumpEqual, vh, next, fail), load(low), jump(bpf.JumpEqual, vl, pass, fail)}, nil
	case specs.OpNotEqual:
		return []step{load(high), jump(bpf.JumpEqual, vh, next, pass), load(low), jump(bpf.JumpEqual, vl, fail, pass)}, nil
	case specs.OpMaskedEqual:
		want := a.ValueTwo
		return []step{
			load(high), mask(vh), jump(bpf.JumpEqual, uint32(want>>32), next, fail),
			load(low), mask(vl), jump(bpf.JumpEqual, uint32(want&math.MaxUint32), pass, fail),
		}, nil
	case specs.OpGreaterThan:
		return ordered(bpf.JumpGreaterThan, pass, fail), nil
	case specs.OpGreaterEqual:
		return ordered(bpf.JumpGreaterOrEqual, pass, fail), nil
	case specs.OpLessThan: // not greater or equal
		return ordered(bpf.JumpGreaterOrEqual, fail, pass), nil
	case specs.OpLessEqual:
		return ordered(bpf.JumpGreaterThan, fail, pass), nil
	}
	return nil, fmt.Errorf("operator %q", a.Op)
}

// code returns r.ret if all conditions hold and runs on behind itself if not.
func (r rule) code() ([]bpf.Instruction, error) {
	var steps []step
	ends := []int{} // ends[i] is where the condition of step i ends
	for _, a := range r.args {
		c, err := condition(a)
		if err != nil {
			return nil, err
		}
		for range c {
			ends = append(ends, len(steps)+len(c))
		}
		steps = append(steps, c...)
	}
	out := make([]bpf.Instruction, 0, len(steps)+1)
	for i, s := range steps {
		if j, ok := s.ins.(bpf.JumpIf); ok {
			skip := map[int]int{next: 0, pass: ends[i] - i - 1, fail: len(steps) - i}
			j.SkipTrue, j.SkipFalse = uint8(skip[s.onTrue]), uint8(skip[s.onFalse])
			s.ins = j
		}
		out = append(out, s.ins)
	}
	return append(out, bpf.RetConstant{Val: r.ret}), nil
}
