package registry

import (
	"encoding/base64"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"cooper/registry/registrytest"
)

func certificate(reg *registrytest.Registry) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: reg.Server().Certificate().Raw}))
}

// authJSON is an auth file with one registry's credentials.
func authJSON(host, creds string) string {
	return `{"auths":{"` + host + `":{"auth":"` + base64.StdEncoding.EncodeToString([]byte(creds)) + `"}}}`
}

func TestAuthentication(t *testing.T) {
	for scheme, protect := range map[string]func(*registrytest.Registry){
		"basic": func(r *registrytest.Registry) { r.Basic("me", "hunter2") },
		"token": func(r *registrytest.Registry) { r.Token("me", "hunter2") },
	} {
		t.Run(scheme, func(t *testing.T) {
			reg := registrytest.New(t)
			reg.Put("app:1", hello())
			protect(reg)
			ref := mustParse(t, reg.Host()+"/app:1")
			good, bad := authJSON(reg.Host(), "me:hunter2"), authJSON(reg.Host(), "me:hunter3")
			for _, tt := range []struct {
				name string
				set  func(t *testing.T, c *Client)
				ok   bool
			}{
				{"none", func(t *testing.T, _ *Client) {}, false},
				{"Creds", func(t *testing.T, c *Client) { c.Creds = "me:hunter2" }, true},
				{"wrong Creds", func(t *testing.T, c *Client) { c.Creds = "me:hunter3" }, false},
				{"AuthFile", func(t *testing.T, c *Client) { c.AuthFile = write(t, t.TempDir()+"/a.json", good) }, true},
				{"wrong AuthFile", func(t *testing.T, c *Client) { c.AuthFile = write(t, t.TempDir()+"/a.json", bad) }, false},
				{"REGISTRY_AUTH_FILE", func(t *testing.T, _ *Client) { t.Setenv("REGISTRY_AUTH_FILE", write(t, t.TempDir()+"/a.json", good)) }, true},
				{"docker's config.json", func(t *testing.T, _ *Client) { write(t, os.Getenv("HOME")+"/.docker/config.json", good) }, true},
				{"DOCKER_CONFIG", func(t *testing.T, _ *Client) {
					t.Setenv("DOCKER_CONFIG", filepath.Dir(write(t, t.TempDir()+"/config.json", good)))
				}, true},
				{"helper", func(t *testing.T, _ *Client) { helper(t, reg.Host()) }, true},
			} {
				t.Run(tt.name, func(t *testing.T) {
					c := newClient(t)
					tt.set(t, c)
					_, _, err := c.Config(t.Context(), ref, ocispec.Platform{})
					if tt.ok {
						if err != nil {
							t.Error(err)
						}
						return
					}
					checkKind(t, err, ErrUnauthorized)
					if err == nil || strings.Contains(err.Error(), "hunter") {
						t.Errorf("%v, want an error without the password", err)
					}
					t.Log(err)
				})
			}
		})
	}
}

// runtimeAuth is podman's default place for what podman login wrote.
func TestAuthenticationRuntimeDir(t *testing.T) {
	reg := registrytest.New(t)
	reg.Put("app:1", hello())
	reg.Token("me", "hunter2")
	c := newClient(t)
	c.root = "" // it would stand before the runtime directory's path, too
	write(t, os.Getenv("XDG_RUNTIME_DIR")+"/containers/auth.json", authJSON(reg.Host(), "me:hunter2"))
	ref := mustParse(t, reg.Host()+"/app:1")
	if _, _, err := c.Config(t.Context(), ref, ocispec.Platform{}); err != nil {
		t.Error(err)
	}
	t.Setenv("XDG_RUNTIME_DIR", "/nonexistent")
	if _, _, err := c.Config(t.Context(), ref, ocispec.Platform{}); !errors.Is(err, ErrUnauthorized) {
		t.Errorf("without XDG_RUNTIME_DIR: %v, want ErrUnauthorized", err)
	}
	t.Setenv("XDG_RUNTIME_DIR", "")
	if _, _, err := c.Config(t.Context(), ref, ocispec.Platform{}); !errors.Is(err, ErrUnauthorized) {
		t.Errorf("without XDG_RUNTIME_DIR: %v, want ErrUnauthorized", err)
	}
	write(t, os.Getenv("HOME")+"/.docker/config.json", authJSON(reg.Host(), "me:hunter2"))
	if _, _, err := c.Config(t.Context(), ref, ocispec.Platform{}); err != nil {
		t.Errorf("docker's file without XDG_RUNTIME_DIR: %v", err)
	}
	public := registrytest.New(t)
	public.Put("app:1", hello())
	public.Token("", "")
	if _, _, err := c.Config(t.Context(), mustParse(t, public.Host()+"/app:1"), ocispec.Platform{}); err != nil {
		t.Errorf("public image: %v", err)
	}
}

// helper installs a credential helper and names it in docker's config.json.
func helper(t *testing.T, host string) {
	bin := t.TempDir()
	script := write(t, bin+"/docker-credential-test", "#!/bin/sh\ncat >/dev/null\n"+
		`echo '{"ServerURL":"`+host+`","Username":"me","Secret":"hunter2"}'`+"\n")
	if err := os.Chmod(script, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	write(t, os.Getenv("HOME")+"/.docker/config.json", `{"credHelpers":{"`+host+`":"test"}}`)
}

func TestMissingFilesAreNamed(t *testing.T) {
	c := newClient(t)
	c.AuthFile = "/nonexistent/auth.json"
	_, _, err := c.Config(t.Context(), mustParse(t, "127.0.0.1:1/app"), ocispec.Platform{})
	if err == nil || !strings.Contains(err.Error(), c.AuthFile) || errors.Is(err, ErrNotFound) {
		t.Errorf("%v, want an error about the file", err)
	}
}
