package runner

import (
	"errors"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"cooper/run/internal/life"
)

// errNotRunning says that a request needs a running container.
var errNotRunning = errors.New("the container is not running")

// pause stops all processes of the container until resume: by its cgroup or, where
// it has none, by SIGSTOP, which processes can see and undo.
func (m *monitor) pause() error {
	c, err := m.container()
	if err != nil {
		return err
	}
	if c.req.NoCgroup {
		err = c.signalAll(unix.SIGSTOP)
	} else {
		err = c.engine.pause()
	}
	if err != nil {
		return fmt.Errorf("pause: %w", err)
	}
	m.change(func(s *life.State) { s.Status = life.StatusPaused })
	m.event("pause", nil)
	return nil
}

// resume undoes pause, if c is paused.
func (m *monitor) resume(c *container) error {
	m.mu.Lock()
	paused := m.current == c && m.state.Status == life.StatusPaused
	m.mu.Unlock()
	if !paused {
		return nil
	}
	var err error
	if c.req.NoCgroup {
		err = c.signalAll(unix.SIGCONT)
	} else {
		err = c.engine.resume()
	}
	if err != nil {
		return fmt.Errorf("unpause: %w", err)
	}
	m.change(func(s *life.State) { s.Status = life.StatusRunning })
	m.event("unpause", nil)
	return nil
}

// container returns the container if it runs and is not paused.
func (m *monitor) container() (*container, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case m.current == nil || !m.state.Running():
		return nil, errNotRunning
	case m.state.Status == life.StatusPaused:
		return nil, errors.New("the container is paused: unpause it first")
	}
	return m.current, nil
}

// signalAll signals every process in the container's process id namespace.
func (c *container) signalAll(sig unix.Signal) error {
	own, err := os.Readlink("/proc/self/ns/pid")
	if err != nil {
		return err
	}
	namespace, err := os.Readlink("/proc/" + strconv.Itoa(c.process.pid()) + "/ns/pid")
	if err != nil {
		return err
	}
	if namespace == own {
		return errors.New("without a cgroup and process ids of its own it cannot be done")
	}
	all, err := os.ReadDir("/proc")
	if err != nil {
		return err
	}
	for _, e := range all {
		n, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if ns, err := os.Readlink("/proc/" + e.Name() + "/ns/pid"); err == nil && ns == namespace {
			unix.Kill(n, sig)
		}
	}
	return nil
}
