package cli

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/opencontainers/runtime-spec/specs-go"

	"cooper/builder"
	"cooper/dockerfile"
	"cooper/run"
)

func TestBuildahOptions(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "args")
	if err := os.WriteFile(file, []byte("# comment\nA=file\n\nB=two=2\nHOST_SET\nNOT_SET\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		args []string
		want builder.Options
		fail string // part of the error
	}{
		{"volumes", []string{"-v", dir + ":/a:ro,z", "-v", dir + ":/b:O"}, builder.Options{
			Container: run.Config{Mounts: []specs.Mount{{Type: "bind", Source: dir, Destination: "/a", Options: []string{"ro"}}}},
			Overlays:  []builder.Overlay{{Source: dir, Target: "/b"}},
		}, ""},
		{"arguments", []string{"--build-arg-file", file, "--build-arg", "A=flag"}, builder.Options{BuildArgs: map[string]string{"A": "flag", "B": "two=2", "HOST_SET": "from host"}}, ""},
		{"contexts", []string{"--build-context=a=" + dir, "--build-context=b=container-image://c", "--build-context=c=oci-archive:x.tar"},
			builder.Options{NamedContexts: map[string]string{"a": dir, "b": "docker-image://c", "c": "oci-archive:x.tar"}}, ""},
		{"missing context", []string{"--build-context=a=" + dir + "/no"}, builder.Options{}, "failed to get build context a: stat"},
		{"file as context", []string{"--build-context=a=" + file}, builder.Options{}, "not a directory"},
		{"schedule", []string{"--jobs=2", "--no-cache-filter=a,b", "--no-cache-filter", "c", "--omit-history"}, builder.Options{Jobs: 2, NoCacheFilter: []string{"a", "b", "c"}, OmitHistory: true}, ""},
		{"old cache", []string{"--cache-ttl=90m"}, builder.Options{CacheTTL: 90 * time.Minute}, ""},
		{"no old cache", []string{"--cache-ttl=0"}, builder.Options{NoCache: true}, ""},
		{"layers", []string{"--layers=false"}, builder.Options{NoCache: true, Squash: builder.SquashNew}, ""},
		{"without effect", []string{"--layers", "--rm", "--force-rm", "--compress", "--isolation=oci", "--skip-unused-stages", "--disable-content-trust"}, builder.Options{}, ""},
		{"chroot", []string{"--isolation", "chroot"}, builder.Options{Chroot: true}, ""},
		{"jail", []string{"--isolation", "jail"}, builder.Options{}, "invalid isolation \"jail\""},
		{"containers kept", []string{"--rm=false"}, builder.Options{}, "--rm=false is not supported"},
		{"edits", []string{"--from=other", "--env=A=1", "--env", "HOST_SET", "--env=NOT_SET", "--unsetenv=B,C", "--unsetlabel", "d", "--inherit-labels=false"},
			builder.Options{Edits: dockerfile.Edits{From: "other", Env: []string{"A=1", "HOST_SET=from host"}, UnsetEnv: []string{"B", "C"}, UnsetLabels: []string{"d"}, DropLabels: true}}, ""},
		{"stages", []string{"--skip-unused-stages=false", "--save-stages", "--stage-labels", "--layer-label=a=b"},
			builder.Options{BuildUnused: true, Save: builder.SaveOptions{Stages: true, Labelled: true, Labels: map[string]string{"a": "b"}}}, ""},
		{"labels without images", []string{"--stage-labels"}, builder.Options{}, "needs --save-stages"},
		{"layer label without images", []string{"--layer-label=a=b"}, builder.Options{}, "needs --save-stages"},
		{"identity", []string{"--identity-label"}, builder.Options{}, "not supported"},
		{"no identity", []string{"--identity-label=false", "--inherit-annotations=false"}, builder.Options{}, ""},
		{"of docker, without effect", []string{"--builder=default", "--provenance=false", "--sbom=0", "--attest=type=sbom,disabled=true", "--http-proxy=false"}, builder.Options{}, ""},
		{"provenance", []string{"--provenance=mode=max"}, builder.Options{}, "--provenance=mode=max is not supported"},
		{"sbom", []string{"--sbom"}, builder.Options{}, "--sbom=true is not supported"},
		{"attestation", []string{"--attest=type=sbom"}, builder.Options{}, "no attestations are made"},
		{"foreign cache", []string{"--cache-to=type=gha"}, builder.Options{}, "--cache-to is not supported"},
		{"platform of parts", []string{"--arch=arm", "--variant=v7"}, builder.Options{Platforms: []ocispec.Platform{{OS: "linux", Architecture: "arm", Variant: "v7"}}}, ""},
		{"platform twice", []string{"--arch=arm", "--platform=linux/amd64"}, builder.Options{}, "exclude --platform"},
		{"other names", []string{"--net=none", "--dns-opt=a", "--debug", "--disable-compression=false"}, builder.Options{Network: "none", Container: run.Config{DNSOptions: []string{"a"}}}, ""},
		{"proxies", []string{"--http-proxy", "--build-arg=NO_PROXY=given"}, builder.Options{BuildArgs: map[string]string{"NO_PROXY": "given", "https_proxy": "http://proxy:1"}}, ""},
		{"variable without name", []string{"--env==x"}, builder.Options{}, "want NAME[=VALUE]"},
		{"negative jobs", []string{"--jobs=-1"}, builder.Options{}, "invalid --jobs -1"},
		{"owner of volume", []string{"-v", dir + ":/a:U"}, builder.Options{Chown: []string{dir}, Container: run.Config{Mounts: []specs.Mount{{Type: "bind", Source: dir, Destination: "/a"}}}}, ""},
		{"owner of overlay", []string{"-v", dir + ":/a:U,O"}, builder.Options{}, "options U and O exclude each other"},
		{"missing volume", []string{"-v", dir + "/no:/a"}, builder.Options{}, "no such file"},
		{"anonymous volume", []string{"-v", "/a"}, builder.Options{}, "want SOURCE:DESTINATION"},
		{"overlay of a file", []string{"-v", file + ":/a:O"}, builder.Options{}, "O needs a directory"},
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
			c.want.Pull = builder.PullMissing
			if diff := cmp.Diff(c.want, got, cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("options(%q) (-want +got):\n%s", c.args, diff)
			}
		})
	}
}
