package cli

import (
	"cmp"
	"fmt"
	"strconv"
	"time"

	"cooper/layers"
	"cooper/run"
)

// hostConfigInspect is the HostConfig of docker's inspect: what was asked for
// beside the image's config. Of what can't be asked for here the zero value is
// shown where scripts may look for it.
type hostConfigInspect struct {
	Binds             []string
	ContainerIDFile   string
	LogConfig         logInspect
	NetworkMode       string
	PortBindings      map[string][]portBinding
	RestartPolicy     restartInspect
	AutoRemove        bool
	VolumeDriver      string
	VolumesFrom       []string
	CapAdd            []string
	CapDrop           []string
	CgroupnsMode      string
	DNS               []string `json:"Dns"`
	DNSOptions        []string `json:"DnsOptions"`
	DNSSearch         []string `json:"DnsSearch"`
	ExtraHosts        []string
	GroupAdd          []string
	IpcMode           string
	Cgroup            string
	Links             []string
	OomScoreAdj       int
	PidMode           string
	Privileged        bool
	PublishAllPorts   bool
	ReadonlyRootfs    bool
	SecurityOpt       []string
	Tmpfs             map[string]string `json:",omitempty"`
	UTSMode           string
	UsernsMode        string
	IDMappings        *idMappings `json:",omitempty"` // podman's
	ShmSize           int64
	Sysctls           map[string]string `json:",omitempty"`
	Runtime           string
	CPUShares         uint64 `json:"CpuShares"`
	Memory            int64
	NanoCpus          int64
	CgroupParent      string
	CPUPeriod         uint64 `json:"CpuPeriod"`
	CPUQuota          int64  `json:"CpuQuota"`
	CpusetCpus        string
	CpusetMems        string
	Devices           []deviceInspect
	DeviceRequests    []deviceRequest
	MemoryReservation int64
	MemorySwap        int64
	OomKillDisable    bool
	Init              bool
	PidsLimit         *int64
	Ulimits           []ulimitInspect
	Timeout           int `json:",omitempty"` // podman's, in seconds

	blockIOInspect
	CPURealtimePeriod  uint64 `json:"CpuRealtimePeriod"`
	CPURealtimeRuntime int64  `json:"CpuRealtimeRuntime"`
	DeviceCgroupRules  []string
	MemorySwappiness   *uint64
}

// idMappings are ids of a user namespace: inside, outside, how many.
type idMappings struct {
	UIDMap []string `json:"UidMap"`
	GIDMap []string `json:"GidMap"`
}

func describeOwners(o layers.Owners) *idMappings {
	lines := func(m []layers.IDRange) (out []string) {
		for _, r := range m {
			out = append(out, fmt.Sprintf("%d:%d:%d", r.Inside, r.Outside, r.Size))
		}
		return out
	}
	return &idMappings{lines(o.UIDs), lines(o.GIDs)}
}

// deviceRequest asks for devices by their CDI names.
type deviceRequest struct {
	Driver       string
	Count        int
	DeviceIDs    []string
	Capabilities [][]string
	Options      map[string]string
}

type logInspect struct {
	Type   string
	Config map[string]string
}

type restartInspect struct {
	Name              string
	MaximumRetryCount int
}

type deviceInspect struct {
	PathOnHost        string
	PathInContainer   string
	CgroupPermissions string
}

type ulimitInspect struct {
	Name string
	Hard int64
	Soft int64
}

