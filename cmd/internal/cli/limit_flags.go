package cli

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/docker/go-units"
	"github.com/opencontainers/runtime-spec/specs-go"
	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"

	"cooper/run"
)

// limitFlags are the flags of run about resources and devices that build does
// not have.
type limitFlags struct {
	pidsLimit                          int64
	memoryReservation                  string
	swappiness                         int64
	oomScoreAdj                        int
	oomKillDisable                     bool
	cpuRTPeriod                        uint64
	cpuRTRuntime                       int64
	blkioWeight                        uint16
	blkioWeightDevice                  []string
	readBps, writeBps, readIO, writeIO []string
	devices, deviceRules               []string
}

func (f *limitFlags) declare(fs *pflag.FlagSet) {
	fs.Int64Var(&f.pidsLimit, "pids-limit", 0, "Limit the number of processes to `N`; -1 is no limit")
	fs.StringVar(&f.memoryReservation, "memory-reservation", "", "Keep memory near `SIZE` when the host is short of it")
	fs.Int64Var(&f.swappiness, "memory-swappiness", -1, "Swap as eagerly as `0..100` (cgroup v1); -1 is the host's")
	fs.IntVar(&f.oomScoreAdj, "oom-score-adj", 0, "Be ended for lack of memory sooner, up to `N` 1000, or later, -1000")
	fs.BoolVar(&f.oomKillDisable, "oom-kill-disable", false, "Wait rather than be ended for lack of memory (cgroup v1)")
	fs.Uint64Var(&f.cpuRTPeriod, "cpu-rt-period", 0, "Count realtime in periods of `N` microseconds (cgroup v1)")
	fs.Int64Var(&f.cpuRTRuntime, "cpu-rt-runtime", 0, "Limit realtime in each period to `N` microseconds (cgroup v1)")
	fs.Uint16Var(&f.blkioWeight, "blkio-weight", 0, "Get `10..1000` parts when block devices are busy")
	fs.StringArrayVar(&f.blkioWeightDevice, "blkio-weight-device", nil, "The same for one device: `DEVICE:WEIGHT` (repeatable)")
	fs.StringArrayVar(&f.readBps, "device-read-bps", nil, "Read no faster than `DEVICE:RATE` bytes a second, as 10mb (repeatable)")
	fs.StringArrayVar(&f.writeBps, "device-write-bps", nil, "Write no faster than `DEVICE:RATE` bytes a second (repeatable)")
	fs.StringArrayVar(&f.readIO, "device-read-iops", nil, "Read no more than `DEVICE:RATE` times a second (repeatable)")
	fs.StringArrayVar(&f.writeIO, "device-write-iops", nil, "Write no more than `DEVICE:RATE` times a second (repeatable)")
	fs.StringArrayVar(&f.devices, "device", nil, "Give the container a device or directory of them: `HOST[:CONTAINER][:rwm]`, or a CDI name such as vendor.com/class=name (repeatable)")
	fs.StringArrayVar(&f.deviceRules, "device-cgroup-rule", nil, "Allow devices by `RULE`: a, b or c, numbers, rwm, as 'c 81:* rmw' (repeatable)")
	markSections(fs, sectionResources, "pids-limit", "memory-reservation", "memory-swappiness", "oom-score-adj", "oom-kill-disable",
		"cpu-rt-period", "cpu-rt-runtime", "blkio-weight", "blkio-weight-device", "device-read-bps", "device-write-bps",
		"device-read-iops", "device-write-iops")
	markSections(fs, sectionSecurity, "device", "device-cgroup-rule")
}

// apply checks the flags and puts them into c.
func (f *limitFlags) apply(c *run.Config) error {
	c.PidsLimit, c.OOMScoreAdj, c.OOMKillDisable = f.pidsLimit, f.oomScoreAdj, f.oomKillDisable
	c.CPURealtimePeriod, c.CPURealtimeRuntime = f.cpuRTPeriod, f.cpuRTRuntime
	if f.oomScoreAdj < -1000 || f.oomScoreAdj > 1000 {
		return fmt.Errorf("invalid value %d, range for oom score adj is [-1000, 1000]", f.oomScoreAdj)
	}
	if f.swappiness < -1 || f.swappiness > 100 {
		return fmt.Errorf("invalid value: %d. Valid memory swappiness range is 0-100", f.swappiness)
	}
	if f.swappiness >= 0 {
		n := uint64(f.swappiness)
		c.MemorySwappiness = &n
	}
	if f.memoryReservation != "" {
		n, err := units.RAMInBytes(f.memoryReservation)
		if err != nil || n <= 0 {
			return fmt.Errorf("invalid --memory-reservation %q: want a size such as 512m or 2g", f.memoryReservation)
		}
		if c.Memory > 0 && n > c.Memory {
			return errors.New("--memory can't be less than --memory-reservation")
		}
		c.MemoryReservation = n
	}
	for _, s := range f.devices {
		if err := addDevice(c, s); err != nil {
			return err
		}
	}
	for _, s := range f.deviceRules {
		rule, err := parseDeviceRule(s)
		if err != nil {
			return err
		}
		c.DeviceRules = append(c.DeviceRules, rule)
	}
	return f.blockIO(c)
}

// addDevice gives c the device that a value of --device names: by path, or as
// the Container Device Interface does (vendor.com/class=name).
func addDevice(c *run.Config, s string) error {
	if run.IsCDIName(s) {
		c.CDIDevices = append(c.CDIDevices, s)
		return nil
	}
	d, err := parseDevice(s)
	if err == nil {
		c.Devices = append(c.Devices, d)
	}
	return err
}

