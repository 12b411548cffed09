package run

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"cooper/layers"
)

var update = flag.Bool("update", false, "rewrite the golden files in testdata")

var rootTier = Tier{Mounts: true, Proc: true, UTS: true, Net: true, Cgroup: 2}

// TestSpec compares whole specifications with golden files. Seccomp profiles are
// compared elsewhere.
func TestSpec(t *testing.T) {
	img := image(t)
	v, err := layers.OpenView(img)
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	rootless := rootTier
	rootless.Rootless, rootless.Cgroup = true, 0
	single, nested, v1 := rootless, rootless, rootTier
	single.SingleID = true
	nested.Proc, nested.UTS = false, false
	v1.Cgroup = 1
	step := Config{Args: []string{"/bin/sh", "-c", "true"}, BareEnv: true, Hostname: "box"}
	full := Config{
		Args: []string{"app"}, Env: []string{"A=b", "PATH=/app"}, User: "app", GroupAdd: []string{"12"},
		Hostname: "box", Domainname: "example", Network: "none", ReadOnly: true, Terminal: true, NoNewPrivileges: true,
		CapAdd: []string{"sys_ptrace"}, CapDrop: []string{"CHOWN"}, ShmSize: 1 << 20, Sysctl: map[string]string{"net.ipv4.ip_forward": "1"},
		Mounts: []specs.Mount{
			{Type: "tmpfs", Destination: "/run/deep", Options: []string{"size=1m"}},
			{Source: "/etc", Destination: "/run", Options: []string{"ro"}},
			{Type: "tmpfs", Destination: "/dev/shm"},
		},
		Devices: []Device{{Host: "/dev/null", Container: "/dev/nothing", Access: "r"}},
		Ulimits: []Ulimit{{"core", 0, 0}}, Memory: 64 << 20, MemorySwap: -1, CPUs: 1.5, CPUShares: 7, PidsLimit: 9,
		CgroupParent: "/parent", Unmask: []string{"/proc/acpi"}, Annotations: map[string]string{"a": "b"},
	}
	full.Dir = "/work"
	for name, tt := range map[string]struct {
		conf Config
		tier Tier
	}{
		"step-root":     {step, rootTier},
		"step-cgroup1":  {step, v1},
		"step-rootless": {step, rootless},
		"step-single":   {step, single},
		"step-nested":   {step, nested},
		"full-root":     {full, rootTier},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := tt.conf.Spec(v, tt.tier)
			if err != nil {
				t.Fatal(err)
			}
			if got.Linux.Seccomp == nil {
				t.Error("no seccomp profile")
			}
			got.Linux.Seccomp = nil
			for i := range got.Linux.Devices { // nobody's in a user namespace
				*got.Linux.Devices[i].UID, *got.Linux.Devices[i].GID = 0, 0
			}
			golden(t, name+".json", got)
		})
	}
}

func golden(t *testing.T, name string, v any) {
	t.Helper()
	got, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	got = append(got, '\n')
	file := filepath.Join("testdata", name)
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		write(t, file, string(got), 0o644)
		return
	}
	want, err := os.ReadFile(file)
	if os.IsNotExist(err) && os.Getenv(envUserTest) != "" {
		t.Skip("golden files are not reachable here")
	}
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s (-want +got):\n%s", name, diff)
	}
}

