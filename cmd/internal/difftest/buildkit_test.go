package difftest

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// recordAll builds the cases by BuildKit and writes their want.json.
func recordAll(t *testing.T, all []testCase) {
	k := newBuildKit(t, *recordFrom)
	base := k.baseImage(t)
	for _, c := range all {
		t.Run(c.name, func(t *testing.T) {
			dir := filepath.Join(scratch(t), "case")
			if err := c.stage(dir); err != nil {
				t.Fatal(err)
			}
			b, err := k.build(&c, dir)
			if c.fails != nil {
				checkFailure(t, &c, err)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			img, err := b.relative(k.version, base)
			if err != nil {
				t.Fatal(err)
			}
			if old, err := c.want(); err == nil && old.Source == byHand {
				t.Log("want.json was written by hand and stays")
				return
			}
			if err := c.record(img); err != nil {
				t.Fatal(err)
			}
			if c.has("record-me") {
				if err := os.Remove(filepath.Join(c.dir, "record-me")); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

// checkFailure asks whether BuildKit's error has the words of expect-error.
func checkFailure(t *testing.T, c *testCase, err error) {
	t.Helper()
	if err == nil {
		for _, line := range c.fails {
			if !strings.HasPrefix(line, "ours: ") {
				t.Fatalf("BuildKit builds it; expect-error has %q", c.fails)
			}
		}
		return
	}
	for _, line := range c.fails {
		if !strings.HasPrefix(line, "ours: ") && !strings.Contains(err.Error(), line) {
			t.Errorf("error %q, want %q in it", err, line)
		}
	}
}

// buildKit is a daemon of our own.
type buildKit struct {
	client  string
	socket  string
	version string
	base    string // layout
	digest  string
}

func newBuildKit(t *testing.T, bin string) *buildKit {
	t.Helper()
	dir := scratch(t)
	k := &buildKit{client: filepath.Join(bin, "buildctl"), socket: "unix://" + filepath.Join(dir, "socket"), base: baseLayout(t)}
	k.digest = layoutDigest(t, k.base)
	cmd := exec.Command(filepath.Join(bin, "buildkitd"), "--root", filepath.Join(dir, "root"), "--addr", k.socket,
		"--oci-worker-net=host", "--oci-worker-gc=false", "--containerd-worker=false")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
	})
	text, err := exec.Command("go", "list", "-m", "-f", "{{.Version}}", "github.com/moby/buildkit").Output()
	if err != nil {
		t.Fatal(err)
	}
	k.version = "buildkit " + strings.TrimSpace(string(text))
	for range 100 {
		if exec.Command(k.client, "--addr", k.socket, "debug", "workers").Run() == nil {
			return k
		}
		time.Sleep(100 * time.Millisecond)
	}
	t.Fatal("buildkitd did not answer within 10 seconds")
	return nil
}

// layoutDigest returns the digest of a layout's only manifest.
func layoutDigest(t *testing.T, dir string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, "index.json"))
	if err != nil {
		t.Fatal(err)
	}
	var index struct{ Manifests []struct{ Digest string } }
	if err := json.Unmarshal(text, &index); err != nil {
		t.Fatal(err)
	}
	return index.Manifests[0].Digest
}

func (k *buildKit) baseImage(t *testing.T) *built {
	t.Helper()
	dir := scratch(t)
	for _, name := range []string{"df", "context"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "df", "Dockerfile"), []byte("FROM busybox-base\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	b, err := k.build(&testCase{}, dir)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// build builds a case that was staged in dir.
func (k *buildKit) build(c *testCase, dir string) (*built, error) {
	args := []string{
		"--addr", k.socket, "build", "--progress=plain", "--frontend=dockerfile.v0",
		"--local=context=" + filepath.Join(dir, "context"), "--local=dockerfile=" + filepath.Join(dir, "df"),
		"--oci-layout=base=" + k.base, "--opt=context:busybox-base=oci-layout://base@" + k.digest,
		"--output=type=oci,dest=" + filepath.Join(dir, "out.tar"),
	}
	more, err := frontendArgs(c.args, filepath.Join(dir, "context"))
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(k.client, append(args, more...)...)
	cmd.Dir = filepath.Join(dir, "context")
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("%w: %s", err, out)
	}
	return readArchive(filepath.Join(dir, "out.tar"))
}

// frontendArgs translates build's arguments to buildctl's.
func frontendArgs(args []string, context string) ([]string, error) {
	names := map[string]string{"--build-arg": "build-arg:", "--label": "label:", "--target": "target=", "--platform": "platform=", "--network": "force-network-mode="}
	var out []string
	for _, arg := range args {
		name, value, _ := strings.Cut(arg, "=")
		switch {
		case names[name] != "":
			out = append(out, "--opt="+names[name]+value)
		case name == "--secret" || name == "--ssh" || name == "--allow":
			out = append(out, arg)
		case name == "--build-context":
			key, dir, _ := strings.Cut(value, "=")
			if !strings.Contains(dir, "://") {
				out = append(out, "--local="+key+"="+filepath.Join(context, dir))
				dir = "local:" + key
			}
			out = append(out, "--opt=context:"+key+"="+dir)
		case name == "--no-cache":
			out = append(out, "--no-cache")
		default:
			return nil, fmt.Errorf("args: no translation of %s for buildctl", arg)
		}
	}
	return out, nil
}
