package run

import (
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"

	"cooper/layers"
	"cooper/run/internal/spawn"
)

// chrootFor returns a runtime and the tier of processes by chroot(2).
func chrootFor(t *testing.T) (*Runtime, Tier) {
	t.Helper()
	tier, err := DetectTier()
	if err == nil {
		tier, err = tier.InChroot()
	}
	if err != nil {
		t.Fatal(err)
	}
	r := NewRuntime(RuntimeOptions{StateDir: tempDir(t)})
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return r, tier
}

// chrootRoot is an image where overlay can be mounted, else a directory; and where
// what a process writes is found.
func chrootRoot(t *testing.T, tier Tier) (root layers.Rootfs, written string) {
	t.Helper()
	img := image(t)
	if !tier.Mounts {
		return layers.Rootfs{Dir: img}, img
	}
	root = overlay(t, img)
	return root, root.Upper
}

// inChroot runs a shell command by chroot and returns its output and status.
func inChroot(t *testing.T, r *Runtime, root layers.Rootfs, c Config) (string, Status, error) {
	t.Helper()
	f, err := os.Create(filepath.Join(tempDir(t), "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	st, err := r.Run(context.Background(), Task{Rootfs: root, Config: &c, Stdout: f, Stderr: f, Chroot: true})
	b, _ := os.ReadFile(f.Name())
	return string(b), st, err
}

// names lists what is below dir.
func names(t *testing.T, dir string) (list []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		list = append(list, path)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func TestChroot(t *testing.T) {
	r, tier := chrootFor(t)
	for name, tt := range map[string]struct {
		config Config
		mounts bool // where there are none it is another matter
		want   string
		code   int
	}{
		"output":   {sh("echo hi; echo there >&2"), false, "hi\nthere\n", 0},
		"status":   {sh("exit 3"), false, "", 3},
		"signal":   {sh("kill -SEGV $$"), false, "", 128 + 11},
		"dir":      {Config{Args: []string{"ls", "-ld", "."}, Dir: "/nowhere/yet"}, false, "drwxr-xr-x", 0},
		"hosts":    {Config{Args: []string{"cat", "/etc/hosts"}, ExtraHosts: []string{"there:1.2.3.4"}}, false, "1.2.3.4\tthere", 0},
		"null":     {sh("echo x >/dev/null && cat /dev/null; rm -f /dev/shm/x && echo y >/dev/shm/x && cat /dev/shm/x"), false, "y\n", 0},
		"umask":    {sh("umask"), false, "0022\n", 0},
		"limit":    {Config{Args: []string{"/bin/sh", "-c", "ulimit -n"}, Ulimits: []Ulimit{{"nofile", 100, 100}}}, false, "100\n", 0},
		"root":     {sh("ls -d /bin /../bin; cat /dev/../../../../etc/group | head -n 1"), false, "/../bin\n/bin\nroot:x:0:root\n", 0},
		"caps":     {sh("grep CapEff /proc/self/status"), true, "CapEff:\t00000000a80425fb\n", 0},
		"masked":   {sh("cat /proc/keys /proc/timer_list; ls /sys/firmware; echo x 2>/dev/null >/proc/sys/kernel/hostname || echo refused"), true, "refused\n", 0},
		"no new":   {Config{Args: []string{"grep", "NoNewPrivs", "/proc/self/status"}, NoNewPrivileges: true}, true, "NoNewPrivs:\t1\n", 0},
		"filtered": {sh("grep Seccomp: /proc/self/status; unshare -m true 2>/dev/null || echo refused"), true, "Seccomp:\t2\nrefused\n", 0},
	} {
		t.Run(name, func(t *testing.T) {
			if tt.mounts && !tier.Mounts {
				t.Skip("needs /proc or CAP_SYS_ADMIN")
			}
			root, _ := chrootRoot(t, tier)
			out, st, err := inChroot(t, r, root, tt.config)
			if err != nil || st.ExitCode != tt.code || !strings.Contains(out, tt.want) {
				t.Errorf("Run = %q, %+v, %v, want %q and status %d", out, st, err, tt.want, tt.code)
			}
		})
	}
}

// TestChrootUsers: with more than one id a step may have any.
func TestChrootUsers(t *testing.T) {
	r, tier := chrootFor(t)
	if tier.SingleID {
		t.Skip("there is only one")
	}
	root, _ := chrootRoot(t, tier)
	out, st, err := inChroot(t, r, root, Config{Args: []string{"/bin/sh", "-c", "id; touch /tmp/mine && ! touch /theirs 2>/dev/null"}, User: "app"})
	if err != nil || !st.Success() || !strings.HasPrefix(out, "uid=1000(app) gid=1000(app)") {
		t.Errorf("Run = %q, %+v, %v", out, st, err)
	}
}

func TestChrootStartErrors(t *testing.T) {
	r, tier := chrootFor(t)
	for program, code := range map[string]int{"nowhere": 127, "/nowhere": 127, "/etc/passwd": 126, "/tmp": 126} {
		root, _ := chrootRoot(t, tier)
		_, _, err := inChroot(t, r, root, Config{Args: []string{program}})
		var start *StartError
		if !errors.As(err, &start) || start.Code != code {
			t.Errorf("Run(%s) = %v, want code %d", program, err, code)
		}
	}
}

// TestChrootLeavesNothing: what was there for the step is gone after it.
func TestChrootLeavesNothing(t *testing.T) {
	r, tier := chrootFor(t)
	root, written := chrootRoot(t, tier)
	before := names(t, written)
	c := sh("cat /run/a/file && echo x >/etc/resolv.conf && rm -f /dev/null /dev/x; echo >/dev/shm/y")
	task := Task{Rootfs: root, Config: &c, Chroot: true, Files: map[string]File{"/run/a/file": {Data: []byte("x")}}}
	if st, err := r.Run(context.Background(), task); err != nil || !st.Success() {
		t.Fatalf("Run = %+v, %v", st, err)
	}
	if after := names(t, written); !slices.Equal(before, after) {
		t.Errorf("there was\n%q, is\n%q", before, after)
	}
}

// sleepers returns a command that is found among all processes, and counts it.
func sleepers() (command string, count func() int) {
	seconds := strconv.FormatInt(time.Now().UnixNano()%1e9+1e6, 10)
	return "sleep " + seconds, func() (n int) {
		files, _ := filepath.Glob("/proc/[0-9]*/cmdline")
		for _, f := range files {
			if b, err := os.ReadFile(f); err == nil && strings.HasSuffix(string(b), "\x00"+seconds+"\x00") {
				n++
			}
		}
		return n
	}
}

// TestChrootEndsAll: no process outlives its step, however that ends, although
// nothing but their parents holds them together.
func TestChrootEndsAll(t *testing.T) {
	r, tier := chrootFor(t)
	for name, tt := range map[string]struct {
		script string
		code   int
	}{
		"exit":   {"(SLEEP & SLEEP &) ; yes >/dev/null & exit 4", 4},
		"killed": {"(SLEEP & SLEEP &) ; kill -9 $$", 137},
		// Root in a step can do that. It must not hold up the build.
		"keeper": {"(SLEEP & SLEEP &) ; kill -9 $PPID; exec SLEEP", 137},
	} {
		t.Run(name, func(t *testing.T) {
			root, _ := chrootRoot(t, tier)
			sleep, count := sleepers()
			_, st, err := inChroot(t, r, root, sh(strings.ReplaceAll(tt.script, "SLEEP", sleep)))
			if err != nil || st.ExitCode != tt.code {
				t.Errorf("Run = %+v, %v, want %d", st, err, tt.code)
			}
			if n := count(); n > 0 {
				t.Errorf("%d processes are left", n)
			}
		})
	}
}

func TestChrootCancel(t *testing.T) {
	r, tier := chrootFor(t)
	root, written := chrootRoot(t, tier)
	before := names(t, written)
	sleep, count := sleepers()
	c := sh(fmt.Sprintf("(%s &); exec %s", sleep, sleep))
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		for count() < 2 {
			time.Sleep(time.Millisecond)
		}
		cancel()
	}()
	if _, err := r.Run(ctx, Task{Rootfs: root, Config: &c, Chroot: true}); !errors.Is(err, context.Canceled) {
		t.Errorf("Run = %v", err)
	}
	if n := count(); n > 0 {
		t.Errorf("%d processes are left", n)
	}
	if after := names(t, written); !slices.Equal(before, after) {
		t.Errorf("there was\n%q, is\n%q", before, after)
	}
}

// TestChrootParallel: steps do not see each other's files.
func TestChrootParallel(t *testing.T) {
	r, tier := chrootFor(t)
	results := make(chan error)
	const n = 6
	for i := range n {
		root, _ := chrootRoot(t, tier)
		c := sh(fmt.Sprintf("grep -q 1.2.3.%d /etc/hosts && sleep 0.1 && ! ls /made && echo >/made", i))
		c.ExtraHosts = []string{fmt.Sprintf("me:1.2.3.%d", i)}
		go func() {
			st, err := r.Run(context.Background(), Task{Rootfs: root, Config: &c, Chroot: true})
			if err == nil && !st.Success() {
				err = fmt.Errorf("status %+v", st)
			}
			results <- err
		}()
	}
	for range n {
		if err := <-results; err != nil {
			t.Error(err)
		}
	}
}

// TestChrootMounts: where mounts can be had, a step has what a container has.
func TestChrootMounts(t *testing.T) {
	r, tier := chrootFor(t)
	if !tier.Mounts {
		t.Skip("needs mounts")
	}
	root, written := chrootRoot(t, tier)
	dir := tempDir(t)
	write(t, filepath.Join(dir, "file"), "bound", 0o644)
	c := sh("cat /a/b/file; echo x 2>/dev/null >/a/b/file || echo read-only; echo y >/t/y && cat /t/y; ls -d /proc/self /dev/fd/0")
	c.Mounts = []specs.Mount{
		{Type: "bind", Source: dir, Destination: "/a/b", Options: []string{"ro"}},
		{Type: "tmpfs", Destination: "/t"},
	}
	if tier.Net {
		c.Network = "none"
		c.Args[2] += "; grep -c : /proc/net/dev"
	}
	before := names(t, written)
	out, st, err := inChroot(t, r, root, c)
	want := "boundread-only\ny\n/dev/fd/0\n/proc/self\n"
	if tier.Net {
		want += "1\n" // lo
	}
	if err != nil || !st.Success() || out != want {
		t.Errorf("Run = %q, %+v, %v, want %q", out, st, err, want)
	}
	if after := names(t, written); !slices.Equal(before, after) {
		t.Errorf("there was\n%q, is\n%q", before, after)
	}
}

// TestChrootRefuses: what cannot be had is not left out in silence.
func TestChrootRefuses(t *testing.T) {
	r, tier := chrootFor(t)
	plain := "nothing can be mounted here"
	for name, tt := range map[string]struct {
		change func(*Task)
		want   string // "" where there are mounts
		always bool
	}{
		"memory":   {func(t *Task) { t.Config.Memory = 1 << 30 }, "limits", true},
		"terminal": {func(t *Task) { t.Config.Terminal = true }, "terminal", true},
		"readonly": {func(t *Task) { t.Config.ReadOnly = true }, "read-only", true},
		"sysctl":   {func(t *Task) { t.Config.Sysctl = map[string]string{"a": "b"} }, "sysctls", true},
		"pid":      {func(t *Task) { t.Config.PID = "host" }, "namespaces", true},
		"network":  {func(t *Task) { t.Config.Network = "none" }, "network none", !tier.Net},
		"mount": {func(t *Task) {
			t.Config.Mounts = []specs.Mount{{Type: "tmpfs", Destination: "/t"}}
		}, "mount at /t: " + plain, !tier.Mounts},
		"tree":   {func(t *Task) { t.Trees = []Tree{{Target: "/t", Path: ".", Dir: true, Rootfs: t.Rootfs}} }, plain, !tier.Mounts},
		"secret": {func(t *Task) { t.Files = map[string]File{"/s": {Data: []byte("x"), Secret: true}} }, "secret /s: " + plain, !tier.Mounts},
		"mask":   {func(t *Task) { t.Config.Mask = []string{"/etc"} }, "mask /etc: " + plain, !tier.Mounts},
	} {
		t.Run(name, func(t *testing.T) {
			if !tt.always {
				t.Skip("it can be had here")
			}
			root, _ := chrootRoot(t, tier)
			c := Config{Args: []string{"true"}}
			task := Task{Rootfs: root, Config: &c, Chroot: true}
			tt.change(&task)
			if _, err := r.Run(context.Background(), task); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("Run = %v, want %q", err, tt.want)
			}
		})
	}
}

// TestNestedChroot runs the tests of this file where no namespace can be had at all: in
// a container with Docker's default capabilities and seccomp profile.
func TestNestedChroot(t *testing.T) {
	if os.Getenv(envUserTest) != "" || os.Geteuid() != 0 || spawn.InUserNamespace() {
		t.Skip("only from root's tests")
	}
	self, err := elf.Open("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	defer self.Close()
	if libs, err := self.ImportedLibraries(); err != nil || len(libs) > 0 {
		t.Skip("the test binary needs libraries", libs, err)
	}
	exe := filepath.Join(tempDir(t), "run.test")
	copyFile(t, exe, "/proc/self/exe")
	c := Config{
		Args: []string{"/run.test", "-test.v", "-test.run", "^Test(Chroot|NoContainers)"},
		// Not on /dev/shm: nothing is executed there.
		Env:    []string{envUserTest + "=chroot", "PATH=/bin", "COOPER_HELPER_DIR=/tmp"},
		Mounts: []specs.Mount{{Source: exe, Destination: "/run.test", Options: []string{"ro"}}},
	}
	out, st, err := output(t, runtimeFor(t), overlay(t, image(t)), c)
	if err != nil || !st.Success() || !strings.Contains(out, "--- PASS: TestChrootRefuses/secret") || !strings.Contains(out, "--- PASS: TestNoContainers") {
		t.Errorf("Run = %+v, %v\n%s", st, err, out)
	} else if testing.Verbose() {
		t.Logf("%s", out)
	}
}

// TestNoContainers: where none can be made, it says why and what to do.
func TestNoContainers(t *testing.T) {
	if os.Getenv(envUserTest) != "chroot" {
		t.Skip("run by TestNestedChroot")
	}
	r := NewRuntime(RuntimeOptions{StateDir: tempDir(t)})
	defer r.Close()
	_, _, err := output(t, r, layers.Rootfs{Dir: image(t)}, Config{Args: []string{"true"}})
	if !errors.Is(err, ErrNoContainers) || !strings.Contains(err.Error(), "seccomp=unconfined") {
		t.Errorf("Run = %v", err)
	}
}
