package run

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// deviceAt is a device of a container, which is the one at host on the host.
type deviceAt struct {
	specs.LinuxDevice
	host string
}

// addDevices gives the container nodes. An ordinary user can't make nodes:
// libcontainer binds the host's in their place, and takes them to have the path
// that they have in the container. Others are bound here.
func addDevices(s *specs.Spec, nodes []deviceAt, rootless bool) {
	for _, n := range nodes {
		if rootless && n.host != n.Path {
			s.Mounts = append(s.Mounts, specs.Mount{Type: "bind", Source: n.host, Destination: n.Path, Options: []string{"bind", "rprivate"}})
			continue
		}
		s.Linux.Devices = append(s.Linux.Devices, n.LinuxDevice)
	}
}

// devices are the nodes for c.Devices (and all of the host's when privileged) and
// the cgroup's rules, which refuse everything else. libcontainer adds the usual
// ones (null, zero, full, random, urandom, tty, ptmx, console) itself.
func (c *Config) devices() ([]deviceAt, []specs.LinuxDeviceCgroup, error) {
	var nodes []deviceAt
	if c.Privileged {
		nodes = hostDevices()
		return nodes, []specs.LinuxDeviceCgroup{{Allow: true, Access: "rwm"}}, nil
	}
	rules := []specs.LinuxDeviceCgroup{{Allow: false, Access: "rwm"}}
	for _, d := range c.Devices {
		found, err := d.nodes()
		if err != nil {
			return nil, nil, err
		}
		nodes = append(nodes, found...)
		for _, n := range found {
			rules = append(rules, specs.LinuxDeviceCgroup{
				Allow: true, Type: n.Type, Major: &n.Major, Minor: &n.Minor, Access: cmp.Or(d.Access, "rwm"),
			})
		}
	}
	return nodes, append(rules, c.DeviceRules...), nil
}

// nodes are d itself or, when it is a directory, the devices below it.
func (d Device) nodes() ([]deviceAt, error) {
	to := cmp.Or(d.Container, d.Host)
	if st, err := os.Stat(d.Host); err != nil || !st.IsDir() {
		n, err := deviceNode(d.Host)
		n.Path = to
		return []deviceAt{n}, err
	}
	var found []deviceAt
	err := filepath.WalkDir(d.Host, func(path string, e os.DirEntry, err error) error {
		if err != nil || e.Type()&os.ModeDevice == 0 {
			return err
		}
		n, err := deviceNode(path)
		n.Path = to + strings.TrimPrefix(path, d.Host)
		found = append(found, n)
		return err
	})
	if err == nil && len(found) == 0 {
		err = fmt.Errorf("device: %s is a directory without devices", d.Host)
	}
	return found, err
}

// deviceNode describes a device of the host.
func deviceNode(path string) (deviceAt, error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return deviceAt{}, fmt.Errorf("device: %w", &os.PathError{Op: "stat", Path: path, Err: err})
	}
	d := deviceAt{host: path, LinuxDevice: specs.LinuxDevice{
		Path: path, Major: int64(unix.Major(st.Rdev)), Minor: int64(unix.Minor(st.Rdev)), UID: &st.Uid, GID: &st.Gid,
	}}
	mode := os.FileMode(st.Mode & 0o777)
	d.FileMode = &mode
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFCHR:
		d.Type = "c"
	case unix.S_IFBLK:
		d.Type = "b"
	default:
		return deviceAt{}, fmt.Errorf("device: %s is no device", path)
	}
	return d, nil
}

// hostDevices are all nodes below /dev that are not the container's own business.
func hostDevices() []deviceAt {
	var out []deviceAt
	filepath.WalkDir("/dev", func(path string, e os.DirEntry, err error) error {
		switch {
		case err != nil:
			return nil // gone, or not ours to read
		case e.IsDir() && (path == "/dev/pts" || path == "/dev/shm" || path == "/dev/fd" || path == "/dev/mqueue"):
			return filepath.SkipDir
		case e.Type()&os.ModeDevice == 0 || path == "/dev/console" || path == "/dev/ptmx":
			return nil
		}
		if d, err := deviceNode(path); err == nil {
			out = append(out, d)
		}
		return nil
	})
	return out
}
