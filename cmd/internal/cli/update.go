package cli

import (
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"cooper/run"
)

// newUpdate makes the update command.
func newUpdate(e *Env) *cobra.Command {
	var f limitFlags
	var c containerFlags
	var restart string
	cmd := &cobra.Command{
		Use:                   "update [OPTIONS] CONTAINER [CONTAINER...]",
		Short:                 "Change limits and restart policies of containers",
		Example:               "\n  @ -m 1g --cpus 2 web\n  @ --restart always web db",
		DisableFlagsInUseLine: true,
		Args:                  minArgs(1, statusError),
		RunE: func(cmd *cobra.Command, args []string) error {
			for _, name := range fixedLimits {
				if cmd.Flags().Changed(name) {
					return fmt.Errorf("--%s cannot be changed: make a new container", name)
				}
			}
			if !changesLimits(cmd) {
				return errors.New("nothing to change: give a limit or --restart, see cooper update --help")
			}
			var policy *run.RestartPolicy
			if restart != "" {
				p, err := parseRestart(restart)
				if err != nil {
					return err
				}
				policy = &p
			}
			change := func(conf *run.Config) error { return updateLimits(cmd, &c, &f, conf) }
			return e.eachContainer(cmd.Context(), args, false, func(ctr *run.Container) error {
				return ctr.Update(cmd.Context(), change, policy)
			})
		},
	}
	c.declareLimits(cmd.Flags())
	f.declare(cmd.Flags())
	for _, name := range fixedLimits {
		cmd.Flags().Lookup(name).Hidden = true
	}
	cmd.Flags().StringVar(&restart, "restart", "", "Start it again when it ends: `POLICY` no, on-failure[:N], always, unless-stopped")
	e.commonFlags(cmd)
	return cmd
}

// fixedLimits are flags about limits that only a new container can have.
var fixedLimits = []string{"shm-size", "ulimit", "cgroup-parent", "device", "device-cgroup-rule", "oom-score-adj", "oom-kill-disable"}

// changesLimits reports whether a flag about something to change was given.
func changesLimits(cmd *cobra.Command) bool {
	changes := false
	cmd.Flags().Visit(func(f *pflag.Flag) {
		changes = changes || !slices.Contains(f.Annotations[sectionKey], sectionStore)
	})
	return changes
}

// updateLimits puts the limits that were given into conf.
func updateLimits(cmd *cobra.Command, c *containerFlags, f *limitFlags, conf *run.Config) error {
	var given run.Config
	if cmd.Flags().Changed("memory-swap") && c.memory == "" { // it may have its limit from before
		c.memory = strconv.FormatInt(conf.Memory, 10)
	}
	if err := c.apply(&given); err != nil {
		return err
	}
	if err := f.apply(&given); err != nil {
		return err
	}
	for name, set := range map[string]func(){
		"memory":             func() { conf.Memory = given.Memory },
		"memory-swap":        func() { conf.MemorySwap = given.MemorySwap },
		"memory-reservation": func() { conf.MemoryReservation = given.MemoryReservation },
		"memory-swappiness":  func() { conf.MemorySwappiness = given.MemorySwappiness },
		"cpus":               func() { conf.CPUs, conf.CPUPeriod, conf.CPUQuota = given.CPUs, 0, 0 },
		"cpu-shares":         func() { conf.CPUShares = given.CPUShares },
		"cpu-period":         func() { conf.CPUPeriod, conf.CPUs = given.CPUPeriod, 0 },
		"cpu-quota":          func() { conf.CPUQuota, conf.CPUs = given.CPUQuota, 0 },
		"cpu-rt-period":      func() { conf.CPURealtimePeriod = given.CPURealtimePeriod },
		"cpu-rt-runtime":     func() { conf.CPURealtimeRuntime = given.CPURealtimeRuntime },
		"cpuset-cpus":        func() { conf.CPUSetCPUs = given.CPUSetCPUs },
		"cpuset-mems":        func() { conf.CPUSetMems = given.CPUSetMems },
		"pids-limit":         func() { conf.PidsLimit = given.PidsLimit },
	} {
		if cmd.Flags().Changed(name) {
			set()
		}
	}
	if given.BlockIO != nil {
		conf.BlockIO = given.BlockIO
	}
	if conf.MemorySwap > 0 && conf.MemorySwap < conf.Memory {
		return errors.New("memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same time")
	}
	return nil
}