// parseDevice reads a value of --device with a path: HOST[:CONTAINER][:ACCESS].
func parseDevice(s string) (run.Device, error) {
	parts := strings.Split(s, ":")
	d := run.Device{Host: parts[0]}
	switch {
	case len(parts) > 3:
		return d, fmt.Errorf("bad format for path: %s", s)
	case len(parts) == 3:
		d.Container, d.Access = parts[1], parts[2]
		if !isAccess(d.Access) {
			return d, fmt.Errorf("bad mode specified: %s", d.Access)
		}
	case len(parts) == 2 && isAccess(parts[1]):
		d.Access = parts[1]
	case len(parts) == 2:
		d.Container = parts[1]
	}
	for _, p := range []string{d.Host, d.Container} {
		if p != "" && !path.IsAbs(p) {
			return d, fmt.Errorf("%s is not an absolute path", p)
		}
	}
	if d.Host == "" {
		return d, fmt.Errorf("bad format for path: %s", s)
	}
	return d, nil
}

// isAccess reports whether s is some of the letters r, w and m, each once.
func isAccess(s string) bool {
	seen := ""
	for _, c := range s {
		if !strings.ContainsRune("rwm", c) || strings.ContainsRune(seen, c) {
			return false
		}
		seen += string(c)
	}
	return seen != ""
}

// parseDeviceRule reads a value of --device-cgroup-rule: "TYPE MAJOR:MINOR ACCESS".
func parseDeviceRule(s string) (specs.LinuxDeviceCgroup, error) {
	bad := fmt.Errorf("invalid device cgroup format '%s'", s)
	fields := strings.Split(s, " ")
	if len(fields) != 3 || !slices.Contains([]string{"a", "b", "c"}, fields[0]) || !isAccess(fields[2]) {
		return specs.LinuxDeviceCgroup{}, bad
	}
	rule := specs.LinuxDeviceCgroup{Allow: true, Type: fields[0], Access: fields[2]}
	major, minor, found := strings.Cut(fields[1], ":")
	if !found {
		return rule, bad
	}
	for _, number := range []struct {
		text string
		to   **int64
	}{{major, &rule.Major}, {minor, &rule.Minor}} {
		if number.text == "*" {
			continue
		}
		n, err := strconv.ParseUint(number.text, 10, 32)
		if err != nil {
			return rule, bad
		}
		signed := int64(n)
		*number.to = &signed
	}
	return rule, nil
}

// blockIO puts the limits on block devices into c.
func (f *limitFlags) blockIO(c *run.Config) error {
	var io specs.LinuxBlockIO
	any := false
	if w := f.blkioWeight; w != 0 {
		if _, err := weight(strconv.Itoa(int(w))); err != nil {
			return err
		}
		io.Weight, any = &w, true
	}
	for _, s := range f.blkioWeightDevice {
		d, n, err := blockDevice(s, weight)
		if err != nil {
			return fmt.Errorf("invalid --blkio-weight-device %q: %w", s, err)
		}
		w := uint16(n)
		wd := specs.LinuxWeightDevice{Weight: &w}
		wd.Major, wd.Minor = d.Major, d.Minor
		io.WeightDevice, any = append(io.WeightDevice, wd), true
	}
	for _, list := range []struct {
		flag   string
		values []string
		parse  func(string) (uint64, error)
		to     *[]specs.LinuxThrottleDevice
	}{
		{"device-read-bps", f.readBps, bytesRate, &io.ThrottleReadBpsDevice},
		{"device-write-bps", f.writeBps, bytesRate, &io.ThrottleWriteBpsDevice},
		{"device-read-iops", f.readIO, countRate, &io.ThrottleReadIOPSDevice},
		{"device-write-iops", f.writeIO, countRate, &io.ThrottleWriteIOPSDevice},
	} {
		for _, s := range list.values {
			d, rate, err := blockDevice(s, list.parse)
			if err != nil {
				return fmt.Errorf("invalid --%s %q: %w", list.flag, s, err)
			}
			d.Rate = rate
			*list.to, any = append(*list.to, d), true
		}
	}
	if any {
		c.BlockIO = &io
	}
	return nil
}

func weight(s string) (uint64, error) {
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil || n < 10 || n > 1000 {
		return 0, errors.New("range of blkio weight is from 10 to 1000")
	}
	return n, nil
}

func bytesRate(s string) (uint64, error) {
	n, err := units.RAMInBytes(s)
	if err != nil || n < 0 {
		return 0, errors.New("the rate must be a number of bytes, as 10mb")
	}
	return uint64(n), nil
}

func countRate(s string) (uint64, error) {
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		return 0, errors.New("the rate must be a number")
	}
	return n, nil
}

// blockDevice reads DEVICE:VALUE and finds the device's numbers.
func blockDevice(s string, parse func(string) (uint64, error)) (d specs.LinuxThrottleDevice, value uint64, err error) {
	name, text, found := strings.Cut(s, ":")
	if !found || !strings.HasPrefix(name, "/dev/") {
		return d, 0, errors.New("want DEVICE:VALUE, the device a path below /dev")
	}
	if value, err = parse(text); err != nil {
		return d, 0, err
	}
	var st unix.Stat_t
	if err := unix.Stat(name, &st); err != nil {
		return d, 0, err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFBLK {
		return d, 0, fmt.Errorf("%s is no block device", name)
	}
	d.Major, d.Minor = int64(unix.Major(st.Rdev)), int64(unix.Minor(st.Rdev))
	return d, value, nil
}
