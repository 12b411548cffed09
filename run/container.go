package run

import (
	"net/netip"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// ContainerOptions say what a container is made from. They are kept as
// options.json in the container's directory, so that it can be started again.
// The zero value of a field is docker's default.
type ContainerOptions struct {
	// ID is 64 hexadecimal digits; "" lets Create make one.
	ID string
	// Name "" lets Create make one.
	Name    string
	Created time.Time
	// Image is the image's name as it was given, ImageID its id. Both are
	// empty with Rootfs.
	Image, ImageID string
	// Config is the image's config and what was asked for, merged.
	Config Config
	// Entrypoint and Cmd are the two parts of Config.Args, for inspect.
	Entrypoint, Cmd []string
	Labels          map[string]string
	// Mounts are beside the default ones. Those in Config.Mounts are made
	// of them when the container starts.
	Mounts []ContainerMount

	// NetworkMode is "bridge" (the default network), "host", "none",
	// "container:ID", "ns:PATH" or the name of a network.
	NetworkMode string
	Networks    []NetworkAttachment
	// Exposed are "80/tcp" and the like, of the image and --expose.
	Exposed []string
	Ports   []PortMapping

	// Health is nil when the container has no check.
	Health  *HealthConfig
	Restart RestartPolicy
	Log     LogConfig

	// Foreground: the container ends with the command that started it and
	// its streams are that command's own.
	Foreground bool
	// AutoRemove removes the container and its anonymous volumes at its end.
	AutoRemove bool
	// Init runs a small init as the first process, which reaps orphans.
	Init bool
	// OpenStdin keeps standard input open while nobody is attached; with
	// StdinOnce it is closed when the first who attached leaves.
	OpenStdin, StdinOnce bool
	// StopTimeout is how long stop waits before SIGKILL; nil means 10 s.
	StopTimeout *time.Duration
	// Timeout ends the container after that long; 0 means never.
	Timeout time.Duration
	// Rootfs is a directory used as it is instead of an image.
	Rootfs string
	// Runtime is the path of another OCI runtime; "" means our own.
	Runtime string
	// PIDFile is written by the monitor at every start; "" means none.
	PIDFile string
	// Program is the command's executable: a detached container with
	// AutoRemove is removed by it.
	Program []string
}

// ContainerMount is a mount that was asked for, or an image's VOLUME.
type ContainerMount struct {
	// Type is "bind", "volume", "tmpfs" or "image".
	Type string
	// Name is the volume's; Anonymous says that nobody gave it. Create makes
	// the name of an anonymous volume, and a volume that is missing.
	Name      string
	Anonymous bool
	// Source is the file or directory on the host, for a volume too once it
	// is there. For an image it is the image's name.
	Source      string
	Destination string
	// Subpath is the part of the volume or image to mount; "" means all.
	Subpath string
	// Options are mount options, "ro" among them.
	Options []string
	// MakeSource makes a missing Source a directory.
	MakeSource bool
	// NoCopy leaves an empty volume empty instead of filling it with what the
	// image has at Destination.
	NoCopy bool
	// Chown gives everything in Source to the container's user.
	Chown bool
	// Overlay keeps what the container writes out of Source.
	Overlay bool
	// Driver, DriverOptions and Labels are those of a volume to be made.
	Driver        string
	DriverOptions map[string]string
	Labels        map[string]string
}

// Mount is m as the runtime-spec has it.
func (m ContainerMount) Mount() specs.Mount {
	kind := "bind"
	if m.Type == "tmpfs" {
		kind = "tmpfs"
	}
	return specs.Mount{Type: kind, Source: m.Source, Destination: m.Destination, Options: m.Options}
}

// NetworkAttachment is a container's place on a network.
type NetworkAttachment struct {
	Network string
	Aliases []string
	// IP and MAC are chosen when they are not given.
	IP  netip.Addr `json:",omitzero"`
	IP6 netip.Addr `json:",omitzero"`
	MAC string
}

// PortMapping publishes one port of a container on the host.
type PortMapping struct {
	// HostIP is where the host listens; the zero Addr means everywhere.
	HostIP netip.Addr `json:",omitzero"`
	// HostPort 0 means any free one.
	HostPort, ContainerPort uint16
	// Protocol is "tcp", "udp" or "sctp".
	Protocol string
}

// HealthConfig is a container's health check, after docker-image-spec's
// Healthcheck. Zero durations and retries mean docker's defaults: 30 s, 30 s, 0,
// 5 s and 3.
type HealthConfig struct {
	// Test is the command line, without CMD or CMD-SHELL in front.
	Test                                          []string
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

// Container states, as docker names them.
const (
	StatusCreated    = "created"
	StatusRunning    = "running"
	StatusPaused     = "paused"
	StatusRestarting = "restarting"
	StatusExited     = "exited"
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

// HealthState is the result of a container's health checks.
type HealthState struct {
	// Status is "starting", "healthy" or "unhealthy".
	Status        string
	FailingStreak int
	// Log holds the last five checks, oldest first.
	Log []HealthResult
}

// HealthResult is one health check. Output is cut after 4096 bytes.
type HealthResult struct {
	Start, End time.Time
	ExitCode   int
	Output     string
}

// NetworkStatus is a running container's place on a network.
type NetworkStatus struct {
	Interface string
	IP        netip.Prefix `json:",omitzero"`
	Gateway   netip.Addr   `json:",omitzero"`
	IP6       netip.Prefix `json:",omitzero"`
	Gateway6  netip.Addr   `json:",omitzero"`
	MAC       string
	Aliases   []string
}
