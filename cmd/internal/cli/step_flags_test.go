package cli

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"cooper/builder"
	"cooper/run"
)

func TestStepOptions(t *testing.T) {
	for _, c := range []struct {
		name string
		args []string
		want builder.Options
		fail string // part of the error
	}{
		{"names", []string{
			"--hostname", "box", "--add-host", "a:10.0.0.1", "--add-host", "b=::1", "--add-host", "c:host-gateway",
			"--dns", "1.1.1.1", "--dns-search", "example.org", "--dns-option", "ndots:2",
		}, builder.Options{Container: run.Config{
			Hostname: "box", ExtraHosts: []string{"a:10.0.0.1", "b:::1", "c:host-gateway"},
			DNS: []string{"1.1.1.1"}, DNSSearch: []string{"example.org"}, DNSOptions: []string{"ndots:2"},
		}}, ""},
		{"limits", []string{
			"-m", "1g", "--memory-swap=-1", "-c", "512", "--cpu-period", "50000", "--cpu-quota=25000", "--cpuset-cpus=0-1",
			"--cpuset-mems", "0", "--shm-size", "1m", "--ulimit", "nofile=1:2", "--cgroup-parent", "builds",
		}, builder.Options{Container: run.Config{
			Memory: 1 << 30, MemorySwap: -1, CPUShares: 512, CPUPeriod: 50000, CPUQuota: 25000, CPUSetCPUs: "0-1",
			CPUSetMems: "0", ShmSize: 1 << 20, Ulimits: []run.Ulimit{{Name: "nofile", Soft: 1, Hard: 2}}, CgroupParent: "builds",
		}}, ""},
		{
			"resource", []string{"--resource", "memory=64m,cpu-shares=2", "--resource", `"cpuset-cpus=0,1",cpu-quota=5000`},
			builder.Options{Container: run.Config{Memory: 64 << 20, CPUShares: 2, CPUSetCPUs: "0,1", CPUQuota: 5000}}, "",
		},
		{
			"allow", []string{"--allow", "network.host,security.insecure", "--allow=device=/dev/fuse", "--allow", "device"},
			builder.Options{Allow: []string{"network.host", "security.insecure", "device=/dev/fuse", "device"}}, "",
		},
		{"unknown resource", []string{"--resource", "disk=1"}, builder.Options{}, `unknown key "disk"`},
		{"bad resource", []string{"--resource", "cpu-shares=many"}, builder.Options{}, `"many" is no number`},
		{"resource without value", []string{"--resource", "memory"}, builder.Options{}, "want KEY=VALUE"},
		{"cpus twice", []string{"--cpus", "1", "--cpu-quota", "5000"}, builder.Options{}, "conflicting options"},
		{"unknown entitlement", []string{"--allow", "all"}, builder.Options{}, `invalid entitlement "all"`},
		{"device without name", []string{"--allow", "device="}, builder.Options{}, `invalid entitlement "device="`},
	} {
		t.Run(c.name, func(t *testing.T) {
			var f buildFlags
			if _, err := parse(t, f.declare, c.args); err != nil {
				t.Fatal(err)
			}
			var got builder.Options
			err := f.stepFlags.apply(&got)
			if !failsWith(err, c.fail) {
				t.Fatalf("apply(%q) fails with %v, want %q", c.args, err, c.fail)
			}
			if err != nil {
				return
			}
			if diff := cmp.Diff(c.want, got, cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("apply(%q) (-want +got):\n%s", c.args, diff)
			}
		})
	}
}
