package cli

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/opencontainers/runtime-spec/specs-go"
	"github.com/spf13/pflag"

	"cooper/builder"
	"cooper/run"
)

// lookup is the environment of the tests.
func lookup(key string) (string, bool) {
	value, ok := map[string]string{"HOST_SET": "from host", "HOST_EMPTY": ""}[key]
	return value, ok
}

// parse parses args with the flags that declare adds.
func parse(t *testing.T, declare func(*pflag.FlagSet), args []string) (*pflag.FlagSet, error) {
	t.Helper()
	fs := pflag.NewFlagSet("test", pflag.ContinueOnError)
	fs.SetOutput(io.Discard)
	fs.SetInterspersed(false)
	declare(fs)
	return fs, fs.Parse(args)
}

func TestBuildOptions(t *testing.T) {
	for _, c := range []struct {
		name string
		args []string
		want builder.Options
		fail string // part of the error
	}{
		{"none", nil, builder.Options{Pull: builder.PullMissing}, ""},
		{
			"all",
			[]string{
				"-t", "a:1", "--tag=b", "--target", "test", "--build-arg", "X=1=2", "--build-arg", "HOST_SET",
				"--build-arg", "HOST_EMPTY", "--build-arg", "HOST_MISSING", "--build-context", "base=oci-layout://d:1",
				"--label", "a=b", "--label", "empty", "--no-cache", "--pull", "--platform", "linux/arm64", "--network", "none",
			},
			builder.Options{
				Tags: []string{"a:1", "b"}, Target: "test",
				BuildArgs:     map[string]string{"X": "1=2", "HOST_SET": "from host", "HOST_EMPTY": ""},
				NamedContexts: map[string]string{"base": "oci-layout://d:1"},
				Labels:        map[string]string{"a": "b", "empty": ""},
				NoCache:       true, Pull: builder.PullAlways, Network: "none",
				Platform: ocispec.Platform{OS: "linux", Architecture: "arm64"},
			},
			"",
		},
		{"pull policy", []string{"--pull=never"}, builder.Options{Pull: builder.PullNever}, ""},
		{"pull newer", []string{"--pull=newer"}, builder.Options{Pull: builder.PullNewer}, ""},
		{"pull true", []string{"--pull=true"}, builder.Options{Pull: builder.PullAlways}, ""},
		{"pull false", []string{"--pull=false"}, builder.Options{Pull: builder.PullMissing}, ""},
		{"pull alone takes no value", []string{"--pull", "never"}, builder.Options{Pull: builder.PullAlways}, ""},
		{"bad pull", []string{"--pull=often"}, builder.Options{}, `invalid pull policy "often"`},
		{"bad network", []string{"--network=br0"}, builder.Options{}, `invalid network "br0"`},
		{"bad platform", []string{"--platform=a/b/c/d"}, builder.Options{}, `invalid platform "a/b/c/d"`},
		{"two platforms", []string{"--platform=linux/amd64,linux/arm64"}, builder.Options{}, "several platforms"},
		{"bad build arg", []string{"--build-arg", "=x"}, builder.Options{}, `invalid build argument "=x"`},
		{"context without value", []string{"--build-context", "base"}, builder.Options{}, `invalid build context "base"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			var f buildFlags
			if _, err := parse(t, f.declare, c.args); err != nil {
				t.Fatal(err)
			}
			got, err := f.options(lookup)
			if !failsWith(err, c.fail) {
				t.Fatalf("options(%q) fails with %v, want %q", c.args, err, c.fail)
			}
			if err != nil {
				return
			}
			if diff := cmp.Diff(c.want, got, cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("options(%q) (-want +got):\n%s", c.args, diff)
			}
		})
	}
}

// failsWith reports whether err is as want says: its text contains want, or it
// is nil when want is "".
func failsWith(err error, want string) bool {
	if want == "" {
		return err == nil
	}
	return err != nil && strings.Contains(err.Error(), want)
}

func TestRunConfig(t *testing.T) {
	image := dockerspec.DockerOCIImage{}
	image.Config.Env = []string{"PATH=/bin", "A=image", "B=image"}
	image.Config.Entrypoint = []string{"/entry"}
	image.Config.Cmd = []string{"default"}
	image.Config.User = "app"
	image.Config.WorkingDir = "/srv"
	from := func(change func(*run.Config)) run.Config {
		c := run.Config{
			Args: []string{"/entry", "default"}, Env: []string{"PATH=/bin", "A=image", "B=image"},
			User: "app", Dir: "/srv", Network: "host",
		}
		change(&c)
		return c
	}
	for _, c := range []struct {
		name    string
		args    []string
		command []string
		want    run.Config
		fail    string
	}{
		{"none", nil, nil, from(func(*run.Config) {}), ""},
		{"command", nil, []string{"-x", "y"}, from(func(c *run.Config) { c.Args = []string{"/entry", "-x", "y"} }), ""},
		{"entrypoint", []string{"--entrypoint", "sh"}, []string{"-c", "x"}, from(func(c *run.Config) { c.Args = []string{"sh", "-c", "x"} }), ""},
		{"entrypoint clears command", []string{"--entrypoint=sh"}, nil, from(func(c *run.Config) { c.Args = []string{"sh"} }), ""},
		{"entrypoint in JSON", []string{`--entrypoint=["sh","-c"]`}, []string{"x"}, from(func(c *run.Config) { c.Args = []string{"sh", "-c", "x"} }), ""},
		{"entrypoint cleared", []string{"--entrypoint="}, []string{"sh"}, from(func(c *run.Config) { c.Args = []string{"sh"} }), ""},
		{"nothing to run", []string{"--entrypoint="}, nil, run.Config{}, "no command specified"},
		{
			"env", []string{"-e", "A=flag", "-e", "NEW=1", "-e", "HOST_SET", "-e", "B"}, nil,
			from(func(c *run.Config) { c.Env = []string{"PATH=/bin", "A=flag", "NEW=1", "HOST_SET=from host"} }), "",
		},
		{"bad env", []string{"-e", "=x"}, nil, run.Config{}, `invalid environment variable "=x"`},
		{
			"much", []string{
				"-t", "-u", "1:2", "-w", "/w", "-h", "box", "--network", "none", "--add-host", "a:10.0.0.1", "--add-host", "b=::1",
				"--add-host", "c:[::2]", "--dns", "1.1.1.1", "--read-only", "--privileged", "--cap-add", "NET_ADMIN", "--cap-drop", "all",
				"-m", "512m", "--memory-swap", "1g", "--cpus", "1.5", "--pids-limit", "7", "--shm-size", "1m", "--ulimit", "nofile=1:2",
				"--sysctl", "net.x=1", "--group-add", "5",
			}, nil,
			from(func(c *run.Config) {
				c.Terminal, c.User, c.Dir, c.Hostname, c.Network = true, "1:2", "/w", "box", "none"
				c.ExtraHosts = []string{"a:10.0.0.1", "b:::1", "c:::2"}
				c.DNS, c.ReadOnly, c.Privileged = []string{"1.1.1.1"}, true, true
				c.CapAdd, c.CapDrop, c.GroupAdd = []string{"NET_ADMIN"}, []string{"all"}, []string{"5"}
				c.Memory, c.MemorySwap, c.CPUs, c.PidsLimit, c.ShmSize = 512<<20, 1<<30, 1.5, 7, 1<<20
				c.Ulimits = []run.Ulimit{{Name: "nofile", Soft: 1, Hard: 2}}
				c.Sysctl = map[string]string{"net.x": "1"}
			}), "",
		},
		{"bad network", []string{"--network", "mynet"}, nil, run.Config{}, `network "mynet" is not supported yet`},
		{"bad host", []string{"--add-host", "a"}, nil, run.Config{}, `invalid host entry "a"`},
		{"bad dns", []string{"--dns", "a"}, nil, run.Config{}, `invalid name server "a"`},
		{"bad memory", []string{"-m", "lots"}, nil, run.Config{}, `invalid --memory "lots"`},
		{"swap without memory", []string{"--memory-swap", "1g"}, nil, run.Config{}, "needs --memory"},
		{"swap below memory", []string{"-m", "2g", "--memory-swap", "1g"}, nil, run.Config{}, "less than --memory"},
		{"bad ulimit", []string{"--ulimit", "nofile"}, nil, run.Config{}, `invalid --ulimit "nofile"`},
		{"bad directory", []string{"-w", "rel"}, nil, run.Config{}, "absolute path"},
		{"bad name", []string{"--name", "-x"}, nil, run.Config{}, `invalid container name "-x"`},
		{"duplicate mount", []string{"-v", "/a:/x", "--tmpfs", "/x"}, nil, run.Config{}, "duplicate mount point: /x"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var f runFlags
			fs, err := parse(t, f.declare, c.args)
			if err != nil {
				t.Fatal(err)
			}
			f.entrypointSet = fs.Changed("entrypoint")
			got, err := runConfig(&f, image, c.command)
			if !failsWith(err, c.fail) {
				t.Fatalf("config(%q) fails with %v, want %q", c.args, err, c.fail)
			}
			if err != nil {
				return
			}
			if diff := cmp.Diff(c.want, *got, cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("config(%q) (-want +got):\n%s", c.args, diff)
			}
		})
	}
}

func runConfig(f *runFlags, image dockerspec.DockerOCIImage, command []string) (*run.Config, error) {
	r, err := f.request(lookup)
	if err != nil {
		return nil, err
	}
	return r.config(image, f.entrypointGiven(), command)
}

func TestParseVolume(t *testing.T) {
	cwd, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	bind := func(source, dest string, options ...string) mountRequest {
		return mountRequest{
			Mount:      specs.Mount{Type: "bind", Source: source, Destination: dest, Options: options},
			makeSource: true,
		}
	}
	for _, c := range []struct {
		in   string
		want mountRequest
		fail string
	}{
		{"/src:/dst", bind("/src", "/dst", "rbind"), ""},
		{"/src:/dst:ro", bind("/src", "/dst", "rbind", "ro"), ""},
		{"/src:/dst:ro,z,rslave", bind("/src", "/dst", "rbind", "ro", "rslave"), ""},
		{"/src:/dst:bind", bind("/src", "/dst", "bind"), ""},
		{"./src:/dst", bind(filepath.Join(cwd, "src"), "/dst", "rbind"), ""},
		{"..:/dst", bind(filepath.Dir(cwd), "/dst", "rbind"), ""},
		{"/vol", mountRequest{Mount: specs.Mount{Type: "bind", Destination: "/vol"}, anonymous: true}, ""},
		{"name:/dst", mountRequest{}, "write ./name"},
		{"/src:dst", mountRequest{}, `"dst" is not an absolute path`},
		{"/src:/", mountRequest{}, "can't be /"},
		{"/src:/dst:what", mountRequest{}, `unknown option "what"`},
		{"/src:/dst:U", mountRequest{}, "not supported yet"},
		{"/src::ro", mountRequest{}, "no part empty"},
		{"", mountRequest{}, "no part empty"},
		{"/a:/b:ro:x", mountRequest{}, "want SOURCE:DESTINATION"},
	} {
		got, err := parseVolume(c.in)
		checkMount(t, "parseVolume", c.in, got, err, c.want, c.fail)
	}
}

func TestParseMount(t *testing.T) {
	for _, c := range []struct {
		in   string
		want mountRequest
		fail string
	}{
		{
			"type=bind,source=/s,target=/t,readonly",
			mountRequest{Mount: specs.Mount{Type: "bind", Source: "/s", Destination: "/t", Options: []string{"rbind", "ro"}}}, "",
		},
		{
			"type=bind,src=/s,dst=/t,ro=false,bind-propagation=rslave",
			mountRequest{Mount: specs.Mount{Type: "bind", Source: "/s", Destination: "/t", Options: []string{"rbind", "rslave"}}}, "",
		},
		{
			`type=bind,"source=/with,comma",target=/t`,
			mountRequest{Mount: specs.Mount{Type: "bind", Source: "/with,comma", Destination: "/t", Options: []string{"rbind"}}}, "",
		},
		{
			"type=tmpfs,destination=/t,tmpfs-size=1m,tmpfs-mode=1770",
			mountRequest{Mount: specs.Mount{
				Type: "tmpfs", Source: "tmpfs", Destination: "/t",
				Options: []string{"noexec", "nosuid", "nodev", "size=1048576", "mode=1770"},
			}}, "",
		},
		{"target=/t", mountRequest{Mount: specs.Mount{Type: "bind", Destination: "/t"}, anonymous: true}, ""},
		{"type=bind,target=/t", mountRequest{}, "needs source="},
		{"type=volume,source=name,target=/t", mountRequest{}, "named volumes"},
		{"type=image,source=x,target=/t", mountRequest{}, `type "image" is not supported`},
		{"type=bind,source=/s", mountRequest{}, "not an absolute path"},
		{"type=bind,source=/s,target=/t,color=red", mountRequest{}, `unknown key "color"`},
		{"type=tmpfs,target=/t,tmpfs-mode=rwx", mountRequest{}, "octal"},
	} {
		got, err := parseMount(c.in)
		checkMount(t, "parseMount", c.in, got, err, c.want, c.fail)
	}
}

func TestParseTmpfs(t *testing.T) {
	got, err := parseTmpfs("/t:size=1m,exec")
	want := specs.Mount{
		Type: "tmpfs", Source: "tmpfs", Destination: "/t",
		Options: []string{"noexec", "nosuid", "nodev", "size=1m", "exec"},
	}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("parseTmpfs: %v (-want +got):\n%s", err, diff)
	}
}

func checkMount(t *testing.T, name, in string, got mountRequest, err error, want mountRequest, fail string) {
	t.Helper()
	if !failsWith(err, fail) {
		t.Errorf("%s(%q) fails with %v, want %q", name, in, err, fail)
		return
	}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(mountRequest{}), cmpopts.EquateEmpty()); err == nil && diff != "" {
		t.Errorf("%s(%q) (-want +got):\n%s", name, in, diff)
	}
}

func TestReadEnvFile(t *testing.T) {
	for _, c := range []struct {
		name, content string
		want          []string
		fail          string
	}{
		{"empty", "", nil, ""},
		{"usual", "A=1\n\n# comment\n  # indented\n  B=two words \nC=\n", []string{"A=1", "B=two words ", "C="}, ""},
		{"quotes stay", `A="x y"`, []string{`A="x y"`}, ""},
		{"equals and hash in value", "A=b=c#d\n", []string{"A=b=c#d"}, ""},
		{"from the environment", "HOST_SET\nHOST_MISSING \n", []string{"HOST_SET", "HOST_MISSING"}, ""},
		{"byte order mark", "\ufeffA=1\r\n", []string{"A=1"}, ""},
		{"no name", "A=1\n=x\n", nil, "line 2: no variable name"},
		{"white space in name", "A B=1\n", nil, `line 1: variable "A B" contains white space`},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "env")
			if err := os.WriteFile(path, []byte(c.content), 0o600); err != nil {
				t.Fatal(err)
			}
			got, err := readEnvFile(path)
			if !failsWith(err, c.fail) {
				t.Fatalf("readEnvFile fails with %v, want %q", err, c.fail)
			}
			if diff := cmp.Diff(c.want, got); err == nil && diff != "" {
				t.Errorf("readEnvFile (-want +got):\n%s", diff)
			}
		})
	}
}

// Files come before flags, a name without a value in a file is only set if the
// environment has it, and in a flag removes the variable if it has not.
func TestEnvironment(t *testing.T) {
	path := filepath.Join(t.TempDir(), "env")
	if err := os.WriteFile(path, []byte("A=file\nB=file\nHOST_SET\nC\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := environment([]string{"C=image", "D=image"}, []string{path}, []string{"B=flag", "D"}, lookup)
	want := []string{"C=image", "A=file", "B=flag", "HOST_SET=from host"}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("environment: %v (-want +got):\n%s", err, diff)
	}
	if _, err := environment(nil, []string{"/does/not/exist"}, nil, lookup); err == nil {
		t.Error("environment with a missing file succeeds")
	}
}
