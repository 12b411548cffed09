package cli

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/opencontainers/runtime-spec/specs-go"
	"github.com/spf13/pflag"

	"cooper/layers"
	"cooper/run"
)

// testImage is what the containers of these tests are made from.
func testImage() layers.Image {
	var img layers.Image
	img.ID = "image id"
	c := &img.Config.Config
	c.Env = []string{"PATH=/bin", "A=image", "B=image"}
	c.Entrypoint, c.Cmd = []string{"/entry"}, []string{"default"}
	c.User, c.WorkingDir, c.StopSignal = "app", "/srv", "SIGUSR1"
	c.Labels = map[string]string{"from": "image", "both": "image"}
	c.ExposedPorts = map[string]struct{}{"80": {}, "53/udp": {}}
	c.Volumes = map[string]struct{}{"/vol": {}, "/other/": {}}
	c.Healthcheck = &dockerspec.HealthcheckConfig{Test: []string{"CMD-SHELL", "ok"}, Retries: 7}
	return img
}

// runOptions makes options as run and create do.
func runOptions(t *testing.T, args, command []string) (run.ContainerOptions, string, error) {
	t.Helper()
	var f runFlags
	fs, err := parse(t, func(fs *pflag.FlagSet) { f.declare(fs); f.startFlags.declare(fs) }, args)
	if err != nil {
		t.Fatal(err)
	}
	f.noteGiven(fs)
	r, err := f.request(lookup, []string{"A=environ", "E=environ"})
	if err != nil {
		return run.ContainerOptions{}, "", err
	}
	return r.options(testImage(), "app", command)
}

