package cli

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"cooper/run"
)

// containerInspect is what docker's inspect says of a container.
type containerInspect struct {
	ID              string `json:"Id"`
	Created         time.Time
	Path            string
	Args            []string
	State           stateInspect
	Image           string
	ImageName       string
	ResolvConfPath  string
	HostnamePath    string
	HostsPath       string
	LogPath         string
	Name            string
	RestartCount    int
	Driver          string
	Platform        string
	MountLabel      string
	ProcessLabel    string
	AppArmorProfile string
	ExecIDs         []string
	HostConfig      hostConfigInspect
	GraphDriver     graphDriver
	SizeRw          *int64 `json:",omitempty"`
	SizeRootFs      *int64 `json:",omitempty"`
	Mounts          []mountInspect
	Config          configInspect
	NetworkSettings networkInspect
}

type stateInspect struct {
	Status     string
	Running    bool
	Paused     bool
	Restarting bool
	OOMKilled  bool
	Dead       bool
	Pid        int
	ConmonPid  int // podman's name for the monitor
	ExitCode   int
	Error      string
	StartedAt  time.Time
	FinishedAt time.Time
	Health     *healthInspect `json:",omitempty"`
}

type healthInspect struct {
	Status        string
	FailingStreak int
	Log           []run.HealthResult
}

type mountInspect struct {
	Type        string
	Name        string `json:",omitempty"`
	Source      string
	Destination string
	Driver      string `json:",omitempty"`
	Mode        string
	RW          bool
	Propagation string
}

type configInspect struct {
	Hostname     string
	Domainname   string
	User         string
	AttachStdin  bool
	AttachStdout bool
	AttachStderr bool
	ExposedPorts map[string]struct{} `json:",omitempty"`
	Tty          bool
	OpenStdin    bool
	StdinOnce    bool
	Env          []string
	Cmd          []string
	Healthcheck  *healthcheckInspect `json:",omitempty"`
	Image        string
	Volumes      map[string]struct{}
	WorkingDir   string
	Entrypoint   []string
	OnBuild      []string
	Labels       map[string]string
	Annotations  map[string]string `json:",omitempty"`
	StopSignal   string            `json:",omitempty"`
	StopTimeout  *int              `json:",omitempty"`
	// CreateCommand is podman's: the command line that made the container.
	CreateCommand []string `json:",omitempty"`
}

type healthcheckInspect struct {
	Test          []string
	Interval      time.Duration `json:",omitempty"`
	Timeout       time.Duration `json:",omitempty"`
	StartPeriod   time.Duration `json:",omitempty"`
	StartInterval time.Duration `json:",omitempty"`
	Retries       int           `json:",omitempty"`
}

// inspectContainer describes the container with a name.
func (e *Env) inspectContainer(ctx context.Context, name string, o inspection) (any, error) {
	cs, err := e.containers(ctx)
	if err != nil {
		return nil, err
	}
	c, err := cs.Find(name)
	var st run.State
	if err == nil {
		st, err = c.State()
	}
	if errors.Is(err, run.ErrNoContainer) {
		return nil, errNoObject
	}
	if err != nil {
		return nil, err
	}
	in := describeContainer(c, st, e.store.DriverName())
	for network, end := range in.NetworkSettings.Networks {
		if n, err := cs.Network(network); err == nil {
			end.NetworkID = n.ID
			in.NetworkSettings.Networks[network] = end
		}
	}
	if o.size {
		use, err := layerUse(ctx, e.store, c)
		if err != nil {
			return nil, err
		}
		in.SizeRw, in.SizeRootFs = &use.written, &use.virtual
	}
	return in, nil
}

// describeContainer describes a container in a state.
func describeContainer(c *run.Container, st run.State, driver string) containerInspect {
	o := c.Options()
	in := containerInspect{
		ID:           o.ID,
		Created:      o.Created.UTC(),
		Args:         []string{},
		State:        describeState(st),
		Image:        "sha256:" + o.ImageID,
		ImageName:    o.Image,
		Name:         "/" + o.Name,
		RestartCount: st.RestartCount,
		Driver:       driver,
		Platform:     "linux",
		HostConfig:   describeHostConfig(o),
		GraphDriver:  graphDriver{Name: driver, Data: map[string]string{}},
		Mounts:       []mountInspect{},
		Config:       describeConfig(o),
	}
	if len(o.Config.Args) > 0 {
		in.Path, in.Args = o.Config.Args[0], o.Config.Args[1:]
	}
	if o.ImageID == "" {
		in.Image = ""
	}
	if path, err := c.LogPath(); err == nil {
		in.LogPath = path
	}
	if r, err := c.Rootfs(); err == nil && r.Upper != "" {
		in.GraphDriver.Data = map[string]string{
			"LowerDir": strings.Join(r.Lower, ":"), "UpperDir": r.Upper, "WorkDir": r.Work, "MergedDir": filepath.Join(filepath.Dir(r.Work), "merged"),
		}
	}
	for _, m := range o.Mounts {
		in.Mounts = append(in.Mounts, describeMount(m))
	}
	in.NetworkSettings = describeNetworks(o, st)
	return in
}

