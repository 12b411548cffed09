package registry

import (
	"context"
	"errors"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"cooper/registry/registrytest"
)

// fast makes further attempts follow at once.
func fast(t testing.TB) {
	saved := waits
	waits = []time.Duration{time.Millisecond, time.Millisecond}
	t.Cleanup(func() { waits = saved })
}

// TestFaults pulls while every request of a kind goes wrong. The store must
// have no image afterwards, and one when the registry has recovered.
func TestFaults(t *testing.T) {
	fast(t)
	const manifests, blobs = "/manifests/", "/blobs/" // of blobs, the config is asked for first
	layer := digest.FromBytes(hello().Layers[1].Blob()).String()
	for _, tt := range []struct {
		name string
		path string
		do   registrytest.Do
		want error  // kind, nil = none
		says string // part of the message
	}{
		{"404 with code", manifests, registrytest.Code(404, "MANIFEST_UNKNOWN", "manifest unknown"), ErrNotFound, "check the name"},
		{"404 with text", manifests, registrytest.Status(404, "<html>nothing here</html>"), ErrNotFound, "check the name"},
		{"404 blob", blobs, registrytest.Status(404, "gone"), ErrNotFound, ""},
		{"401", manifests, registrytest.Code(401, "UNAUTHORIZED", "who are you"), ErrUnauthorized, "--authfile"},
		{"403", manifests, registrytest.Code(403, "DENIED", "not for you"), ErrUnauthorized, "--authfile"},
		{"403 with text", manifests, registrytest.Status(403, "not for you"), ErrUnauthorized, "--authfile"},
		{"500 manifest", manifests, registrytest.Status(500, "oops"), ErrUnreachable, "again later"},
		{"500 ping", "/v2/", registrytest.Status(500, "oops"), ErrUnreachable, "again later"},
		{"503 blob", blobs, registrytest.Code(503, "UNAVAILABLE", "busy"), ErrUnreachable, "again later"},
		{"reset", manifests, registrytest.Reset, ErrUnreachable, "again later"},
		{"truncated manifest", manifests, registrytest.Truncate, ErrUnreachable, ""},
		{"truncated blob", blobs, registrytest.Truncate, ErrUnreachable, ""},
		{"corrupt blob", blobs, registrytest.Corrupt, nil, "igest"},
		{"short blob", blobs, registrytest.Short, nil, ""},
		{"endless manifest", manifests, registrytest.Endless, nil, "exceeded"},
		{"404 layer", layer, registrytest.Status(404, "gone"), ErrNotFound, ""},
		{"500 layer", layer, registrytest.Status(500, "oops"), ErrUnreachable, ""},
		{"reset layer", layer, registrytest.Reset, ErrUnreachable, ""},
		{"truncated layer", layer, registrytest.Truncate, ErrUnreachable, ""},
		{"corrupt layer", layer, registrytest.Corrupt, nil, ""},
		{"short layer", layer, registrytest.Short, nil, ""},
		{"endless layer", layer, registrytest.Endless, nil, "longer than"},
		{"redirect loop", blobs, registrytest.Loop, ErrUnreachable, "redirects"},
		{"forged lines", manifests, registrytest.Code(403, "DENIED", "x\nSuccessfully built\u001b[2J"), ErrUnauthorized, "x Successfully"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			reg := registrytest.New(t)
			reg.Put("app:1", hello())
			reg.Fault(registrytest.Fault{Method: http.MethodGet, Path: tt.path, Do: tt.do})
			c := newClient(t)
			ref := mustParse(t, reg.Host()+"/app:1")
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			_, err := c.Pull(ctx, ref, PullOptions{})
			if err == nil {
				t.Fatal("Pull succeeded")
			}
			checkKind(t, err, tt.want)
			msg := err.Error()
			if !strings.Contains(msg, tt.says) || !strings.Contains(msg, reg.Host()) {
				t.Errorf("message %q, want %q and the registry in it", msg, tt.says)
			}
			if strings.ContainsAny(msg, "\n\x1b") || strings.Contains(msg, "secret") || len(msg) > 1000 {
				t.Errorf("message %q has a secret, a control character or is too long", msg)
			}
			t.Log(msg)
			noImages(t, c)
			reg.Heal()
			if _, err := c.Pull(t.Context(), ref, PullOptions{}); err != nil {
				t.Errorf("Pull afterwards: %v", err)
			}
		})
	}
}

func checkKind(t testing.TB, err, want error) {
	t.Helper()
	for _, kind := range []error{ErrNotFound, ErrUnauthorized, ErrUnreachable, ErrRejected} {
		if errors.Is(err, kind) != (kind == want) {
			t.Errorf("%v: is %v = %v, want kind %v", err, kind, kind != want, want)
		}
	}
}

