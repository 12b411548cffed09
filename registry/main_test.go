package registry

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"cooper/layers"
	"cooper/registry/registrytest"
)

// TestMain lets the store re-execute the test binary, and enters a user
// namespace when an ordinary user runs the tests.
func TestMain(m *testing.M) {
	layers.Init()
	if err := layers.EnterUserNamespace(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	for _, name := range []string{"REGISTRY_AUTH_FILE", "DOCKER_CONFIG", "CONTAINERS_POLICY_JSON", "CONTAINERS_REGISTRIES_CONF"} {
		os.Unsetenv(name)
	}
	os.Exit(m.Run())
}

// newClient returns a client with a store of its own, on a machine without any
// configuration and a user without any credentials.
func newClient(t testing.TB) *Client {
	t.Helper()
	home := t.TempDir()
	for name, dir := range map[string]string{"HOME": "", "XDG_CONFIG_HOME": "config", "XDG_DATA_HOME": "data", "XDG_RUNTIME_DIR": "run"} {
		path := filepath.Join(home, dir)
		if err := os.MkdirAll(path, 0o700); err != nil {
			t.Fatal(err)
		}
		t.(interface{ Setenv(string, string) }).Setenv(name, path)
	}
	dir := t.TempDir()
	store, err := layers.Open(t.Context(), layers.Options{Root: filepath.Join(dir, "root"), RunRoot: filepath.Join(dir, "runroot"), Driver: "overlay"})
	if err != nil {
		t.Fatalf("layers.Open: %v", err)
	}
	t.Cleanup(func() {
		if err := store.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return &Client{Store: store, root: t.TempDir()}
}

// write writes a file of the client's machine or anywhere else.
func write(t testing.TB, path, content string) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func mustParse(t testing.TB, s string) Reference {
	t.Helper()
	ref, err := ParseReference(s)
	if err != nil {
		t.Fatal(err)
	}
	return ref
}

// hello is an image of two layers.
func hello() registrytest.Image {
	image := registrytest.Image{Layers: []registrytest.Layer{
		{"etc/os-release": "ID=test\n"},
		{"hello": "world\n", "etc/motd": strings.Repeat("welcome\n", 4096)},
	}}
	image.Config.Config.Cmd = []string{"/hello"}
	return image
}

// tool skips the test unless a program is installed.
func tool(t testing.TB, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Skipf("%s is not installed", name)
	}
	return path
}

// command runs a program to its end.
func command(t testing.TB, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(tool(t, name), args...)
	cmd.Env = append(os.Environ(), "XDG_RUNTIME_DIR="+t.TempDir())
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}