func describeState(st run.State) stateInspect {
	in := stateInspect{
		Status:     st.Status,
		Running:    st.Alive(), // docker says so of paused and restarting ones too
		Paused:     st.Status == run.StatusPaused,
		Restarting: st.Status == run.StatusRestarting,
		OOMKilled:  st.OOMKilled,
		Pid:        st.PID,
		ConmonPid:  st.MonitorPID,
		ExitCode:   st.ExitCode,
		Error:      st.Error,
		StartedAt:  st.Started.UTC(),
		FinishedAt: st.Finished.UTC(),
	}
	if st.Health != nil {
		in.Health = &healthInspect{Status: st.Health.Status, FailingStreak: st.Health.FailingStreak, Log: st.Health.Log}
		if in.Health.Log == nil {
			in.Health.Log = []run.HealthResult{}
		}
	}
	return in
}

// describeMount describes a mount; options that are words of their own in docker's
// answer are not repeated in Mode.
func describeMount(m run.ContainerMount) mountInspect {
	in := mountInspect{Type: m.Type, Name: m.Name, Source: m.Source, Destination: m.Destination, RW: true}
	if m.Type == "volume" {
		in.Driver = "local"
		if m.Driver != "" {
			in.Driver = m.Driver
		}
	}
	var mode []string
	for _, option := range m.Options {
		switch strings.TrimPrefix(option, "r") {
		case "o":
			in.RW = false
		case "private", "shared", "slave":
			in.Propagation = option
		case "bind", "w", "":
			continue
		}
		mode = append(mode, option)
	}
	if in.Propagation == "" && m.Type == "bind" {
		in.Propagation = "rprivate"
	}
	in.Mode = strings.Join(mode, ",")
	return in
}

func describeConfig(o run.ContainerOptions) configInspect {
	c := o.Config
	in := configInspect{
		Hostname:      c.Hostname,
		Domainname:    c.Domainname,
		User:          c.User,
		AttachStdin:   o.OpenStdin,
		AttachStdout:  true,
		AttachStderr:  true,
		Tty:           c.Terminal,
		OpenStdin:     o.OpenStdin,
		StdinOnce:     o.StdinOnce,
		Env:           c.Env,
		Cmd:           o.Cmd,
		Image:         o.Image,
		WorkingDir:    c.Dir,
		Entrypoint:    o.Entrypoint,
		Labels:        o.Labels,
		Annotations:   c.Annotations,
		CreateCommand: o.CreateCommand,
	}
	if in.Hostname == "" && c.UTS == "" {
		in.Hostname = shortID(o.ID)
	}
	if in.Labels == nil {
		in.Labels = map[string]string{}
	}
	for _, p := range o.Exposed {
		if in.ExposedPorts == nil {
			in.ExposedPorts = make(map[string]struct{})
		}
		in.ExposedPorts[p] = struct{}{}
	}
	for _, m := range o.Mounts {
		if m.Type == "volume" && m.Anonymous {
			if in.Volumes == nil {
				in.Volumes = make(map[string]struct{})
			}
			in.Volumes[m.Destination] = struct{}{}
		}
	}
	if c.StopSignal > 0 {
		in.StopSignal = unix.SignalName(c.StopSignal)
	}
	if o.StopTimeout != nil {
		seconds := int(o.StopTimeout.Seconds())
		in.StopTimeout = &seconds
	}
	if h := o.Health; h != nil {
		test := h.Written
		if len(test) == 0 {
			test = append([]string{"CMD"}, h.Test...)
		}
		in.Healthcheck = &healthcheckInspect{
			Test: test, Interval: h.Interval, Timeout: h.Timeout,
			StartPeriod: h.StartPeriod, StartInterval: h.StartInterval, Retries: h.Retries,
		}
	}
	return in
}
