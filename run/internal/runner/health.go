package runner

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"cooper/run/internal/life"
	"cooper/run/internal/wire"
)

// Docker's defaults of a health check, and what it keeps of the results.
const (
	checkInterval      = 30 * time.Second
	checkTimeout       = 30 * time.Second
	checkStartInterval = 5 * time.Second
	checkRetries       = 3
	checksKept         = 5
	outputKept         = 4096
)

// checkHealth checks the container's health until it has ended.
func (m *monitor) checkHealth(c *container, ended <-chan struct{}) {
	h := m.req.Health
	begin := time.Now()
	for {
		wait := cmp.Or(h.Interval, checkInterval)
		if m.healthStarting() && time.Since(begin) < h.StartPeriod {
			wait = cmp.Or(h.StartInterval, checkStartInterval)
		}
		timer := time.NewTimer(wait)
		select {
		case <-ended:
			timer.Stop()
			return
		case <-timer.C:
		}
		if running, err := m.container(); err != nil || running != c {
			continue // paused
		}
		m.noteHealth(m.check(c), time.Since(begin) < h.StartPeriod)
	}
}

func (m *monitor) healthStarting() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.state.Health != nil && m.state.Health.Status == life.HealthStarting
}

// checkNow checks the container's health out of turn.
func (m *monitor) checkNow() error {
	if m.req.Health == nil {
		return errors.New("the container has no health check")
	}
	c, err := m.container()
	if err != nil {
		return err
	}
	m.noteHealth(m.check(c), false)
	return nil
}

// check runs the check once. Its processes are killed when it takes too long.
func (m *monitor) check(c *container) life.HealthResult {
	timeout := cmp.Or(m.req.Health.Timeout, checkTimeout)
	result := life.HealthResult{Start: time.Now()}
	output := &limited{}
	req := &life.Exec{Stage: m.req.Run.Stage, Stdio: [3]int{wire.NoFile, wire.NoFile, wire.NoFile}}
	req.Stage.Args, req.Stage.Init = m.req.Health.Test, false
	if m.req.Run.Command != nil {
		p := *m.req.Run.Spec.Process
		p.Args, req.Process = m.req.Health.Test, &p
	}
	r, w, err := pipe(false)
	if err != nil {
		result.ExitCode, result.Output, result.End = -1, err.Error(), time.Now()
		return result
	}
	req.Stdio[streamOut], req.Stdio[streamErr] = 0, 0
	var reading sync.WaitGroup
	reading.Go(func() { io.Copy(output, r) })
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	s := &session{c: c, req: req, files: []*os.File{w}, started: func(p process) {
		context.AfterFunc(ctx, func() { killSession(p) })
	}}
	done := make(chan wire.Event, 1)
	go func() { done <- s.run() }()
	end := <-done
	m.worked()
	late := ctx.Err() != nil
	w.Close()
	r.SetReadDeadline(time.Now().Add(100 * time.Millisecond)) // what it has left running may hold it
	reading.Wait()
	r.Close()
	result.End, result.ExitCode, result.Output = time.Now(), end.ExitCode, output.String()
	switch {
	case late:
		result.ExitCode = -1
		result.Output = fmt.Sprintf("Health check exceeded timeout (%v)", timeout)
		if text := output.String(); text != "" {
			result.Output += ": " + text
		}
	case end.Code != 0:
		result.ExitCode, result.Output = end.Code, end.Error
	}
	return result
}

// killSession kills a check: its process leads a session and a group.
func killSession(p process) {
	_ = unix.Kill(-p.pid(), unix.SIGKILL)
	_ = p.signal(unix.SIGKILL)
}

// noteHealth adds a result to the state. As with docker, one that fails in the
// start period counts only after one that succeeded.
func (m *monitor) noteHealth(r life.HealthResult, starting bool) {
	var before, after string
	m.change(func(s *life.State) {
		if s.Health == nil || !s.Running() {
			return
		}
		h := *s.Health // the old one may be on its way to a watcher
		before = h.Status
		h.Log = append(append([]life.HealthResult(nil), h.Log...), r)
		h.Log = h.Log[max(len(h.Log)-checksKept, 0):]
		switch {
		case r.ExitCode == 0:
			h.Status, h.FailingStreak = life.HealthHealthy, 0
		case starting && h.Status == life.HealthStarting:
		default:
			h.FailingStreak++
			if h.FailingStreak >= cmp.Or(m.req.Health.Retries, checkRetries) {
				h.Status = life.HealthUnhealthy
			}
		}
		after = h.Status
		s.Health = &h
	})
	if before != after {
		m.event("health_status: "+after, nil)
	}
}

// limited keeps the beginning of what is written to it.
type limited struct {
	buf bytes.Buffer
}

func (l *limited) Write(b []byte) (int, error) {
	l.buf.Write(b[:min(len(b), outputKept-l.buf.Len())])
	return len(b), nil
}

func (l *limited) String() string { return l.buf.String() }
