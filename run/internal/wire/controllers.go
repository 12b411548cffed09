package wire

import "github.com/opencontainers/runtime-spec/specs-go"

// Controllers are the cgroup controllers, as version 1 names them, that the limits
// of a container need beside those of every container.
func Controllers(s *specs.Spec) []string {
	if s.Linux == nil || s.Linux.Resources == nil {
		return nil
	}
	var names []string
	r := s.Linux.Resources
	if c := r.CPU; c != nil {
		names = append(names, "cpu")
		if c.Cpus != "" || c.Mems != "" {
			names = append(names, "cpuset")
		}
	}
	if r.BlockIO != nil {
		names = append(names, "blkio")
	}
	if len(r.HugepageLimits) > 0 {
		names = append(names, "hugetlb")
	}
	if r.Network != nil {
		names = append(names, "net_cls", "net_prio")
	}
	if len(r.Rdma) > 0 {
		names = append(names, "rdma")
	}
	return names
}
