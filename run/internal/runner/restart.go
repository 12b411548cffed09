package runner

import (
	"cmp"
	"errors"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"cooper/run/internal/life"
	"cooper/run/internal/wire"
)

// Docker's waits between a container's end and its next start: doubling, and from
// the beginning again after a run that lasted a while.
const (
	firstDelay = 100 * time.Millisecond
	lastDelay  = time.Minute
	longRun    = 10 * time.Second
)

// next decides about the container's next start after its end, and waits for it.
// It returns the delay that was due, for the next time.
func (m *monitor) next(end *wire.Event, delay time.Duration) (time.Duration, bool) {
	m.mu.Lock()
	again, wanted, wake := m.again != nil && !m.stopping, m.restarts(end), m.wake
	m.current = nil
	close(m.ended)
	m.mu.Unlock()
	code := end.ExitCode
	if end.Code != 0 {
		code = end.Code
	}
	if !end.Started.IsZero() {
		m.event("die", map[string]string{"exitCode": strconv.Itoa(code)})
	}
	if end.OOMKilled {
		m.event("oom", nil)
	}
	if again {
		m.settle(end, code, 0)
		return 0, true
	}
	if !wanted {
		return delay, false
	}
	delay = backoff(delay, end.Finished.Sub(end.Started))
	m.settle(end, code, 1)
	timer := time.NewTimer(delay)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-wake:
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return delay, !m.stopping
}

// backoff is the wait after a run that took so long, when the one before it was
// followed by the wait last.
func backoff(last, ran time.Duration) time.Duration {
	if last == 0 || ran >= longRun {
		return firstDelay
	}
	return min(2*last, lastDelay)
}

// settle writes down that the container will be started again. As with docker, who is
// attached sees one run only.
func (m *monitor) settle(end *wire.Event, code, count int) {
	m.change(func(s *life.State) {
		s.Status, s.PID, s.StartTime, s.Cgroups = life.StatusRestarting, 0, 0, nil
		s.ExitCode, s.OOMKilled, s.Error, s.Finished = code, end.OOMKilled, end.Error, end.Finished
		s.RestartCount += count
		m.last = *end
		close(m.parted)
		m.parted = make(chan struct{})
	})
	if a := m.req.Attach; a != nil && !a.Lasting {
		m.starter.Send(wire.KindEnded, *end) // it may be gone
	}
}

// restarts reports whether the policy wants the container to be started again. It
// is called with mu held.
func (m *monitor) restarts(end *wire.Event) bool {
	if m.stopping || m.req.Foreground || !m.up {
		return false
	}
	switch m.restart.Name {
	case "always", "unless-stopped":
		return true
	case "on-failure":
		failed := end.ExitCode != 0 || end.Code != 0
		return failed && (m.restart.MaxRetries == 0 || m.state.RestartCount < m.restart.MaxRetries)
	}
	return false
}

// stop ends the container for good and returns when its last state is written. What
// is not stopped by the user is to run again after a boot.
func (m *monitor) stop(s life.Stop, byUser bool) {
	m.mu.Lock()
	c, ended := m.current, m.ended
	m.stopping, m.state.StoppedByUser = true, byUser
	m.wakeUp()
	m.mu.Unlock()
	m.end(c, ended, s)
	<-m.over
}

// startAgain ends the container and returns when it has been started once more, or
// could not be.
func (m *monitor) startAgain(s life.Stop) error {
	m.mu.Lock()
	c, ended := m.current, m.ended
	if m.again == nil {
		m.again = make(chan struct{})
	}
	again := m.again
	m.wakeUp()
	m.mu.Unlock()
	m.end(c, ended, s)
	select {
	case <-again:
		return nil
	case <-m.over:
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.state.Error != "" {
		return errors.New(m.state.Error)
	}
	return errNotRunning
}

// end ends a run of the container: with a last chance, then at once. Between two
// runs c is nil, and there is nothing to end.
func (m *monitor) end(c *container, ended <-chan struct{}, s life.Stop) {
	if c == nil {
		return
	}
	_ = m.resume(c) // what can't be resumed can still be killed
	c.signal(unix.Signal(cmp.Or(s.Signal, m.req.StopSignal)))
	var kill <-chan time.Time
	if s.Grace >= 0 {
		timer := time.NewTimer(s.Grace)
		defer timer.Stop()
		kill = timer.C
	}
	select {
	case <-ended:
		return
	case <-kill:
	}
	c.signal(unix.SIGKILL)
	<-ended
}

// kill sends a signal to the container. One that is meant to end it keeps the
// policy from starting it again, as docker's kill does.
func (m *monitor) kill(sig unix.Signal) bool {
	m.mu.Lock()
	c := m.current
	final := sig == unix.SIGKILL || int(sig) == m.req.StopSignal
	if c != nil && final {
		m.stopping, m.state.StoppedByUser = true, true
	}
	m.mu.Unlock()
	if c == nil {
		return false
	}
	if sig == unix.SIGKILL {
		_ = m.resume(c)
	}
	c.signal(sig)
	return true
}

// wakeUp ends a wait between two runs. It is called with mu held.
func (m *monitor) wakeUp() {
	close(m.wake)
	m.wake = make(chan struct{})
}

// signalled stops the container when this process is to end, as service managers
// ask for. A terminal that goes away is no reason.
func (m *monitor) signalled(s os.Signal) {
	if s != unix.SIGHUP {
		go m.stop(life.Stop{Grace: m.req.StopTimeout}, false)
	}
}