// TestSpecErrors: what cannot be given is said, not left out.
func TestSpecErrors(t *testing.T) {
	noNet, noCgroup := rootTier, rootTier
	noNet.Net, noCgroup.Cgroup = false, 0
	for _, tt := range []struct {
		conf Config
		tier Tier
		want string
	}{
		{Config{Args: []string{"x"}}, Tier{}, "no container can be made here"},
		{Config{Args: []string{"x"}, Network: "none"}, noNet, "network none"},
		{Config{Args: []string{"x"}, Network: "bridge9"}, rootTier, `network "bridge9" is not known`},
		{Config{Args: []string{"x"}, Memory: 64 << 20}, noCgroup, "need a writable cgroup"},
		{Config{Args: []string{"x"}, Memory: 1}, rootTier, "minimum memory limit is 6 MiB"},
		{Config{Args: []string{"x"}, Mounts: []specs.Mount{{Source: "/nope", Destination: "/a"}}}, rootTier, "no such file or directory"},
		{Config{Args: []string{"x"}, Mounts: []specs.Mount{{Source: "/etc", Destination: "a"}}}, rootTier, "not absolute"},
		{Config{Args: []string{"x"}, Dir: "a"}, rootTier, "not absolute"},
		{Config{Args: []string{"x"}, Ulimits: []Ulimit{{"nothing", 1, 1}}}, rootTier, "unknown name"},
		{Config{Args: []string{"x"}, Seccomp: "{"}, rootTier, "seccomp profile"},
		{Config{Args: []string{"x"}, GroupAdd: []string{"nobody"}}, rootTier, "unable to find group nobody"},
	} {
		if _, err := tt.conf.Spec(nil, tt.tier); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("Spec(%+v) = %v, want %q", tt.conf, err, tt.want)
		}
	}
}

// TestUlimitsAreClamped: a limit above our own does not fail.
func TestUlimitsAreClamped(t *testing.T) {
	var own unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &own); err != nil {
		t.Fatal(err)
	}
	if canRaiseLimits() {
		t.Skip("this process may raise limits")
	}
	got, err := rlimits([]Ulimit{{"nofile", 1 << 40, -1}, {"core", -1, -1}})
	want := specs.POSIXRlimit{Type: "RLIMIT_NOFILE", Soft: own.Max, Hard: own.Max}
	if err != nil || got[0] != want {
		t.Errorf("rlimits = %v, %v, want %v", got, err, want)
	}
}

func TestMergeCommand(t *testing.T) {
	img := dockerspec.DockerOCIImageConfig{ImageConfig: ocispec.ImageConfig{Entrypoint: []string{"ep"}, Cmd: []string{"cmd"}}}
	s := func(v ...string) *[]string { return &v }
	for _, tt := range []struct {
		entrypoint *[]string
		args       []string
		want       []string
	}{
		{nil, nil, []string{"ep", "cmd"}},
		{nil, []string{"a", "b"}, []string{"ep", "a", "b"}},
		{s("mine"), nil, []string{"mine"}},
		{s("mine"), []string{"a"}, []string{"mine", "a"}},
		{s(""), nil, nil},
		{s(""), []string{"a"}, []string{"a"}},
	} {
		ep, args := MergeCommand(img, tt.entrypoint, tt.args)
		if diff := cmp.Diff(tt.want, slices.Concat(ep, args)); diff != "" {
			t.Errorf("MergeCommand(%v, %v) (-want +got):\n%s", tt.entrypoint, tt.args, diff)
		}
	}
}

func TestParseSecurityOpt(t *testing.T) {
	var c Config
	for _, o := range []string{"no-new-privileges", "seccomp=unconfined", "unmask=/proc/acpi:/proc/keys", "label=disable"} {
		if err := c.ParseSecurityOpt(o); err != nil {
			t.Error(err)
		}
	}
	want := Config{NoNewPrivileges: true, Seccomp: "unconfined", Unmask: []string{"/proc/acpi", "/proc/keys"}}
	if diff := cmp.Diff(want, c); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for _, o := range []string{"nonsense", "no-new-privileges=maybe", "seccomp=/no/such/file", "systempaths=x"} {
		if err := c.ParseSecurityOpt(o); err == nil {
			t.Errorf("ParseSecurityOpt(%q) = nil", o)
		}
	}
}

func TestResolvConf(t *testing.T) {
	c := Config{DNS: []string{"10.0.0.1", "10.0.0.2"}, DNSSearch: []string{"a.example", "b.example"}, DNSOptions: []string{"ndots:2"}}
	want := "search a.example b.example\nnameserver 10.0.0.1\nnameserver 10.0.0.2\noptions ndots:2\n"
	if got := string(c.resolvConf()); !strings.HasSuffix(got, want) || strings.Count(got, "nameserver") != 2 {
		t.Errorf("resolvConf = %q, want %q at its end", got, want)
	}
}