func TestRunOptions(t *testing.T) {
	from := func(change func(*run.ContainerOptions)) run.ContainerOptions {
		o := run.ContainerOptions{
			Image: "app", ImageID: "image id", Entrypoint: []string{"/entry"}, Cmd: []string{"default"},
			Config: run.Config{
				Args: []string{"/entry", "default"}, Env: []string{"PATH=/bin", "A=image", "B=image"},
				User: "app", Dir: "/srv", StopSignal: 10,
			},
			Labels:      map[string]string{"from": "image", "both": "image"},
			NetworkMode: "bridge", Networks: []run.NetworkAttachment{{Network: "bridge"}},
			Exposed: []string{"53/udp", "80/tcp"},
			Mounts:  []run.ContainerMount{{Type: "volume", Destination: "/other"}, {Type: "volume", Destination: "/vol"}},
			Health:  &run.HealthConfig{Test: []string{"/bin/sh", "-c", "ok"}, Written: []string{"CMD-SHELL", "ok"}, Retries: 7},
		}
		change(&o)
		o.Config.Args = append(append([]string(nil), o.Entrypoint...), o.Cmd...)
		return o
	}
	seconds := 90 * time.Second
	mask := uint32(0o27)
	for _, c := range []struct {
		name    string
		args    []string
		command []string
		want    run.ContainerOptions
	}{
		{"none", nil, nil, from(func(*run.ContainerOptions) {})},
		{"command", nil, []string{"-x"}, from(func(o *run.ContainerOptions) { o.Cmd = []string{"-x"} })},
		{"entrypoint", []string{"--entrypoint", "sh"}, []string{"-c"}, from(func(o *run.ContainerOptions) { o.Entrypoint, o.Cmd = []string{"sh"}, []string{"-c"} })},
		{"entrypoint clears command", []string{"--entrypoint=sh"}, nil, from(func(o *run.ContainerOptions) { o.Entrypoint, o.Cmd = []string{"sh"}, nil })},
		{"entrypoint in JSON", []string{`--entrypoint=["sh","-c"]`}, []string{"x"}, from(func(o *run.ContainerOptions) { o.Entrypoint, o.Cmd = []string{"sh", "-c"}, []string{"x"} })},
		{"entrypoint cleared", []string{"--entrypoint="}, []string{"sh"}, from(func(o *run.ContainerOptions) { o.Entrypoint, o.Cmd = nil, []string{"sh"} })},
		{"env", []string{"-e", "A=flag", "-e", "NEW=1", "-e", "HOST_SET", "-e", "B"}, nil, from(func(o *run.ContainerOptions) {
			o.Config.Env = []string{"PATH=/bin", "A=flag", "NEW=1", "HOST_SET=from host"}
		})},
		{"env of the host", []string{"--env-host", "--unsetenv", "B"}, nil, from(func(o *run.ContainerOptions) {
			o.Config.Env = []string{"A=image", "E=environ", "PATH=/bin"}
		})},
		{"no env of the image", []string{"--unsetenv-all", "-e", "A=1"}, nil, from(func(o *run.ContainerOptions) { o.Config.Env = []string{"A=1"} })},
		{"process", []string{"-it", "-u", "1:2", "-w", "/w", "--group-add", "5", "--init", "--stop-signal", "TERM", "--tz", "local", "--umask", "027"}, nil, from(func(o *run.ContainerOptions) {
			o.OpenStdin, o.StdinOnce, o.Init = true, true, true
			o.Config.Terminal, o.Config.User, o.Config.Dir, o.Config.GroupAdd = true, "1:2", "/w", []string{"5"}
			o.Config.StopSignal, o.Config.Timezone, o.Config.Umask = 15, "local", &mask
		})},
		{"detached", []string{"-d", "-i", "--name", "web", "--rm"}, nil, from(func(o *run.ContainerOptions) {
			o.OpenStdin, o.Name, o.AutoRemove = true, "web", true
		})},
		{"foreground", []string{"--rm"}, nil, from(func(o *run.ContainerOptions) { o.AutoRemove, o.Foreground, o.Health = true, true, nil })},
		{"kept for its name", []string{"--rm", "--name=ab"}, nil, from(func(o *run.ContainerOptions) { o.AutoRemove, o.Name = true, "ab" })},
		{"kept to detach", []string{"--rm", "-it"}, nil, from(func(o *run.ContainerOptions) {
			o.AutoRemove, o.OpenStdin, o.StdinOnce, o.Config.Terminal = true, true, true, true
		})},
		{"kept for its log", []string{"--rm", "--log-driver=none"}, nil, from(func(o *run.ContainerOptions) { o.AutoRemove, o.Log.Driver = true, "none" })},
		{"written", []string{"-l", "a=b=c", "-l", "both=flag", "--label", "empty", "--annotation", "k=v", "--pidfile", "/p"}, nil, from(func(o *run.ContainerOptions) {
			o.Labels = map[string]string{"from": "image", "both": "flag", "a": "b=c", "empty": ""}
			o.Config.Annotations, o.PIDFile = map[string]string{"k": "v"}, "/p"
		})},
		{"log", []string{"--log-driver", "json-file", "--log-opt", "max-size=1m", "--log-opt", "max-file=3"}, nil, from(func(o *run.ContainerOptions) {
			o.Log = run.LogConfig{Driver: "json-file", MaxSize: 1 << 20, MaxFiles: 3, Options: map[string]string{"max-size": "1m", "max-file": "3"}}
		})},
		{"ends", []string{"--restart", "on-failure:3", "--stop-timeout", "90", "--timeout", "5"}, nil, from(func(o *run.ContainerOptions) {
			o.Restart, o.StopTimeout, o.Timeout = run.RestartPolicy{Name: "on-failure", MaxRetries: 3}, &seconds, 5*time.Second
		})},
		{"namespaces", []string{"--pid", "host", "--ipc", "container:x", "--uts", "host", "--cgroupns", "private", "--userns", "host"}, nil, from(func(o *run.ContainerOptions) {
			o.Config.PID, o.Config.IPC, o.Config.UTS, o.Config.CgroupNS = "host", "container:x", "host", "private"
		})},
		{"own users", []string{"--userns", "keep-id:uid=5"}, nil, from(func(o *run.ContainerOptions) {
			o.Config.UserNS = &run.UserNS{Mode: "keep-id:uid=5"}
		})},
		{"mapped users", []string{"--uidmap", "0:1000:10", "--uidmap", "10:5"}, nil, from(func(o *run.ContainerOptions) {
			ids := []layers.IDRange{{Inside: 0, Outside: 1000, Size: 10}, {Inside: 10, Outside: 5, Size: 1}}
			o.Config.UserNS = &run.UserNS{Mode: "private", Owners: layers.Owners{UIDs: ids, GIDs: ids}}
		})},
		{"private namespaces", []string{"--pid", "private", "--ipc", "shareable", "--uts=private"}, nil, from(func(*run.ContainerOptions) {})},
		{"health", []string{"--health-cmd", "curl x", "--health-interval", "5s", "--health-timeout=2s", "--health-start-period=1m", "--health-start-interval=1s"}, nil, from(func(o *run.ContainerOptions) {
			o.Health = &run.HealthConfig{
				Test: []string{"/bin/sh", "-c", "curl x"}, Written: []string{"CMD-SHELL", "curl x"}, Interval: 5 * time.Second, Timeout: 2 * time.Second,
				StartPeriod: time.Minute, StartInterval: time.Second, Retries: 7,
			}
		})},
		{"health in JSON", []string{`--health-cmd=["CMD","curl","x"]`, "--health-retries=1"}, nil, from(func(o *run.ContainerOptions) {
			o.Health = &run.HealthConfig{Test: []string{"curl", "x"}, Written: []string{"CMD", "curl", "x"}, Retries: 1}
		})},
		{"no health", []string{"--no-healthcheck"}, nil, from(func(o *run.ContainerOptions) { o.Health = nil })},
		{"health none", []string{"--health-cmd=none"}, nil, from(func(o *run.ContainerOptions) { o.Health = nil })},
		{"mount over a volume of the image", []string{"-v", "data:/vol/", "--tmpfs", "/other"}, nil, from(func(o *run.ContainerOptions) {
			o.Mounts = []run.ContainerMount{{Type: "volume", Name: "data", Destination: "/vol"}, {Type: "tmpfs", Destination: "/other"}}
		})},
		{"much", []string{
			"-h", "box", "--domainname", "d", "--no-hostname", "--network", "none", "--add-host", "a:10.0.0.1", "--add-host", "b=::1",
			"--add-host", "c:[::2]", "--dns", "1.1.1.1", "--dns-opt", "x", "--dns-option", "y", "--read-only", "--privileged",
			"--cap-add", "NET_ADMIN", "--cap-drop", "all",
			"-m", "512m", "--memory-swap", "1g", "--memory-reservation", "256m", "--cpus", "1.5", "--pids-limit", "7", "--shm-size", "1m",
			"--ulimit", "nofile=1:2", "--sysctl", "net.x=1", "--oom-score-adj", "-5", "--blkio-weight", "10",
			"--device", "/dev/null:/dev/x:r", "--device", "vendor.com/gpu=0", "--device-cgroup-rule", "c 1:* rw", "--security-opt", "mask=/proc/x",
		}, nil, from(func(o *run.ContainerOptions) {
			c := &o.Config
			o.NetworkMode, o.Networks, c.Hostname, c.Domainname, c.Network = "none", nil, "box", "d", "none"
			c.NoHostname = true
			c.ExtraHosts = []string{"a:10.0.0.1", "b:::1", "c:::2"}
			c.DNS, c.DNSOptions, c.ReadOnly, c.Privileged = []string{"1.1.1.1"}, []string{"x", "y"}, true, true
			c.CapAdd, c.CapDrop = []string{"NET_ADMIN"}, []string{"all"}
			c.Memory, c.MemorySwap, c.MemoryReservation, c.CPUs, c.PidsLimit, c.ShmSize = 512<<20, 1<<30, 256<<20, 1.5, 7, 1<<20
			c.Ulimits = []run.Ulimit{{Name: "nofile", Soft: 1, Hard: 2}}
			c.Sysctl, c.OOMScoreAdj, c.Mask = map[string]string{"net.x": "1"}, -5, []string{"/proc/x"}
			weight, major := uint16(10), int64(1)
			c.BlockIO = &specs.LinuxBlockIO{Weight: &weight}
			c.Devices = []run.Device{{Host: "/dev/null", Container: "/dev/x", Access: "r"}}
			c.CDIDevices = []string{"vendor.com/gpu=0"}
			c.DeviceRules = []specs.LinuxDeviceCgroup{{Allow: true, Type: "c", Major: &major, Access: "rw"}}
		})},
		{"networks", []string{"--net", "one", "--ip", "10.1.0.2", "--ip6", "fd00::2", "--mac-address", "02-42-00-00-00-01", "--net-alias", "x", "--network", "name=two,alias=a,alias=b,ip=10.2.0.2"}, nil, from(func(o *run.ContainerOptions) {
			o.NetworkMode = "one"
			o.Networks = []run.NetworkAttachment{
				{Network: "one", IP: netip.MustParseAddr("10.1.0.2"), IP6: netip.MustParseAddr("fd00::2"), MAC: "02:42:00:00:00:01", Aliases: []string{"x"}},
				{Network: "two", IP: netip.MustParseAddr("10.2.0.2"), Aliases: []string{"a", "b"}},
			}
		})},
		{"podman's network options", []string{"--network", "one:ip=10.1.0.2,mac=02:42:00:00:00:01"}, nil, from(func(o *run.ContainerOptions) {
			o.NetworkMode = "one"
			o.Networks = []run.NetworkAttachment{{Network: "one", IP: netip.MustParseAddr("10.1.0.2"), MAC: "02:42:00:00:00:01"}}
		})},
		{"network of a container", []string{"--network", "container:web"}, nil, from(func(o *run.ContainerOptions) { o.NetworkMode, o.Networks = "container:web", nil })},
		{"default network", []string{"--network", "default", "--mac-address", "02:42:00:00:00:01"}, nil, from(func(o *run.ContainerOptions) {
			o.Networks[0].MAC = "02:42:00:00:00:01"
		})},
		{"ports", []string{"-p", "8080:80", "-p", "127.0.0.1::9-10", "-P", "--expose", "7-8/udp"}, nil, from(func(o *run.ContainerOptions) {
			o.Exposed = []string{"10/tcp", "53/udp", "7/udp", "8/udp", "80/tcp", "9/tcp"}
			local := netip.MustParseAddr("127.0.0.1")
			o.Ports = []run.PortMapping{
				{HostPort: 8080, ContainerPort: 80, Protocol: "tcp"},
				{HostIP: local, ContainerPort: 9, Protocol: "tcp"}, {HostIP: local, ContainerPort: 10, Protocol: "tcp"},
				{ContainerPort: 53, Protocol: "udp"}, {ContainerPort: 7, Protocol: "udp"}, {ContainerPort: 8, Protocol: "udp"},
			}
		})},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, warning, err := runOptions(t, c.args, c.command)
			if err != nil || warning != "" {
				t.Fatalf("options(%q) = %q, %v", c.args, warning, err)
			}
			if diff := cmp.Diff(c.want, got, cmpopts.EquateEmpty(), cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
				t.Errorf("options(%q) (-want +got):\n%s", c.args, diff)
			}
		})
	}
}

