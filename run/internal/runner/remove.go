package runner

import "os/exec"

// remove starts the program that removes the container, if nobody else does: the
// command that started it is gone, or never meant to stay. Should that fail, a later
// command that looks removes it.
func (m *monitor) remove() {
	detached := !m.req.Foreground && m.req.Attach == nil
	m.mu.Lock()
	left := m.left || detached
	m.mu.Unlock()
	if !left || len(m.req.Remover) == 0 {
		return
	}
	m.r.reaper.calls.RLock()
	defer m.r.reaper.calls.RUnlock()
	cmd := exec.Command(m.req.Remover[0], m.req.Remover[1:]...)
	cmd.Env = m.req.Environment
	_ = cmd.Run()
}
