package runner

import (
	"golang.org/x/sys/unix"
)

// remove becomes the program that removes the container, if nobody else does: the
// command that started it is gone. Should that fail, the next command that looks
// removes it.
func (m *monitor) remove() {
	m.mu.Lock()
	left := m.left
	m.mu.Unlock()
	if !left || m.req.Foreground || len(m.req.Remover) == 0 {
		return
	}
	_ = unix.Exec(m.req.Remover[0], m.req.Remover, m.req.Environment)
}
