package run

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"cooper/layers"
	_ "cooper/layers/rootless" // the user tests start in a namespace
	"cooper/run/internal/spawn"
)

func TestMain(m *testing.M) {
	Init()
	layers.Init()
	if os.Getenv(envUserTest) != "" {
		if err := layers.EnterUserNamespace(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}

const envUserTest = "COOPER_TEST_AS_USER"

// TestAsUser runs this package's tests once more as an ordinary user, in a user
// namespace with and without subordinate ids.
func TestAsUser(t *testing.T) {
	if os.Getenv(envUserTest) != "" || os.Geteuid() != 0 || spawn.InUserNamespace() {
		t.Skip("only from root's tests")
	}
	if testing.Short() {
		t.Skip("long")
	}
	u, err := user.Lookup(cmp.Or(os.Getenv("STAGE_USER"), "cooper-test"))
	if err != nil {
		t.Skip("no ordinary user, see scripts/testuser:", err)
	}
	uid, _ := strconv.Atoi(u.Uid)
	gid, _ := strconv.Atoi(u.Gid)
	exe, err := os.Open("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	defer exe.Close()
	for name, path := range map[string]string{"subordinate ids": os.Getenv("PATH"), "single id": "/nonexistent"} {
		t.Run(name, func(t *testing.T) {
			cmd := exec.Command("/proc/self/fd/3", "-test.v")
			cmd.Args[0] = "run.test"
			cmd.ExtraFiles = []*os.File{exe}
			cmd.Env = []string{"PATH=" + path, "HOME=" + u.HomeDir, "USER=" + u.Username, envUserTest + "=" + name}
			cmd.Dir = "/"
			cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Errorf("%v\n%s", err, out)
			} else if testing.Verbose() {
				t.Logf("%s", out)
			}
		})
	}
}

// image makes a root file system of Debian's static busybox, with a few users.
func image(t testing.TB) string {
	t.Helper()
	const bb = "/bin/busybox" // Debian's busybox-static
	if _, err := os.Stat(bb); err != nil {
		t.Skip("busybox-static is not installed")
	}
	root := filepath.Join(tempDir(t), "image")
	for _, d := range []string{"bin", "etc", "tmp", "home/app"} {
		if err := os.MkdirAll(filepath.Join(root, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	os.Chmod(filepath.Join(root, "tmp"), 0o1777)
	b, err := os.ReadFile(bb)
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(root, "bin/busybox"), string(b), 0o755)
	for _, a := range strings.Fields("sh true false cat echo ls id env mount unshare kill sleep grep touch rm mkdir stat hostname chmod chown wc head dd ps su tty stty find readlink seq yes mknod cp") {
		if err := os.Symlink("busybox", filepath.Join(root, "bin", a)); err != nil {
			t.Fatal(err)
		}
	}
	write(t, filepath.Join(root, "etc/passwd"), "root:x:0:0::/root:/bin/sh\napp:x:1000:1000::/home/app:/bin/sh\n", 0o644)
	write(t, filepath.Join(root, "etc/group"), "root:x:0:root\napp:x:1000:\nextra:x:2000:app\nmore:x:2001:app,root\n", 0o644)
	return root
}

// tempDir is a directory on a tmpfs, where overlayfs works and nothing is slow.
func tempDir(t testing.TB) string {
	t.Helper()
	base := "/dev/shm"
	if dir := os.Getenv("COOPER_HELPER_DIR"); dir != "" {
		base = dir // removed by another process
	} else if _, err := os.Stat(base); err != nil {
		base = ""
	}
	dir, err := os.MkdirTemp(base, "run-test-")
	if err != nil {
		t.Fatal(err)
	}
	os.Chmod(dir, 0o755)
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func write(t testing.TB, name, content string, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(name, []byte(content), mode); err != nil {
		t.Fatal(err)
	}
}

// overlay makes an empty upper directory on lower ones.
func overlay(t testing.TB, lower ...string) layers.Rootfs {
	t.Helper()
	dir := tempDir(t)
	r := layers.Rootfs{
		Lower: lower, LowerFiles: make([]*os.File, len(lower)),
		Upper: filepath.Join(dir, "upper"), Work: filepath.Join(dir, "work"),
		Options: []string{"volatile", "index=off"},
	}
	if spawn.InUserNamespace() {
		r.Options = append(r.Options, "userxattr")
	}
	for _, d := range []string{r.Upper, r.Work} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return r
}

func runtimeFor(t testing.TB) *Runtime {
	t.Helper()
	tier, err := DetectTier()
	if err != nil {
		t.Fatal(err)
	}
	if !tier.Mounts {
		t.Skip("no containers here:", tier.Missing())
	}
	r := NewRuntime(RuntimeOptions{StateDir: tempDir(t), OCI: testedRuntime})
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

// output runs a shell command and returns its output and status.
func output(t testing.TB, r *Runtime, root layers.Rootfs, c Config) (string, Status, error) {
	t.Helper()
	out := filepath.Join(tempDir(t), "out")
	f, err := os.Create(out)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	st, err := r.Run(context.Background(), Task{Rootfs: root, Config: &c, Stdout: f, Stderr: f})
	b, _ := os.ReadFile(out)
	return string(b), st, err
}

func sh(script string) Config { return Config{Args: []string{"/bin/sh", "-c", script}} }