func TestPassingFaults(t *testing.T) {
	fast(t)
	for name, do := range map[string]registrytest.Do{
		"500": registrytest.Status(500, "oops"), "reset": registrytest.Reset, "truncated": registrytest.Truncate,
	} {
		t.Run(name, func(t *testing.T) {
			reg := registrytest.New(t)
			reg.Put("app:1", hello())
			for _, path := range []string{"/manifests/", "/blobs/"} {
				reg.Fault(registrytest.Fault{Method: http.MethodGet, Path: path, Do: do, Times: 1})
			}
			c := newClient(t)
			if _, err := c.Pull(t.Context(), mustParse(t, reg.Host()+"/app:1"), PullOptions{}); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestRetries: as often as was asked for, also while the registry is not there.
func TestRetries(t *testing.T) {
	fast(t)
	for retries, ok := range map[int]bool{0: false, 3: false, 4: true} {
		reg := registrytest.New(t)
		reg.Put("app:1", hello())
		reg.Fault(registrytest.Fault{Method: http.MethodGet, Path: "/manifests/", Do: registrytest.Status(500, "oops"), Times: 4})
		c := newClient(t)
		c.Retries, c.RetryDelay = &retries, time.Microsecond
		if _, err := c.Pull(t.Context(), mustParse(t, reg.Host()+"/app:1"), PullOptions{}); (err == nil) != ok {
			t.Errorf("%d retries: %v", retries, err)
		}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	free := l.Addr().String()
	l.Close()
	c := newClient(t)
	two := 2
	c.Retries, c.RetryDelay = &two, 50*time.Millisecond
	begin := time.Now()
	_, _, err = c.Config(t.Context(), mustParse(t, free+"/app"), ocispec.Platform{})
	if !errors.Is(err, ErrUnreachable) || time.Since(begin) < 100*time.Millisecond {
		t.Errorf("a registry that is not there: %v after %v", err, time.Since(begin))
	}
}

func TestUnreachable(t *testing.T) {
	fast(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	free := l.Addr().String()
	l.Close()
	c := newClient(t)
	for ref, says := range map[string]string{
		free + "/app":                  "check that the registry is running",
		"no-such-host.invalid/app":     "DNS",
		"no-such-host.invalid:5000/ap": "no-such-host.invalid:5000",
	} {
		_, _, err := c.Config(t.Context(), mustParse(t, ref), ocispec.Platform{})
		if err == nil {
			t.Fatalf("%s: no error", ref)
		}
		checkKind(t, err, ErrUnreachable)
		if !strings.Contains(err.Error(), says) {
			t.Errorf("%v, want %q in it", err, says)
		}
		t.Log(err)
	}
}

func TestSlow(t *testing.T) {
	reg := registrytest.New(t)
	reg.Put("app:1", hello())
	reg.Fault(registrytest.Fault{Path: "/manifests/", Do: registrytest.Slow(time.Minute)})
	c := newClient(t)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	begin := time.Now()
	_, _, err := c.Config(ctx, mustParse(t, reg.Host()+"/app:1"), ocispec.Platform{})
	if !errors.Is(err, context.DeadlineExceeded) || time.Since(begin) > 2*time.Second {
		t.Errorf("Config = %v after %v, want the deadline at once", err, time.Since(begin))
	}
}

func TestTLS(t *testing.T) {
	reg := registrytest.NewTLS(t)
	reg.Put("app:1", hello())
	plain := registrytest.New(t)
	plain.Put("app:1", hello())
	c := newClient(t)
	yes, no := true, false
	secure, open := mustParse(t, reg.Host()+"/app:1"), mustParse(t, plain.Host()+"/app:1")
	try := func(ref Reference, verify *bool) error {
		c.TLSVerify = verify
		_, _, err := c.Config(t.Context(), ref, ocispec.Platform{})
		return err
	}
	for _, ref := range []Reference{secure, open} {
		for _, verify := range []*bool{nil, &no} {
			if err := try(ref, verify); err != nil {
				t.Errorf("local registry, verify %v: %v", verify, err)
			}
		}
		err := try(ref, &yes)
		checkKind(t, err, ErrUnreachable)
		if err == nil || !strings.Contains(err.Error(), "--tls-verify=false") {
			t.Errorf("verify: %v, want --tls-verify=false in it", err)
		}
		t.Log(err)
	}
	c.CertDir = t.TempDir()
	write(t, c.CertDir+"/ca.crt", certificate(reg))
	if err := try(secure, &yes); err != nil {
		t.Errorf("with the certificate in CertDir: %v", err)
	}
	c.CertDir = ""
	c.RegistriesConf = write(t, t.TempDir()+"/registries.conf", "[[registry]]\nlocation = \""+plain.Host()+"\"\ninsecure = false\n")
	if err := try(open, nil); !errors.Is(err, ErrUnreachable) {
		t.Errorf("plain HTTP from a registry that registries.conf has with insecure = false: %v", err)
	}
}

func TestIsLocal(t *testing.T) {
	for host, want := range map[string]bool{
		"localhost": true, "localhost:5000": true, "127.0.0.1": true, "127.9.9.9:1": true, "[::1]:5000": true, "[::1]": true,
		"docker.io": false, "10.0.0.1:5000": false, "localhost.example.com": false, "127.0.0.1.example.com": false, "": false,
	} {
		if got := isLocal(host); got != want {
			t.Errorf("isLocal(%q) = %v", host, got)
		}
	}
}

func TestRedact(t *testing.T) {
	for in, want := range map[string]string{
		`Get "https://me:hunter2@q.io/v2/": EOF`:                         `Get "https://q.io/v2/": EOF`,
		`Get "https://s3/x?X-Amz-Signature=abc&y=z": EOF`:                `Get "https://s3/x": EOF`,
		`Get "https://a:b@s3/x?sig=abc": EOF`:                            `Get "https://s3/x": EOF`,
		`oci-layout://me@home/dir`:                                       `oci-layout://home/dir`,
		`header Authorization: Bearer abcdefghijkl.xyz is bad`:           `header Authorization: Bearer  is bad`,
		`pull docker.io/library/x: no such image: reading manifest in x`: `pull docker.io/library/x: no such image: reading manifest in x`,
	} {
		if got := redact(in); got != want {
			t.Errorf("redact(%q) = %q, want %q", in, got, want)
		}
	}
}
