package life

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"cooper/run/internal/network"
)

// Container states, as docker names them.
const (
	StatusCreated    = "created"
	StatusRunning    = "running"
	StatusPaused     = "paused"
	StatusRestarting = "restarting"
	StatusExited     = "exited"
	// StatusDead: its monitor was killed, and what it left can't be cleared
	// away.
	StatusDead = "dead"
)

// State is what is known of a container's life. The monitor keeps it as
// state.json; it is to be believed only while the monitor holds the lock.
type State struct {
	// Status is one of the Status constants.
	Status string
	// PID is the first process's, as the host sees it, and StartTime field
	// 22 of its /proc/PID/stat; 0 when it does not run.
	PID        int
	StartTime  uint64
	MonitorPID int
	// BootID is /proc/sys/kernel/random/boot_id of the last start.
	BootID string
	// ExitCode is the last run's; Error is why it did not start or what went
	// wrong at its end.
	ExitCode  int
	OOMKilled bool
	Error     string
	Started   time.Time
	Finished  time.Time
	// RestartCount counts the monitor's restarts, not the user's.
	RestartCount int
	// StoppedByUser keeps unless-stopped from starting it.
	StoppedByUser bool
	// Health is nil without a check.
	Health   *HealthState             `json:",omitempty"`
	Networks map[string]NetworkStatus `json:",omitempty"`
	// Ports are the published ones, with the host ports that were chosen.
	Ports []PortMapping `json:",omitempty"`
	// NetworkPath is the network namespace, for those who join it.
	NetworkPath string `json:",omitempty"`
	// Cgroups are the container's cgroup directories.
	Cgroups []string `json:",omitempty"`
}

// Alive reports whether the container has a monitor: it runs, is paused or is
// about to be started again.
func (s *State) Alive() bool { return s.Running() || s.Status == StatusRestarting }

// Running reports whether the container's first process exists.
func (s *State) Running() bool { return s.Status == StatusRunning || s.Status == StatusPaused }

// HealthState is the result of a container's health checks.
type HealthState struct {
	// Status is HealthStarting, HealthHealthy or HealthUnhealthy.
	Status        string
	FailingStreak int
	// Log holds the last five checks, oldest first.
	Log []HealthResult
}

// Results of health checks.
const (
	HealthStarting  = "starting"
	HealthHealthy   = "healthy"
	HealthUnhealthy = "unhealthy"
)

// HealthResult is one health check. Output is cut after 4096 bytes.
type HealthResult struct {
	Start, End time.Time
	// ExitCode is the check's, or -1 when it was ended for taking too long.
	ExitCode int
	Output   string
}

// NetworkStatus is a running container's place on a network.
type NetworkStatus = network.Status

// PortMapping publishes one port of a container on the host.
type PortMapping = network.Port

// NetworkAttachment is a container's place on a network.
type NetworkAttachment struct {
	Network string
	Aliases []string
	// IP and MAC are chosen when they are not given.
	IP  netip.Addr `json:",omitzero"`
	IP6 netip.Addr `json:",omitzero"`
	MAC string
}

// HealthConfig is a container's health check, after docker-image-spec's
// Healthcheck. Zero durations and retries mean docker's defaults: 30 s, 30 s, 0,
// 5 s and 3.
type HealthConfig struct {
	// Test is the command line, without CMD or CMD-SHELL in front.
	Test []string
	// Written is the check as docker-image-spec writes it; empty means CMD and Test.
	Written                                       []string `json:",omitempty"`
	Interval, Timeout, StartPeriod, StartInterval time.Duration
	Retries                                       int
}

// RestartPolicy says when a monitor starts its container again.
type RestartPolicy struct {
	// Name is "" or "no", "on-failure", "always" or "unless-stopped".
	Name string
	// MaxRetries limits on-failure; 0 means no limit.
	MaxRetries int
}

// LogConfig says where a container's output is kept.
type LogConfig struct {
	// Driver is "k8s-file" (also ""), "json-file", "none" or "passthrough".
	Driver string
	// MaxSize is in bytes; beyond it the file is rotated. 0 means never.
	MaxSize int64
	// MaxFiles is how many files are kept, the present one included; 0
	// means 1.
	MaxFiles int
	// Options are all of --log-opt as given, for inspect.
	Options map[string]string
}

// Files in a container's directory.
const (
	stateFile = "state.json"
	// LogFile is the present log. With rotation, LogFile+".1" is the one
	// before it, and so on.
	LogFile = "log"
	// LockFile is locked for writing as long as a monitor lives.
	LockFile = "lock"
)

// WriteState replaces the state in a container's directory. Whoever reads it sees
// the old or the new one.
func WriteState(dir *os.File, s *State) error {
	b, err := json.Marshal(s)
	if err != nil {
		return err
	}
	at := int(dir.Fd())
	const temporary = stateFile + ".new"
	fd, err := unix.Openat(at, temporary, unix.O_WRONLY|unix.O_CREAT|unix.O_TRUNC|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return fmt.Errorf("write container state: %w", err)
	}
	_, err = unix.Write(fd, b)
	err = errors.Join(err, unix.Close(fd))
	if err == nil {
		err = unix.Renameat(at, temporary, at, stateFile)
	}
	if err != nil {
		return fmt.Errorf("write container state: %w", err)
	}
	return nil
}

// FilePath is a path of name in an open directory that holds whatever happens to
// the directory's own path, in this process.
func FilePath(dir *os.File, name string) string {
	return "/proc/self/fd/" + strconv.Itoa(int(dir.Fd())) + "/" + name
}

// StartTime is when a process started, in clock ticks since boot: field 22 of its
// stat. Together with its id it tells it from all others. The second field is its
// name, which may hold anything.
func StartTime(pid int) (uint64, error) {
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0, err
	}
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	if len(fields) < 20 {
		return 0, fmt.Errorf("process %d: its stat is not as expected", pid)
	}
	return strconv.ParseUint(string(fields[19]), 10, 64)
}
