package run

import (
	"slices"
	"syscall"

	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// Config says what a container should be. The zero value with Args is a
// container as docker run makes it by default, except that the network is the
// host's.
type Config struct {
	// Args is the command line, program first. A program without a slash is
	// looked up in the PATH of Env inside the container.
	Args []string
	// Env holds NAME=value pairs; the last of equal names counts. PATH and
	// HOME are added when missing and, unless BareEnv is set, HOSTNAME and
	// (with Terminal) TERM, as docker run does.
	Env     []string
	BareEnv bool
	// NoHostname leaves /etc/hostname to the image, NoHosts /etc/hosts.
	NoHostname, NoHosts bool
	// Dir is the working directory; "" means "/". It is made if missing.
	Dir string
	// User is "", "name", "uid", "name:group" or "uid:gid"; names are looked
	// up in the image's /etc/passwd and /etc/group. "" is root.
	User string
	// GroupAdd are further group names or ids.
	GroupAdd []string

	// Hostname "" means the first twelve letters of the container's id, or,
	// when Network is "host", the host's own name, as docker does.
	Hostname   string
	Domainname string
	// ExtraHosts are "name:ip" lines for /etc/hosts; the ip "host-gateway"
	// is the host's own address.
	ExtraHosts []string
	// DNS, DNSSearch and DNSOptions replace what the host's resolv.conf says.
	DNS        []string
	DNSSearch  []string
	DNSOptions []string

	// Network is "host" (also ""), "none", or "ns:PATH" for an existing
	// network namespace.
	Network string
	// PID and IPC are "" (private), "host", "ns:PATH" for an existing
	// namespace, or "container:ID", which a start turns into that. IPC may
	// be "none" as well: private, and without /dev/shm.
	PID, IPC string
	// UTS is "" (private) or "host".
	UTS string
	// UserNS is a user namespace of the container's own; nil means this process's.
	UserNS *UserNS `json:",omitempty"`
	// CgroupNS is "private" or "host"; "" means private with cgroup version
	// 2, unless Privileged, and host with version 1.
	CgroupNS string

	// ReadOnly makes the root file system read-only.
	ReadOnly   bool
	Privileged bool
	// CapAdd and CapDrop take names with or without "CAP_", in any case, or "ALL".
	CapAdd  []string
	CapDrop []string
	// NoNewPrivileges keeps setuid programs from gaining anything.
	NoNewPrivileges bool
	// Seccomp is "" for Docker's default profile, "unconfined", or the JSON
	// text of a profile in Docker's format. See ParseSecurityOpt.
	Seccomp string
	// Unmask lists paths of the default masked and read-only ones that are
	// left alone; "ALL" means every one. Mask lists further paths to hide.
	Unmask, Mask []string

	// Mounts are added to the default ones; one with the same destination
	// replaces it. Types are "bind" and "tmpfs". A relative destination is
	// an error.
	Mounts []specs.Mount
	// Devices are host devices to make available.
	Devices []Device
	// CDIDevices are devices by their full names (vendor.com/class=name) in the
	// Container Device Interface. Its specifications are read for each start.
	CDIDevices []string
	// DeviceRules allow the use of devices, whoever makes their nodes.
	DeviceRules []specs.LinuxDeviceCgroup
	// ShmSize is in bytes; 0 means 64 MiB.
	ShmSize int64
	Sysctl  map[string]string

	// Ulimits are clamped to what this process may set; see Spec.
	Ulimits []Ulimit
	// Memory, MemorySwap (memory plus swap, -1 unlimited) and
	// MemoryReservation are in bytes; 0 means no limit.
	Memory            int64
	MemorySwap        int64
	MemoryReservation int64
	// MemorySwappiness is 0 to 100; nil leaves it to the kernel. Only
	// cgroup version 1 has it, and OOMKillDisable too.
	MemorySwappiness *uint64
	OOMKillDisable   bool
	// CPUs is a number of processors; 0 means no limit.
	CPUs      float64
	CPUShares uint64
	CPUPeriod uint64
	CPUQuota  int64
	// CPURealtimePeriod and CPURealtimeRuntime are in microseconds, for
	// cgroup version 1.
	CPURealtimePeriod  uint64
	CPURealtimeRuntime int64
	CPUSetCPUs         string
	CPUSetMems         string
	// BlockIO limits reading and writing of block devices; nil means no limit.
	BlockIO *specs.LinuxBlockIO
	// PidsLimit 0 or less means no limit.
	PidsLimit    int64
	CgroupParent string
	// OOMScoreAdj is clamped to what this process may set.
	OOMScoreAdj int

	// Umask is the first process's; nil means 0022.
	Umask *uint32
	// Timezone is a zone such as "Europe/Berlin", or "local" for the host's;
	// "" leaves the image's.
	Timezone string

	// Terminal gives the container a terminal of its own as standard streams.
	Terminal bool
	// StopSignal is what Run sends when its context ends; 0 means SIGKILL.
	StopSignal syscall.Signal

	Annotations map[string]string
}

// Device is a host device as --device takes it.
type Device struct {
	// Host and Container are paths; Container "" means the same. A directory
	// stands for the devices below it.
	Host, Container string
	// Access is a subset of "rwm"; "" means all.
	Access string
}

// Ulimit is one resource limit; Name as in ulimit(1) and docker: "nofile",
// "nproc", "core", ... A negative value is unlimited.
type Ulimit struct {
	Name       string
	Soft, Hard int64
}

// FromImage returns the Config that an image asks for: its entry point and
// command, environment, user and directory, and stop signal.
func FromImage(img dockerspec.DockerOCIImage) Config {
	c := img.Config
	sig, _ := ParseSignal(c.StopSignal)
	return Config{
		Args:       slices.Concat(c.Entrypoint, c.Cmd),
		Env:        slices.Clone(c.Env),
		Dir:        c.WorkingDir,
		User:       c.User,
		StopSignal: sig,
	}
}

// MergeCommand makes the two parts of the command line from an image's config, an
// entry point given by the user (nil: none given; empty or one empty string: the
// image's is cleared) and the arguments given. As docker does: a given entry point
// also clears the image's command, and given arguments replace it.
func MergeCommand(img dockerspec.DockerOCIImageConfig, entrypoint *[]string, cmd []string) (ep, args []string) {
	ep, args = img.Entrypoint, img.Cmd
	if entrypoint != nil {
		ep, args = *entrypoint, nil
		if len(ep) == 1 && ep[0] == "" {
			ep = nil
		}
	}
	if len(cmd) > 0 {
		args = cmd
	}
	return ep, args
}
