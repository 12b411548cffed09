package cli

import (
	"encoding/csv"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/docker/go-units"
	"github.com/spf13/pflag"

	"cooper/run"
)

// containerFlags are what build and run take about a container's names and
// limits.
type containerFlags struct {
	hostname                    string
	addHost, dns, dnsSearch     []string
	dnsOption                   []string
	ulimits                     []string
	shmSize, memory, memorySwap string
	cpus                        float64
	cpuShares, cpuPeriod        uint64
	cpuQuota                    int64
	cpusetCPUs, cpusetMems      string
	cgroupParent                string
}

// declareNames declares the flags about names, all but --hostname, whose short
// form run alone has.
func (f *containerFlags) declareNames(fs *pflag.FlagSet) {
	fs.StringArrayVar(&f.addHost, "add-host", nil, "Add `NAME:IP` to /etc/hosts (repeatable)")
	fs.StringArrayVar(&f.dns, "dns", nil, "Use the name server at `IP` (repeatable)")
	fs.StringArrayVar(&f.dnsSearch, "dns-search", nil, "Search names in `DOMAIN` (repeatable)")
	fs.StringArrayVar(&f.dnsOption, "dns-option", nil, "Add an `OPTION` to /etc/resolv.conf (repeatable)")
}

// declareLimits declares the flags about resources.
func (f *containerFlags) declareLimits(fs *pflag.FlagSet) {
	fs.StringVarP(&f.memory, "memory", "m", "", "Limit memory to `SIZE` (512m, 2g)")
	fs.StringVar(&f.memorySwap, "memory-swap", "", "Limit memory and swap together to `SIZE`; -1 is no limit")
	fs.Float64Var(&f.cpus, "cpus", 0, "Limit processor time to `N` processors (1.5)")
	fs.Uint64VarP(&f.cpuShares, "cpu-shares", "c", 0, "Get `N` parts when processors are busy; others have 1024")
	fs.Uint64Var(&f.cpuPeriod, "cpu-period", 0, "Count processor time in periods of `N` microseconds")
	fs.Int64Var(&f.cpuQuota, "cpu-quota", 0, "Limit processor time in each period to `N` microseconds")
	fs.StringVar(&f.cpusetCPUs, "cpuset-cpus", "", "Use only the processors in `LIST` (0-3,6)")
	fs.StringVar(&f.cpusetMems, "cpuset-mems", "", "Use only the memory nodes in `LIST` (0-3,6)")
	fs.StringVar(&f.shmSize, "shm-size", "", "Make /dev/shm of `SIZE` (default 64m)")
	fs.StringArrayVar(&f.ulimits, "ulimit", nil, "Set a limit: `NAME=SOFT[:HARD]` (repeatable)")
	fs.StringVar(&f.cgroupParent, "cgroup-parent", "", "Put containers into cgroups below `PATH`")
	markSections(fs, sectionResources, "memory", "memory-swap", "cpus", "cpu-shares", "cpu-period", "cpu-quota",
		"cpuset-cpus", "cpuset-mems", "shm-size", "ulimit", "cgroup-parent")
}

// apply checks the flags and puts them into c.
func (f *containerFlags) apply(c *run.Config) error {
	c.Hostname, c.DNSSearch, c.DNSOptions, c.CgroupParent = f.hostname, f.dnsSearch, f.dnsOption, f.cgroupParent
	c.CPUs, c.CPUShares, c.CPUPeriod, c.CPUQuota = f.cpus, f.cpuShares, f.cpuPeriod, f.cpuQuota
	c.CPUSetCPUs, c.CPUSetMems = f.cpusetCPUs, f.cpusetMems
	if err := f.names(c); err != nil {
		return err
	}
	if err := f.sizes(c); err != nil {
		return err
	}
	switch {
	case f.cpus < 0:
		return fmt.Errorf("invalid --cpus %v: want a positive number", f.cpus)
	case f.cpus > 0 && (f.cpuPeriod != 0 || f.cpuQuota != 0):
		return errors.New("conflicting options: --cpus cannot be used with --cpu-period or --cpu-quota")
	}
	for _, value := range f.ulimits {
		u, err := units.ParseUlimit(value)
		if err != nil {
			return fmt.Errorf("invalid --ulimit %q: %w", value, err)
		}
		c.Ulimits = append(c.Ulimits, run.Ulimit{Name: u.Name, Soft: u.Soft, Hard: u.Hard})
	}
	return nil
}

func (f *containerFlags) names(c *run.Config) error {
	for _, entry := range f.addHost {
		name, ip, found := strings.Cut(entry, "=")
		if !found {
			name, ip, found = strings.Cut(entry, ":")
		}
		ip = strings.Trim(ip, "[]")
		if _, err := netip.ParseAddr(ip); !found || name == "" || err != nil && ip != "host-gateway" {
			return fmt.Errorf("invalid host entry %q: want NAME:IP", entry)
		}
		c.ExtraHosts = append(c.ExtraHosts, name+":"+ip)
	}
	for _, ip := range f.dns {
		if _, err := netip.ParseAddr(ip); err != nil {
			return fmt.Errorf("invalid name server %q: want an IP address", ip)
		}
		c.DNS = append(c.DNS, ip)
	}
	return nil
}

func (f *containerFlags) sizes(c *run.Config) error {
	for _, size := range []struct {
		flag, value string
		to          *int64
	}{
		{"memory", f.memory, &c.Memory},
		{"memory-swap", f.memorySwap, &c.MemorySwap},
		{"shm-size", f.shmSize, &c.ShmSize},
	} {
		if size.value == "" {
			continue
		}
		if size.flag == "memory-swap" && size.value == "-1" {
			*size.to = -1
			continue
		}
		n, err := units.RAMInBytes(size.value)
		if err != nil || n <= 0 {
			return fmt.Errorf("invalid --%s %q: want a size such as 512m or 2g", size.flag, size.value)
		}
		*size.to = n
	}
	if f.memorySwap != "" && f.memory == "" {
		return errors.New("--memory-swap needs --memory as well")
	}
	if m := c.MemorySwap; m > 0 && m < c.Memory {
		return errors.New("--memory-swap is memory and swap together: it can't be less than --memory")
	}
	return nil
}

// resource reads one value of buildx's --resource: KEY=VALUE,... with the names
// of the flags as keys.
func (f *containerFlags) resource(s string) error {
	fields, err := csv.NewReader(strings.NewReader(s)).Read()
	if err != nil {
		return fmt.Errorf("invalid resource %q: %w", s, err)
	}
	for _, field := range fields {
		key, value, found := strings.Cut(strings.TrimSpace(field), "=")
		if !found || value == "" {
			return fmt.Errorf("invalid resource %q: want KEY=VALUE", field)
		}
		var err error
		switch strings.ToLower(key) {
		case "memory":
			f.memory = value
		case "memory-swap":
			f.memorySwap = value
		case "cpu-shares":
			f.cpuShares, err = strconv.ParseUint(value, 10, 64)
		case "cpu-period":
			f.cpuPeriod, err = strconv.ParseUint(value, 10, 64)
		case "cpu-quota":
			f.cpuQuota, err = strconv.ParseInt(value, 10, 64)
		case "cpuset-cpus":
			f.cpusetCPUs = value
		case "cpuset-mems":
			f.cpusetMems = value
		default:
			return fmt.Errorf("invalid resource %q: unknown key %q: want memory, memory-swap, cpu-shares, cpu-period, cpu-quota, cpuset-cpus or cpuset-mems", field, key)
		}
		if err != nil {
			return fmt.Errorf("invalid resource %q: %q is no number", field, value)
		}
	}
	return nil
}
