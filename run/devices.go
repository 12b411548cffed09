package run

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// devices are the nodes for c.Devices (and all of the host's when privileged) and
// the cgroup's rules, which refuse everything else. libcontainer adds the usual
// ones (null, zero, full, random, urandom, tty, ptmx, console) itself.
func (c *Config) devices() ([]specs.LinuxDevice, []specs.LinuxDeviceCgroup, error) {
	var nodes []specs.LinuxDevice
	if c.Privileged {
		nodes = hostDevices()
		return nodes, []specs.LinuxDeviceCgroup{{Allow: true, Access: "rwm"}}, nil
	}
	rules := []specs.LinuxDeviceCgroup{{Allow: false, Access: "rwm"}}
	for _, d := range c.Devices {
		n, err := deviceNode(d.Host)
		if err != nil {
			return nil, nil, err
		}
		if d.Container != "" {
			n.Path = d.Container
		}
		access := d.Access
		if access == "" {
			access = "rwm"
		}
		nodes = append(nodes, n)
		rules = append(rules, specs.LinuxDeviceCgroup{Allow: true, Type: n.Type, Major: &n.Major, Minor: &n.Minor, Access: access})
	}
	return nodes, rules, nil
}

// deviceNode describes a device of the host.
func deviceNode(path string) (specs.LinuxDevice, error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return specs.LinuxDevice{}, fmt.Errorf("device: %w", &os.PathError{Op: "stat", Path: path, Err: err})
	}
	d := specs.LinuxDevice{
		Path: path, Major: int64(unix.Major(st.Rdev)), Minor: int64(unix.Minor(st.Rdev)), UID: &st.Uid, GID: &st.Gid,
	}
	mode := os.FileMode(st.Mode & 0o777)
	d.FileMode = &mode
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFCHR:
		d.Type = "c"
	case unix.S_IFBLK:
		d.Type = "b"
	default:
		return specs.LinuxDevice{}, fmt.Errorf("device: %s is no device", path)
	}
	return d, nil
}

// hostDevices are all nodes below /dev that are not the container's own business.
func hostDevices() []specs.LinuxDevice {
	var out []specs.LinuxDevice
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
