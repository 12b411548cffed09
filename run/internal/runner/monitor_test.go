package runner

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"cooper/run/internal/life"
	"cooper/run/internal/wire"
)

// idleMonitor is a monitor whose container runs in name only.
func idleMonitor(t *testing.T, req life.Request) *monitor {
	t.Helper()
	name := t.TempDir()
	dir, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dir.Close() })
	req.Journal = filepath.Join(name, "events.log")
	return &monitor{
		req: &req, dir: dir, restart: req.Restart, watchers: make(map[chan struct{}]bool),
		state: life.State{Status: life.StatusRunning, Health: &life.HealthState{Status: life.HealthStarting}},
	}
}

// TestHealthRules: + is a check that succeeds, - one that fails, and in the start
// period they are p and m.
func TestHealthRules(t *testing.T) {
	for _, tt := range []struct {
		checks, want string
		streak       int
	}{
		{"", life.HealthStarting, 0},
		{"+", life.HealthHealthy, 0},
		{"-", life.HealthStarting, 1},
		{"--", life.HealthStarting, 2},
		{"---", life.HealthUnhealthy, 3},
		{"--+", life.HealthHealthy, 0},
		{"+--", life.HealthHealthy, 2},
		{"+---", life.HealthUnhealthy, 3},
		{"---+", life.HealthHealthy, 0},
		{"mmmmmm", life.HealthStarting, 0},
		{"mmmm--", life.HealthStarting, 2},
		{"pmmm", life.HealthUnhealthy, 3}, // it has been up: the start period is over
	} {
		m := idleMonitor(t, life.Request{Health: &life.HealthConfig{}})
		for _, c := range tt.checks {
			r := life.HealthResult{ExitCode: 1}
			if c == '+' || c == 'p' {
				r.ExitCode = 0
			}
			m.noteHealth(r, c == 'm' || c == 'p')
		}
		if h := m.state.Health; h.Status != tt.want || h.FailingStreak != tt.streak || len(h.Log) != min(len(tt.checks), checksKept) {
			t.Errorf("after %q: %s, streak %d, %d results, want %s, %d", tt.checks, h.Status, h.FailingStreak, len(h.Log), tt.want, tt.streak)
		}
	}
}

func TestRestarts(t *testing.T) {
	for _, tt := range []struct {
		policy string
		max    int
		count  int
		end    wire.Event
		want   bool
	}{
		{"", 0, 0, wire.Event{ExitCode: 1}, false},
		{"no", 0, 0, wire.Event{ExitCode: 1}, false},
		{"always", 0, 99, wire.Event{}, true},
		{"unless-stopped", 0, 0, wire.Event{}, true},
		{"on-failure", 0, 99, wire.Event{ExitCode: 1}, true},
		{"on-failure", 0, 0, wire.Event{}, false},
		{"on-failure", 0, 0, wire.Event{Code: 127}, true},
		{"on-failure", 2, 1, wire.Event{ExitCode: 1}, true},
		{"on-failure", 2, 2, wire.Event{ExitCode: 1}, false},
	} {
		m := idleMonitor(t, life.Request{Restart: life.RestartPolicy{Name: tt.policy, MaxRetries: tt.max}})
		m.up, m.state.RestartCount = true, tt.count
		if got := m.restarts(&tt.end); got != tt.want {
			t.Errorf("%s:%d after %d restarts and %+v: %v", tt.policy, tt.max, tt.count, tt.end, got)
		}
		m.up = false
		if m.restarts(&tt.end) {
			t.Errorf("%s: started again although it never ran", tt.policy)
		}
		m.up, m.stopping = true, true
		if m.restarts(&tt.end) {
			t.Errorf("%s: started again although it was stopped", tt.policy)
		}
	}
}

func TestBackoff(t *testing.T) {
	delay := time.Duration(0)
	for i, want := range []time.Duration{100, 200, 400, 800, 1600, 3200, 6400, 12800, 25600, 51200, 60000, 60000} {
		if delay = backoff(delay, time.Second); delay != want*time.Millisecond {
			t.Errorf("wait %d is %v, want %v", i, delay, want*time.Millisecond)
		}
	}
	if got := backoff(delay, 10*time.Second); got != 100*time.Millisecond {
		t.Errorf("after a long run: %v", got)
	}
}