// describeHostConfig describes what was asked for.
func describeHostConfig(o run.ContainerOptions) hostConfigInspect {
	c := o.Config
	in := hostConfigInspect{
		LogConfig:    logInspect{Type: o.Log.Driver, Config: o.Log.Options},
		NetworkMode:  o.NetworkMode,
		PortBindings: map[string][]portBinding{},
		RestartPolicy: restartInspect{
			Name: o.Restart.Name, MaximumRetryCount: o.Restart.MaxRetries,
		},
		AutoRemove: o.AutoRemove,
		CapAdd:     c.CapAdd, CapDrop: c.CapDrop,
		CgroupnsMode: c.CgroupNS,
		DNS:          c.DNS, DNSOptions: c.DNSOptions, DNSSearch: c.DNSSearch,
		ExtraHosts: c.ExtraHosts, GroupAdd: c.GroupAdd,
		IpcMode: c.IPC, PidMode: c.PID, UTSMode: c.UTS,
		OomScoreAdj: c.OOMScoreAdj, OomKillDisable: c.OOMKillDisable,
		Privileged: c.Privileged, ReadonlyRootfs: c.ReadOnly,
		ShmSize: c.ShmSize, Sysctls: c.Sysctl, Runtime: o.Runtime,
		CPUShares: c.CPUShares, NanoCpus: int64(c.CPUs * 1e9), CPUPeriod: c.CPUPeriod, CPUQuota: c.CPUQuota,
		CpusetCpus: c.CPUSetCPUs, CpusetMems: c.CPUSetMems,
		Memory: c.Memory, MemoryReservation: c.MemoryReservation, MemorySwap: c.MemorySwap,
		CgroupParent: c.CgroupParent, Init: o.Init,
		Timeout: int(o.Timeout / time.Second),
	}
	if o.Foreground {
		in.LogConfig.Type = "passthrough"
	}
	in.fillDefaults()
	in.describeMounts(o.Mounts)
	for _, p := range o.Ports {
		key := fmt.Sprintf("%d/%s", p.ContainerPort, p.Protocol)
		binding := portBinding{HostIP: addrText(p.HostIP)}
		if p.HostPort > 0 {
			binding.HostPort = strconv.Itoa(int(p.HostPort))
		}
		if p.HostPortLast > 0 {
			binding.HostPort += "-" + strconv.Itoa(int(p.HostPortLast))
		}
		in.PortBindings[key] = append(in.PortBindings[key], binding)
	}
	for _, d := range c.Devices {
		in.Devices = append(in.Devices, deviceInspect{d.Host, cmp.Or(d.Container, d.Host), cmp.Or(d.Access, "rwm")})
	}
	if len(c.CDIDevices) > 0 {
		in.DeviceRequests = []deviceRequest{{Driver: "cdi", DeviceIDs: c.CDIDevices}}
	}
	for _, u := range c.Ulimits {
		in.Ulimits = append(in.Ulimits, ulimitInspect{Name: u.Name, Hard: u.Hard, Soft: u.Soft})
	}
	if c.PidsLimit > 0 {
		in.PidsLimit = &c.PidsLimit
	}
	if c.BlockIO != nil {
		in.blockIOInspect = describeBlockIO(c.BlockIO)
	}
	in.CPURealtimePeriod, in.CPURealtimeRuntime = c.CPURealtimePeriod, c.CPURealtimeRuntime
	in.MemorySwappiness = c.MemorySwappiness
	for _, rule := range c.DeviceRules {
		in.DeviceCgroupRules = append(in.DeviceCgroupRules, deviceRuleText(rule))
	}
	if c.UserNS != nil {
		in.UsernsMode, in.IDMappings = c.UserNS.Mode, describeOwners(c.UserNS.Owners)
	}
	if c.NoNewPrivileges {
		in.SecurityOpt = append(in.SecurityOpt, "no-new-privileges")
	}
	if c.Seccomp == "unconfined" {
		in.SecurityOpt = append(in.SecurityOpt, "seccomp=unconfined")
	}
	return in
}

// fillDefaults names what docker names when nothing was asked for.
func (in *hostConfigInspect) fillDefaults() {
	in.LogConfig.Type = cmp.Or(in.LogConfig.Type, "k8s-file")
	if in.LogConfig.Config == nil {
		in.LogConfig.Config = map[string]string{}
	}
	in.RestartPolicy.Name = cmp.Or(in.RestartPolicy.Name, "no")
	in.IpcMode = cmp.Or(in.IpcMode, "private")
	in.Runtime = cmp.Or(in.Runtime, "cooper")
	if in.ShmSize == 0 {
		in.ShmSize = 64 << 20
	}
}

// describeMounts fills in the mounts by docker's older names.
func (in *hostConfigInspect) describeMounts(mounts []run.ContainerMount) {
	for _, m := range mounts {
		switch {
		case m.Type == "tmpfs":
			if in.Tmpfs == nil {
				in.Tmpfs = make(map[string]string)
			}
			in.Tmpfs[m.Destination] = describeMount(m).Mode
		case m.Type == "bind", m.Type == "volume" && !m.Anonymous:
			bind := cmp.Or(m.Name, m.Source) + ":" + m.Destination
			if mode := describeMount(m).Mode; mode != "" {
				bind += ":" + mode
			}
			in.Binds = append(in.Binds, bind)
		}
	}
}
