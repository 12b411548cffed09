package process

import (
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// reserved are descriptors for what is not a container's connection, such as the
// connections of those who use the network.
const reserved = 512

// budget is how many descriptors containers' connections may still take. When there
// are none left new ones are refused, and the process goes on for the others.
type budget struct{ left atomic.Int64 }

// newBudget leaves most of what the process may have, which package os has raised as
// far as it may.
func newBudget() *budget {
	b := &budget{}
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		limit.Cur = 1024
	}
	b.left.Store(int64(max(limit.Cur, 2*reserved) - reserved))
	return b
}

// take takes one and reports whether there was one.
func (b *budget) take() bool {
	if b.left.Add(-1) >= 0 {
		return true
	}
	b.left.Add(1)
	return false
}

// give gives one back.
func (b *budget) give() { b.left.Add(1) }
