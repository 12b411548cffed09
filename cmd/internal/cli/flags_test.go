package cli

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/spf13/pflag"

	"cooper/builder"
)

// lookup is the environment of the tests.
func lookup(key string) (string, bool) {
	value, ok := map[string]string{"HOST_SET": "from host", "HOST_EMPTY": "", "https_proxy": "http://proxy:1"}[key]
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
				Platforms: []ocispec.Platform{{OS: "linux", Architecture: "arm64"}},
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
		{
			"several platforms", []string{"--platform=linux/amd64,linux/arm64/v8", "--platform=linux/arm64", "--manifest=list", "--squash"},
			builder.Options{Platforms: []ocispec.Platform{amd64, arm64}, Index: "list", Squash: builder.SquashNew, Pull: builder.PullMissing}, "",
		},
		{"all and some platforms", []string{"--platform=linux/amd64", "--all-platforms"}, builder.Options{}, "--all-platforms and --platform exclude each other"},
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
