package builder

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"cooper/dockerfile"
	"cooper/run"
)

// What Options.Allow may list, as BuildKit calls it.
const (
	AllowNetworkHost = "network.host"
	AllowInsecure    = "security.insecure"
	AllowDevice      = "device"
)

// insecure is what RUN --security says to run a step privileged.
const insecure = "insecure"

// entitled finds steps that need what o does not allow, before anything runs.
// The host's network needs nothing: it is the default.
func (o *Options) entitled(p *dockerfile.Plan) error {
	for _, s := range p.Stages {
		for _, st := range s.Steps {
			op, ok := st.Op.(*dockerfile.Run)
			if !ok {
				continue
			}
			if err := o.allows(op); err != nil {
				return &dockerfile.Error{File: o.DockerfileName, Source: o.Dockerfile, Location: st.Location, Err: err}
			}
		}
	}
	return nil
}

func (o *Options) allows(op *dockerfile.Run) error {
	if op.Security == insecure && !slices.Contains(o.Allow, AllowInsecure) {
		return fmt.Errorf("%s is not allowed (RUN --security=insecure needs --allow %[1]s)", AllowInsecure)
	}
	for _, d := range op.Devices {
		if err := o.allowsDevice(d.Name); err != nil {
			return err
		}
	}
	return nil
}

// allowsDevice refuses a device that o does not allow. As with BuildKit, both what
// the step and what o names may be a class of the Container Device Interface, and
// a device's specification may allow it to every build.
func (o *Options) allowsDevice(name string) error {
	if slices.Contains(o.Allow, AllowDevice) || slices.Contains(o.Allow, AllowDevice+"="+name) || o.alias(name) != name {
		return nil
	}
	if isPath(name) {
		return notAllowed(name)
	}
	known := run.ReadCDIDevices()
	var granted []string
	for _, what := range o.Allow {
		if device, ok := strings.CutPrefix(what, AllowDevice+"="); ok {
			granted = append(granted, known.Find(device)...)
		}
	}
	for _, device := range known.Find(name) {
		if !slices.Contains(granted, device) && !known.AutoAllow(device) {
			return notAllowed(device)
		}
	}
	return nil
}

func notAllowed(device string) error {
	return fmt.Errorf("device %s is requested by the build but not allowed (RUN --device needs --allow device=%[1]s)", device)
}

// alias is the device that a step gets when it asks for name.
func (o *Options) alias(name string) string {
	for _, what := range o.Allow {
		device, alias, found := strings.Cut(what, ",alias=")
		if found && alias == name {
			return strings.TrimPrefix(device, AllowDevice+"=")
		}
	}
	return name
}

func isPath(device string) bool { return strings.HasPrefix(device, "/") }

// addDevices gives the step the devices that it names: by path, or as the
// Container Device Interface does. Only those that are required have to be there;
// log takes a line for one that the step does without.
func (m *mounts) addDevices(devices []dockerfile.Device, log io.Writer) error {
	for _, d := range devices {
		err := m.addDevice(m.bd.o.alias(d.Name))
		switch {
		case err == nil:
		case d.Required:
			return fmt.Errorf("required --device: %w", err)
		case isPath(d.Name) && !errors.Is(err, os.ErrNotExist):
			return fmt.Errorf("--device: %w", err)
		default:
			fmt.Fprintf(log, "the step runs without the device, which is not required: %v\n", err)
		}
	}
	return nil
}

func (m *mounts) addDevice(name string) error {
	if isPath(name) {
		_, err := os.Stat(name)
		if err == nil {
			m.devices = append(m.devices, run.Device{Host: name})
		}
		return err
	}
	known := run.ReadCDIDevices()
	found := known.Find(name)
	if len(found) == 0 {
		return known.Missing(name)
	}
	for _, device := range found {
		if !slices.Contains(m.cdiDevices, device) {
			m.cdiDevices = append(m.cdiDevices, device)
		}
	}
	return nil
}

// namedRun is a RUN with the names its container knows, which as with BuildKit
// are part of its identity, and with its volumes. What these hold is not: a
// volume may be large, and change with every build.
type namedRun struct {
	*dockerfile.Run
	ExtraHosts []string `json:",omitempty"`
	Host       string   `json:",omitempty"`
	Volumes    []string `json:",omitempty"`
}

// named is op as its key is made from.
func (o *Options) named(op dockerfile.Op) dockerfile.Op {
	r, ok := op.(*dockerfile.Run)
	volumes := o.volumes()
	if ok && len(r.Devices) > 0 {
		r = o.realDevices(r)
		op = r
	}
	if !ok || len(o.Container.ExtraHosts) == 0 && o.Container.Hostname == "" && volumes == nil {
		return op
	}
	return namedRun{Run: r, ExtraHosts: o.Container.ExtraHosts, Host: o.Container.Hostname, Volumes: volumes}
}

// realDevices is r with the devices that it gets instead of their aliases.
func (o *Options) realDevices(r *dockerfile.Run) *dockerfile.Run {
	same := *r
	same.Devices = slices.Clone(r.Devices)
	for i := range same.Devices {
		same.Devices[i].Name = o.alias(same.Devices[i].Name)
	}
	return &same
}

// volumes describes what RUN steps see of the host.
func (o *Options) volumes() []string {
	var all []string
	for _, m := range o.Container.Mounts {
		all = append(all, fmt.Sprintf("%q on %q %q", m.Source, m.Destination, m.Options))
	}
	for _, v := range o.Overlays {
		all = append(all, fmt.Sprintf("overlay of %q on %q", v.Source, v.Target))
	}
	return all
}