// Published ports mean nothing on the host's network; docker warns as well.
func TestRunDiscardsPorts(t *testing.T) {
	got, warning, err := runOptions(t, []string{"--network=host", "-p", "80:80"}, nil)
	if err != nil || !strings.Contains(warning, "discarded") || got.Ports != nil || got.Config.Network != "host" {
		t.Errorf("options = %+v, %q, %v", got, warning, err)
	}
}

func TestRunErrors(t *testing.T) {
	exists := filepath.Join(t.TempDir(), "exists")
	if err := os.WriteFile(exists, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args string // separated by spaces, with _ for a space in one
		fail string
	}{
		{"--entrypoint=", "no command specified"},
		{"-e =x", `invalid environment variable "=x"`},
		{"-w rel", "absolute path"},
		{"--umask 9", `invalid --umask "9"`},
		{"--umask 1000", `invalid --umask "1000"`},
		{"--stop-signal NOPE", "NOPE"},
		{"--name -x", `invalid container name "-x"`},
		{"--replace", "cannot replace container without --name being set"},
		{"--cidfile " + exists, "container ID file found"},
		{"--label =x", `invalid label "=x"`},
		{"--annotation x", `invalid annotation: "x" is not KEY=VALUE`},
		{"--log-driver journald", `log driver "journald" is not there`},
		{"--log-opt tag=x", `unknown log opt "tag"`},
		{"--log-opt max-file=0", "invalid --log-opt max-file=0"},
		{"--log-opt max-file=2", "needs max-size"},
		{"--log-opt max-size=much", "invalid --log-opt max-size=much"},
		{"--restart :1", "no policy provided before colon"},
		{"--restart on-failure:x", "maximum retry count must be an integer"},
		{"--restart on-failure:-1", "maximum retry count cannot be negative"},
		{"--restart always:1", "maximum retry count can only be used with 'on-failure'"},
		{"--restart often", "unknown policy 'often'"},
		{"--rm --restart always", "cannot specify both --restart and --rm"},
		{"--pid container:", "invalid PID mode: container:"},
		{"--ipc container", "invalid IPC mode: container"},
		{"--uts container:x", "invalid UTS mode: container:x"},
		{"--cgroupns x", "invalid CGROUPNS mode: x"},
		{"--uts host -h box", "conflicting options: hostname and the UTS mode"},
		{"--userns keep-id:x=1", "--userns: invalid USER mode keep-id:x=1: unknown option \"x\""},
		{"--userns auto --uidmap 0:1:2", "cannot be given together"},
		{"--uidmap 0:1:0", "--uidmap: invalid id mapping \"0:1:0\": the size is 0"},
		{"--gidmap x", "--gidmap: invalid id mapping \"x\": want CONTAINER:OUTSIDE:SIZE"},
		{"--uidmap 0:1 --subuidname x", "--uidmap and --subuidname cannot be given together"},
		{"--userns x", "invalid USER mode: x"},
		{"--runtime nosuch", "the OCI runtime nosuch is not installed"},
		{"--runtime /no/such", "the OCI runtime /no/such cannot be used: no such file or directory"},
		{"--runtime-flag debug", "--runtime-flag needs --runtime"},
		{"--runtime runc --runtime-flag root=/x", `invalid --runtime-flag "root=/x"`},
		{"--runtime runc --runtime-flag --debug", `invalid --runtime-flag "--debug"`},
		{"--health-cmd x --no-healthcheck", "--no-healthcheck conflicts with --health-* options"},
		{"--health-interval -1s", "--health-interval cannot be negative"},
		{"--health-timeout 1us", "--health-timeout cannot be less than 1ms"},
		{"--health-retries -1", "--health-retries cannot be negative"},
		{"--add-host a", `invalid host entry "a"`},
		{"--dns a", `invalid name server "a"`},
		{"-m lots", `invalid --memory "lots"`},
		{"--memory-swap 1g", "needs --memory"},
		{"-m 2g --memory-swap 1g", "less than --memory"},
		{"-m 1g --memory-reservation 2g", "less than --memory-reservation"},
		{"--memory-swappiness 101", "Valid memory swappiness range is 0-100"},
		{"--oom-score-adj 1001", "range for oom score adj is [-1000, 1000]"},
		{"--ulimit nofile", `invalid --ulimit "nofile"`},
		{"--blkio-weight 9", "range of blkio weight is from 10 to 1000"},
		{"--blkio-weight-device /dev/null:9", "range of blkio weight is from 10 to 1000"},
		{"--device-read-bps sda:1mb", "want DEVICE:VALUE"},
		{"--device-read-bps /dev/null:1mb", "is no block device"},
		{"--device-write-iops /dev/null:1mb", "the rate must be a number"},
		{"--device a:b:c:d", "bad format for path: a:b:c:d"},
		{"--device /dev/null:/dev/x:q", "bad mode specified: q"},
		{"--device null", "null is not an absolute path"},
		{"--device-cgroup-rule x", "invalid device cgroup format 'x'"},
		{"--device-cgroup-rule x_1:2_r", "invalid device cgroup format"},
		{"--device-cgroup-rule c_1_r", "invalid device cgroup format"},
		{"--device-cgroup-rule c_1:-2_r", "invalid device cgroup format"},
		{"--device-cgroup-rule c_1:2_rx", "invalid device cgroup format"},
		{"--security-opt mask=x", `"x" is not an absolute path`},
		{"--no-hosts --add-host a:1.1.1.1", "--no-hosts and --add-host cannot be set together"},
		{"--sysctl x", `invalid --sysctl "x"`},
		{"-v /a:/x --tmpfs /x", "duplicate mount point: /x"},
		{"-v /a:/x --mount type=tmpfs,dst=/x/", "duplicate mount point: /x"},
		{"--volume-driver nfs", `volume driver "nfs" is not there`},
		{"--wait", "--wait needs --detach"},
		{"-d --wait-timeout 1", "--wait-timeout needs --wait"},
		{"-d -a stdin", "cannot specify both --attach and --detach"},
		{"-a x", "valid streams are STDIN, STDOUT and STDERR"},
		{"--platform a/b/c/d", `invalid platform "a/b/c/d"`},
		{"--pull often", `invalid pull policy "often"`},
		{"--network container:", "want container: and what to join"},
		{"--network alias=x", "it has no name"},
		{"--network a/b", "no name of a network"},
		{"--network name=ab,ip=x", `"x" is no IP address`},
		{"--network name=ab,ip=::1", `"::1" is no IPv4 address`},
		{"--network name=ab,color=red", `unknown key "color"`},
		{"--network one --network host", "cannot attach both user-defined and non-user-defined network-modes"},
		{"--network one --network one", `network "one" is specified multiple times`},
		{"--network name=ab,ip=10.0.0.2 --ip 10.0.0.3", "cannot specify both --ip and per-network address"},
		{"--network name=ab,alias=x --network-alias y", "cannot specify both --network-alias and per-network alias"},
		{"--ip 10.0.0.2", "user specified IP address is supported on user defined networks only"},
		{"--network-alias x", "network-scoped alias is supported only for containers in user defined networks"},
		{"--network host --mac-address 02:42:00:00:00:01", "conflicting options: mac-address and the network mode"},
		{"--mac-address x", "x is not a valid mac address"},
		{"--network container:x -h box", "conflicting options: hostname and the network mode"},
		{"--network container:x -p 80", "conflicting options: port publishing and the container type network mode"},
		{"--network container:x --expose 80", "conflicting options: port exposing and the container type network mode"},
		{"--network container:x --dns 1.1.1.1", "conflicting options: dns and the network mode"},
		{"--network container:x --add-host a:1.1.1.1", "conflicting options: custom host-to-IP mapping and the network mode"},
		{"--expose 80:80", "invalid port format for --expose: 80:80"},
		{"--expose 90-80", "invalid range format for --expose: 90-80"},
		{"-p 80:80 -p 80:81", "bind for 0.0.0.0:80 failed: port is already allocated"},
	} {
		args := strings.Fields(c.args)
		for i, a := range args {
			args[i] = strings.ReplaceAll(a, "_", " ")
		}
		if _, _, err := runOptions(t, args, nil); !failsWith(err, c.fail) {
			t.Errorf("options(%s) fails with %v, want %q", c.args, err, c.fail)
		}
	}
}
