package runner

import (
	"fmt"
	"maps"
	"slices"

	"github.com/opencontainers/cgroups"
	"github.com/opencontainers/cgroups/manager"
	"github.com/opencontainers/runc/libcontainer"
)

// cgroup reads a container's cgroup beside libcontainer, which owns it. Its methods are
// an engine's.
type cgroup struct{ m cgroups.Manager }

// newCgroup reads the cgroup of a container that has one. Where it is, the container
// knows: finding that out again costs a look at every hierarchy.
func newCgroup(lc *libcontainer.Container, none bool) (*cgroup, error) {
	if none {
		return &cgroup{}, nil
	}
	s, err := lc.State()
	if err != nil {
		return nil, fmt.Errorf("cgroup: %w", err)
	}
	m, err := manager.NewWithPaths(s.Config.Cgroups, s.CgroupPaths)
	if err != nil {
		return nil, fmt.Errorf("cgroup: %w", err)
	}
	return &cgroup{m}, nil
}

func (c *cgroup) oomKills() uint64 {
	if c.m == nil {
		return 0
	}
	n, err := c.m.OOMKillCount()
	if err != nil {
		return 0 // no memory controller: not known
	}
	return n
}

// cgroups are the directories to be removed after the container's end, as others
// find them.
func (c *cgroup) cgroups() []string {
	if c.m == nil {
		return nil
	}
	dirs := slices.Collect(maps.Values(c.m.GetPaths()))
	for i := range dirs {
		dirs[i] = outsideUnified(dirs[i])
	}
	slices.Sort(dirs)
	return slices.Compact(dirs)
}
