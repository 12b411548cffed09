package registry

import (
	"bytes"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"cooper/registry/registrytest"
)

// distribution starts Debian's docker-registry on a free port until the test
// ends, and returns its host and port.
func distribution(t testing.TB) string {
	t.Helper()
	program := tool(t, "docker-registry")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	host := l.Addr().String()
	l.Close()
	config := write(t, t.TempDir()+"/config.yml", fmt.Sprintf(`version: 0.1
log: {level: error, accesslog: {disabled: true}}
storage: {filesystem: {rootdirectory: %s}, delete: {enabled: true}}
http: {addr: %s}
`, t.TempDir(), host))
	cmd := exec.Command(program, "serve", config)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	cmd.Env = []string{"PATH=" + os.Getenv("PATH")} // REGISTRY_... would be settings
	var log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if resp, err := http.Get("http://" + host + "/v2/"); err == nil {
			resp.Body.Close()
			return host
		}
		if time.Now().After(deadline) {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
			t.Fatalf("docker-registry does not answer; it says:\n%s", log.String())
		}
	}
}

// TestRealRegistry goes round through docker-registry, with skopeo looking on.
func TestRealRegistry(t *testing.T) {
	host := distribution(t)
	source := registrytest.New(t)
	source.Put("app:1", hello())
	index(source, "multi:1")
	skopeo(t, "copy", "--src-tls-verify=false", "--dest-tls-verify=false", "docker://"+source.Host()+"/app:1", "docker://"+host+"/app:1")
	skopeo(t, "copy", "--all", "--src-tls-verify=false", "--dest-tls-verify=false", "docker://"+source.Host()+"/multi:1", "docker://"+host+"/multi:1")

	c := newClient(t)
	ref := mustParse(t, host+"/app:1")
	config, _, err := c.Config(t.Context(), ref, ocispec.Platform{})
	if err != nil {
		t.Fatal(err)
	}
	image, err := c.Pull(t.Context(), ref, PullOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(config.RootFS.DiffIDs, diffIDs(t, c, image)); diff != "" {
		t.Errorf("layers (-config +pulled):\n%s", diff)
	}
	arm, err := c.Pull(t.Context(), mustParse(t, host+"/multi:1"), PullOptions{Platform: ocispec.Platform{OS: "linux", Architecture: "arm64"}})
	if err != nil || arm.Config.Architecture != "arm64" {
		t.Errorf("arm64: %q, %v", arm.Config.Architecture, err)
	}
	desc, err := c.Push(t.Context(), image.ID, mustParse(t, host+"/pushed:1"), PushOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if got := inspect(t, "docker://"+host+"/pushed:1"); got.Digest != desc.Digest || len(got.Layers) != 2 {
		t.Errorf("skopeo sees %+v, want digest %s and 2 layers", got, desc.Digest)
	}
	for _, missing := range []string{host + "/app:2", host + "/nothing:1"} {
		_, err := c.Pull(t.Context(), mustParse(t, missing), PullOptions{})
		checkKind(t, err, ErrNotFound)
		t.Log(err)
	}
}

// TestRealBigImage pulls and pushes some hundred megabytes with progress.
func TestRealBigImage(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds")
	}
	host := distribution(t)
	source := registrytest.New(t)
	var big strings.Builder
	for i := range 1 << 21 { // barely compressible
		fmt.Fprintf(&big, "%x", uint64(i)*0x9e3779b97f4a7c15)
	}
	image := registrytest.Image{Layers: []registrytest.Layer{{"big": big.String()}}}
	source.Put("big:1", image)
	c := newClient(t)
	reports, last := 0, Progress{}
	c.Progress = func(p Progress) {
		reports++
		if p.Total > 1<<20 {
			if p.Offset < last.Offset && !last.Done {
				t.Errorf("progress went back: %+v after %+v", p, last)
			}
			last = p
		}
	}
	begin := time.Now()
	pulled, err := c.Pull(t.Context(), mustParse(t, source.Host()+"/big:1"), PullOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("pulled %d MB in %v, %d reports", big.Len()>>20, time.Since(begin), reports)
	if !last.Done || last.Offset != last.Total {
		t.Errorf("last report %+v, want all bytes and Done", last)
	}
	begin = time.Now()
	if _, err := c.Push(t.Context(), pulled.ID, mustParse(t, host+"/big:1"), PushOptions{}); err != nil {
		t.Fatal(err)
	}
	t.Logf("pushed in %v", time.Since(begin))
}
