package layers

import (
	"cmp"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
)

func TestMain(m *testing.M) {
	Init()
	if err := EnterUserNamespace(); err != nil {
		os.Stderr.WriteString(err.Error() + "\n")
		os.Exit(1)
	}
	if os.Getenv("COOPER_TEST_NAMESPACE") != "" {
		showNamespace()
	}
	if dir := os.Getenv("COOPER_TEST_KILL"); dir != "" {
		endlessCommits(dir, os.Getenv("COOPER_TEST_DRIVER"))
	}
	os.Exit(m.Run())
}

// TestAsUser runs the tests that need no root again as an ordinary user: with
// subordinate ids, and with a single id because there is no newuidmap.
func TestAsUser(t *testing.T) {
	if os.Getuid() != 0 || Rootless() {
		t.Skip("needs root, to become another user")
	}
	if testing.Short() {
		t.Skip("takes seconds")
	}
	u, err := user.Lookup(cmp.Or(os.Getenv("STAGE_USER"), "cooper-test"))
	if err != nil {
		t.Skip(err)
	}
	exe := publicCopy(t)
	uid, _ := strconv.Atoi(u.Uid)
	gid, _ := strconv.Atoi(u.Gid)
	runtime := filepath.Join(filepath.Dir(exe), "runtime")
	if err := os.Mkdir(runtime, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(runtime, uid, gid); err != nil {
		t.Fatal(err)
	}
	for name, path := range map[string]string{"ranges": os.Getenv("PATH"), "single": "/nonexistent"} {
		t.Run(name, func(t *testing.T) {
			cmd := exec.Command(exe, "-test.run=^(TestSnapshot|TestApply|TestUnpack|TestUserNamespace|TestView|TestWrite|TestExtract)", "-test.v="+strconv.FormatBool(testing.Verbose()))
			cmd.Env = []string{"PATH=" + path, "HOME=" + u.HomeDir, "USER=" + u.Username, "COOPER_TEST_IDS=" + name, "TMPDIR=/dev/shm", "XDG_RUNTIME_DIR=" + runtime}
			cmd.Dir = "/"
			cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("as tester: %v\n%s", err, out)
			} else {
				t.Logf("%s", out)
			}
		})
	}
}

// publicCopy copies the test binary to where everyone may run it.
func publicCopy(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "cooper-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	content, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	exe := filepath.Join(dir, "layers.test")
	if err := os.WriteFile(exe, content, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return exe
}

func TestUserNamespace(t *testing.T) {
	ids := os.Getenv("COOPER_TEST_IDS")
	if ids == "" {
		t.Skip("part of TestAsUser")
	}
	type facts struct {
		UID              int
		Rootless, Single bool
	}
	want := facts{UID: 0, Rootless: true, Single: ids == "single"}
	if got := (facts{os.Geteuid(), Rootless(), SingleID()}); got != want {
		t.Errorf("in the user namespace: %+v, want %+v", got, want)
	}
}
