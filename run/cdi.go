package run

import (
	"fmt"
	"slices"
	"strconv"

	"github.com/opencontainers/runtime-spec/specs-go"
	"tags.cncf.io/container-device-interface/pkg/parser"
	cdispecs "tags.cncf.io/container-device-interface/specs-go"

	"cooper/run/internal/cdi"
)

// cdiDirs are where the specifications of the Container Device Interface lie.
var cdiDirs = []string{"/etc/cdi", "/var/run/cdi"}

// IsCDIName reports whether name is the full name of a device in the Container
// Device Interface, vendor.com/class=name. There need not be such a device.
func IsCDIName(name string) bool { return parser.IsQualifiedName(name) }

// CDIDevices are the devices of this machine that have a name in the Container
// Device Interface. It is for use by several goroutines.
type CDIDevices struct{ read *cdi.Devices }

// ReadCDIDevices reads the specifications in /etc/cdi and /var/run/cdi. One that
// cannot be read is only told of by Missing.
func ReadCDIDevices() *CDIDevices { return &CDIDevices{cdi.Read(cdiDirs...)} }

// Find returns the names, for Config.CDIDevices, of what name stands for, as
// BuildKit understands it: vendor.com/class=name is one device, vendor.com/class
// the first of the class and vendor.com/class=* all of it; anything else may be
// what devices have as the annotation org.mobyproject.buildkit.device.class.
// There may be none.
func (d *CDIDevices) Find(name string) []string { return d.read.Find(name) }

// AutoAllow reports whether the device that has exactly this name may be used by
// every build: the annotation org.mobyproject.buildkit.device.autoallow says so.
func (d *CDIDevices) AutoAllow(name string) bool { return d.read.AutoAllow(name) }

// Missing is the error for a name that finds nothing.
func (d *CDIDevices) Missing(name string) error { return d.read.Missing(name) }

// withCDI returns c with what its CDI devices bring, but for their nodes, which
// are returned beside it.
func (c *Config) withCDI() (*Config, []*cdispecs.DeviceNode, error) {
	if len(c.CDIDevices) == 0 {
		return c, nil, nil
	}
	edits, err := cdi.Read(cdiDirs...).Edits(c.CDIDevices...)
	if err != nil {
		return nil, nil, err
	}
	with := *c
	with.Env = slices.Concat(c.Env, edits.Env)
	with.Mounts = slices.Clone(c.Mounts)
	for _, m := range edits.Mounts {
		with.Mounts = append(with.Mounts, specs.Mount{
			Type: m.Type, Source: m.HostPath, Destination: m.ContainerPath, Options: m.Options,
		})
	}
	with.GroupAdd = slices.Clone(c.GroupAdd)
	for _, gid := range edits.AdditionalGIDs {
		if gid > 0 { // as the specification has it, 0 is ignored
			with.GroupAdd = append(with.GroupAdd, strconv.FormatUint(uint64(gid), 10))
		}
	}
	return &with, edits.DeviceNodes, nil
}

// addCDINodes gives the container the nodes of its CDI devices, in place of
// others of the same path, and returns the cgroup's rules for them.
func addCDINodes(s *specs.Spec, nodes []*cdispecs.DeviceNode, rootless bool) ([]specs.LinuxDeviceCgroup, error) {
	var add []deviceAt
	var rules []specs.LinuxDeviceCgroup
	for _, n := range nodes {
		d, err := cdiNode(n, s.Process.User)
		if err != nil {
			return nil, err
		}
		same := func(o specs.LinuxDevice) bool { return o.Path == d.Path }
		s.Linux.Devices = slices.DeleteFunc(s.Linux.Devices, same)
		add = append(slices.DeleteFunc(add, func(o deviceAt) bool { return same(o.LinuxDevice) }), d)
		if n.Permissions == "none" || d.Type != "b" && d.Type != "c" {
			continue
		}
		rule := specs.LinuxDeviceCgroup{Allow: true, Type: d.Type, Major: &d.Major, Minor: &d.Minor, Access: n.Permissions}
		if rule.Access == "" {
			rule.Access = "rwm"
		}
		rules = append(rules, rule)
	}
	addDevices(s, add, rootless)
	return rules, nil
}

// cdiNode describes a node for a container whose first process is user's: it is
// his unless the specification says whose. What that leaves out is the host's.
func cdiNode(n *cdispecs.DeviceNode, user specs.User) (deviceAt, error) {
	d := deviceAt{host: n.HostPath, LinuxDevice: specs.LinuxDevice{
		Path: n.Path, Type: n.Type, Major: n.Major, Minor: n.Minor, FileMode: n.FileMode, UID: n.UID, GID: n.GID,
	}}
	if d.host == "" {
		d.host = n.Path
	}
	host, err := deviceNode(d.host)
	complete := n.Type == "p" || n.Type != "" && n.Major != 0
	if err != nil && !complete {
		return d, err
	}
	if !complete && n.Type != "" && n.Type != host.Type && n.Type != "u" {
		return d, fmt.Errorf("device: %s is of type %s, and a CDI specification has it as %s", d.host, host.Type, n.Type)
	}
	if !complete {
		d.Type, d.Major, d.Minor = host.Type, host.Major, host.Minor
	}
	if d.FileMode == nil {
		d.FileMode = host.FileMode
	}
	if d.UID == nil && user.UID > 0 {
		d.UID = &user.UID
	}
	if d.GID == nil && user.GID > 0 {
		d.GID = &user.GID
	}
	return d, nil
}
