package run

import (
	"context"
	"debug/elf"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// needsProcesses are the tests that cannot be passed inside of a container: they pause
// processes, count those that are theirs, look at keyrings in /proc, execute programs
// on /dev/shm, or want signals that only a first process of its own ignores.
const needsProcesses = "^Test(OpenRoot|Keyring|MonitorEndsLikeItsContainer|Exec|Pause|Many|Descendants)$"

// TestNested runs this package's tests inside a container with Docker's default
// capabilities and a masked /proc, but without a seccomp profile (Docker's refuses
// user namespaces).
func TestNested(t *testing.T) {
	if os.Getenv(envUserTest) != "" || os.Geteuid() != 0 {
		t.Skip("only from root's tests")
	}
	if testing.Short() {
		t.Skip("long")
	}
	self, err := elf.Open("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	defer self.Close()
	if libs, err := self.ImportedLibraries(); err != nil || len(libs) > 0 {
		t.Skip("the test binary needs libraries", libs, err)
	}
	r, img := runtimeFor(t), image(t)
	exe := filepath.Join(tempDir(t), "run.test")
	copyFile(t, exe, "/proc/self/exe")
	out := filepath.Join(tempDir(t), "out")
	f, err := os.Create(out)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	c := Config{
		Args:    []string{"/run.test", "-test.v", "-test.skip", needsProcesses},
		Env:     []string{envUserTest + "=nested", "PATH=/bin"},
		Seccomp: "unconfined",
		ShmSize: 1 << 30,
		Mounts:  []specs.Mount{{Source: exe, Destination: "/run.test", Options: []string{"ro"}}},
	}
	st, err := r.Run(context.Background(), Task{Rootfs: overlay(t, img), Config: &c, Stdout: f, Stderr: f})
	b, _ := os.ReadFile(out)
	if err != nil || !st.Success() {
		t.Errorf("Run = %+v, %v\n%s", st, err, b)
	} else if testing.Verbose() {
		t.Logf("%s", b)
	}
}

func copyFile(t *testing.T, to, from string) {
	t.Helper()
	src, err := os.Open(from)
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	dst, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY, 0o755)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(dst, src); err != nil {
		t.Fatal(err)
	}
	if err := dst.Close(); err != nil {
		t.Fatal(err)
	}
}
