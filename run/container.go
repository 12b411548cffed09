package run

import (
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"

	"cooper/layers"
	"cooper/run/internal/life"
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
	// Disconnected: it was taken off its last network.
	Disconnected bool `json:",omitempty"`
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
	// Snapshot is what a Foreground container runs on.
	Snapshot *layers.Rootfs `json:",omitempty"`
	// Runtime is the name or path of another OCI runtime, RuntimeFlags are its
	// own flags: see OCIRuntime. "" means ours.
	Runtime      string
	RuntimeFlags []string `json:",omitempty"`
	// PIDFile is written by the monitor at every start; "" means none.
	PIDFile string
	// Program is the command's executable: a detached container with
	// AutoRemove is removed by it.
	Program []string
	// CreateCommand is the command line that made the container, so that
	// another one like it can be made.
	CreateCommand []string `json:",omitempty"`
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
	// is there. For an image it is the image's name, and ImageID what it
	// meant when the container was made.
	Source, ImageID string
	Destination     string
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
	// Overlay keeps what the container writes out of Source; it lives as long
	// as the container.
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

// The parts of ContainerOptions and State that a container's monitor knows too.
type (
	// NetworkAttachment is a container's place on a network.
	NetworkAttachment = life.NetworkAttachment
	// PortMapping publishes one port of a container on the host.
	PortMapping = life.PortMapping
	// HealthConfig is a container's health check.
	HealthConfig = life.HealthConfig
	// RestartPolicy says when a monitor starts its container again.
	RestartPolicy = life.RestartPolicy
	// LogConfig says where a container's output is kept.
	LogConfig = life.LogConfig

	// State is what is known of a container's life.
	State = life.State
	// HealthState is the result of a container's health checks.
	HealthState = life.HealthState
	// HealthResult is one health check.
	HealthResult = life.HealthResult
	// NetworkStatus is a running container's place on a network.
	NetworkStatus = life.NetworkStatus
)

// Container states, as docker names them.
const (
	StatusCreated    = life.StatusCreated
	StatusRunning    = life.StatusRunning
	StatusPaused     = life.StatusPaused
	StatusRestarting = life.StatusRestarting
	StatusExited     = life.StatusExited
	StatusDead       = life.StatusDead
)
