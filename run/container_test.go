package run

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"cooper/layers"
	"cooper/run/internal/spawn"
)

// TestOutput runs commands and compares all they print.
func TestOutput(t *testing.T) {
	r, img := runtimeFor(t), image(t)
	tier, _ := DetectTier()
	for _, tt := range []struct {
		name string
		conf Config
		want string
		code int
	}{
		{"exit code", sh("exit 7"), "", 7},
		{"killed by a signal", sh("kill -9 $$; sleep 5"), "", 137}, // only where init is not process 1
		{"id of root", sh("id"), "uid=0(root) gid=0(root) groups=0(root),2001(more)\n", 0},
		{"id of a user by name", Config{User: "app", Args: []string{"id"}}, "uid=1000(app) gid=1000(app) groups=1000(app),2000(extra),2001(more)\n", 0},
		{"user and group", Config{User: "app:extra", Args: []string{"id"}}, "uid=1000(app) gid=2000(extra) groups=2000(extra)\n", 0},
		{"numbers", Config{User: "12:34", GroupAdd: []string{"more"}, Args: []string{"id"}}, "uid=12 gid=34 groups=34,2001(more)\n", 0},
		{"no capabilities for users", Config{User: "app", Args: []string{"grep", "Cap", "/proc/self/status"}},
			"CapInh:\t0000000000000000\nCapPrm:\t0000000000000000\nCapEff:\t0000000000000000\nCapBnd:\t00000000a80425fb\nCapAmb:\t0000000000000000\n", 0},
		{"docker's capabilities", Config{Args: []string{"grep", "Cap", "/proc/self/status"}},
			"CapInh:\t0000000000000000\nCapPrm:\t00000000a80425fb\nCapEff:\t00000000a80425fb\nCapBnd:\t00000000a80425fb\nCapAmb:\t0000000000000000\n", 0},
		{"dropped and added", Config{CapDrop: []string{"all"}, CapAdd: []string{"chown", "CAP_NET_ADMIN"}, Args: []string{"grep", "CapEff", "/proc/self/status"}},
			"CapEff:\t0000000000001001\n", 0},
		{"a filter and no no_new_privs", Config{Args: []string{"grep", "-E", "^(NoNewPrivs|Seccomp):", "/proc/self/status"}}, "NoNewPrivs:\t0\nSeccomp:\t2\n", 0},
		{"no_new_privs", Config{NoNewPrivileges: true, User: "app", Args: []string{"grep", "-E", "^(NoNewPrivs|Seccomp):", "/proc/self/status"}}, "NoNewPrivs:\t1\nSeccomp:\t2\n", 0},
		{"unconfined when asked", Config{Seccomp: "unconfined", Args: []string{"grep", "Seccomp:", "/proc/self/status"}}, "Seccomp:\t0\n", 0},
		{"environment of a step", Config{BareEnv: true, Env: []string{"A=1", "A=2"}, Args: []string{"env"}},
			"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\nHOME=/root\nA=2\n", 0},
		{"environment", Config{Hostname: "box", User: "app", Env: []string{"PATH=/bin"}, Args: []string{"env"}},
			"HOSTNAME=box\nHOME=/home/app\nPATH=/bin\n", 0},
		{"directory is made", Config{Dir: "/a/b", Args: []string{"/bin/sh", "-c", "/bin/busybox pwd"}}, "/a/b\n", 0},
		{"hostname", Config{Hostname: "box", Args: []string{"/bin/sh", "-c", "hostname; cat /etc/hostname; grep -c box /etc/hosts"}}, "box\nbox\n1\n", 0},
		{"read-only root", Config{ReadOnly: true, Args: []string{"touch", "/x"}}, "touch: /x: Read-only file system\n", 1},
		{"limits", Config{Ulimits: []Ulimit{{"nofile", 100, 200}, {"core", 0, 0}}, Args: []string{"/bin/sh", "-c", "ulimit -Sn; ulimit -Hn; ulimit -Hc"}}, "100\n200\n0\n", 0},
		{"process 1", sh("echo $$"), "1\n", 0},
		{"umask", sh("umask"), "0022\n", 0},
		{"only three descriptors", sh("ls /proc/$$/fd; true"), "0\n1\n2\n", 0},
		{"mount is refused", sh("mount -t tmpfs x /tmp"), "mount: permission denied (are you root?)\n", 1},
		{"unshare is refused", sh("unshare -m true"), "unshare: unshare(0x20000): Operation not permitted\n", 1},
		{"proc is hidden", sh("wc -c </proc/timer_list; ls -A /sys/firmware; echo x >/proc/sys/kernel/hostname"),
			"0\n/bin/sh: can't create /proc/sys/kernel/hostname: Read-only file system\n", 1},
		{"network none has lo only", Config{Network: "none", Args: []string{"/bin/sh", "-c", "grep -c : /proc/net/dev; grep -o lo: /proc/net/dev"}}, "1\nlo:\n", 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.name == "process 1" && !tier.Proc {
				t.Skip("no process id namespace here")
			}
			if tier.SingleID && (tt.conf.User != "" || tt.name == "id of root") {
				t.Skip("no other ids here")
			}
			if tt.name == "killed by a signal" {
				tt.conf.PID = "host"
			}
			got, st, err := output(t, r, overlay(t, img), tt.conf)
			if err != nil || st.ExitCode != tt.code {
				t.Fatalf("exit code %d, error %v, want %d; output %q", st.ExitCode, err, tt.code, got)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("output (-want +got):\n%s", diff)
			}
		})
	}
}

// TestStartErrors: docker's words and exit codes.
func TestStartErrors(t *testing.T) {
	r, img := runtimeFor(t), image(t)
	write(t, filepath.Join(img, "bin/data"), "data", 0o644)
	write(t, filepath.Join(img, "bin/script"), "#!/no/such/interpreter\n", 0o755)
	write(t, filepath.Join(img, "bin/garbage"), "\x00\x01\x02", 0o755)
	if err := os.Mkdir(filepath.Join(img, "private"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		conf Config
		want StartError
	}{
		{Config{Args: []string{"nothing"}}, StartError{127, errors.New(`exec: "nothing": executable file not found in $PATH`)}},
		{Config{Args: []string{""}}, StartError{127, errors.New(`exec: "": executable file not found in $PATH`)}},
		{Config{Args: []string{"/bin/nothing"}}, StartError{127, errors.New(`exec: "/bin/nothing": stat /bin/nothing: no such file or directory`)}},
		{Config{Args: []string{"/etc/passwd/x"}}, StartError{127, errors.New(`exec: "/etc/passwd/x": stat /etc/passwd/x: not a directory`)}},
		{Config{Args: []string{"/bin/data"}}, StartError{126, errors.New(`exec: "/bin/data": permission denied`)}},
		{Config{Args: []string{"/etc"}}, StartError{126, errors.New(`exec: "/etc": is a directory`)}},
		{Config{Args: []string{"/bin/script"}}, StartError{255, errors.New("exec /bin/script: no such file or directory")}},
		{Config{Args: []string{"/bin/garbage"}}, StartError{255, errors.New("exec /bin/garbage: exec format error")}},
		{Config{Args: []string{"true"}, Dir: "/etc/passwd"}, StartError{127, errors.New(`working directory "/etc/passwd": not a directory`)}},
		{Config{Args: []string{"true"}, User: "nobody"}, StartError{125, errors.New("unable to find user nobody: no matching entries in passwd file")}},
		{Config{Args: []string{"true"}, CapAdd: []string{"fly"}}, StartError{125, errors.New(`unknown capability "fly"`)}},
		{Config{}, StartError{125, errors.New("no command specified")}},
	} {
		_, _, err := output(t, r, overlay(t, img), tt.conf)
		var got *StartError
		if !errors.As(err, &got) || got.Code != tt.want.Code || got.Error() != tt.want.Error() {
			t.Errorf("Run(%q) = %v, want %d %v", tt.conf.Args, err, tt.want.Code, &tt.want)
		}
	}
}

// tree lists what a directory holds, with modes, sizes and times.
func tree(t *testing.T, dir string) []string {
	t.Helper()
	var out []string
	filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			t.Fatal(err)
		}
		name, _ := filepath.Rel(dir, path)
		out = append(out, name)
		return nil
	})
	slices.Sort(out)
	return out
}

// TestMountPointsLeaveNoTrace: mount points that the image lacks are seen in the
// container and not in the upper directory, whatever hides them from below.
func TestMountPointsLeaveNoTrace(t *testing.T) {
	r, img := runtimeFor(t), image(t)
	source := tempDir(t)
	conf := sh("test -f /etc/resolv.conf && test -f /mnt/deep/file && test -d /srv/dir && test -c /dev/null && echo made >/new")
	write(t, filepath.Join(source, "file"), "x", 0o644)
	conf.Mounts = []specs.Mount{
		{Source: source, Destination: "/srv/dir"},
		{Source: filepath.Join(source, "file"), Destination: "/mnt/deep/file"},
		{Type: "tmpfs", Destination: "/scratch"},
	}
	past := time.Unix(1_000_000_000, 0)
	opaque := func(dir string) {
		name := "trusted.overlay.opaque"
		if spawn.InUserNamespace() {
			name = "user.overlay.opaque"
		}
		if err := unix.Setxattr(dir, name, []byte("y"), 0); err != nil {
			t.Skip("no overlay xattrs here:", err)
		}
	}
	for _, tt := range []struct {
		name string
		make func() layers.Rootfs
		want []string
	}{
		{"plain image", func() layers.Rootfs { return overlay(t, img) }, []string{".", "new"}},
		{"opaque etc", func() layers.Rootfs {
			top := filepath.Join(tempDir(t), "top")
			os.MkdirAll(filepath.Join(top, "etc"), 0o755)
			opaque(filepath.Join(top, "etc"))
			os.Chtimes(filepath.Join(top, "etc"), past, past)
			return overlay(t, top, img)
		}, []string{".", "new"}},
		{"opaque etc in the upper directory", func() layers.Rootfs {
			o := overlay(t, img)
			os.Mkdir(filepath.Join(o.Upper, "etc"), 0o755)
			opaque(filepath.Join(o.Upper, "etc"))
			os.Chtimes(filepath.Join(o.Upper, "etc"), past, past)
			return o
		}, []string{".", "etc", "new"}},
		{"plain directory", func() layers.Rootfs {
			dir := tempDir(t)
			for _, d := range []string{"bin", "etc"} {
				os.Mkdir(filepath.Join(dir, d), 0o755)
			}
			b, _ := os.ReadFile(filepath.Join(img, "bin/busybox"))
			write(t, filepath.Join(dir, "bin/busybox"), string(b), 0o755)
			for _, n := range []string{"sh", "test"} {
				os.Symlink("busybox", filepath.Join(dir, "bin", n))
			}
			os.Chtimes(filepath.Join(dir, "etc"), past, past)
			return layers.Rootfs{Dir: dir}
		}, []string{".", "bin", "bin/busybox", "bin/sh", "bin/test", "etc", "new"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			root := tt.make()
			if tt.name == "plain directory" && os.Getenv(envUserTest) == "nested" {
				t.Skip("a container's /dev/shm forbids execution")
			}
			out, st, err := output(t, r, root, conf)
			if err != nil || !st.Success() {
				t.Fatalf("%+v, %v: %s", st, err, out)
			}
			dir := root.Upper
			if root.Dir != "" {
				dir = root.Dir
			}
			if diff := cmp.Diff(tt.want, tree(t, dir)); diff != "" {
				t.Errorf("upper directory (-want +got):\n%s", diff)
			}
			if st, err := os.Stat(filepath.Join(dir, "etc")); err == nil && !st.ModTime().Equal(past) {
				t.Errorf("etc's time is %v, want %v", st.ModTime(), past)
			}
			if root.Work != "" {
				if got := tree(t, filepath.Dir(root.Work)); slices.ContainsFunc(got, func(s string) bool { return strings.HasPrefix(s, "stubs") }) {
					t.Errorf("stubs are left: %v", got)
				}
			}
		})
	}
}

// TestRenamedLayer: a lower directory may be renamed after its file was opened.
func TestRenamedLayer(t *testing.T) {
	r, img := runtimeFor(t), image(t)
	f, err := os.OpenFile(img, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	root := overlay(t, img)
	root.LowerFiles[0] = f
	view, err := layers.OpenView(img)
	if err != nil {
		t.Fatal(err)
	}
	defer view.Close()
	if err := os.Rename(img, img+"-moved"); err != nil {
		t.Fatal(err)
	}
	c := sh("true")
	st, err := r.Run(context.Background(), Task{Rootfs: root, View: view, Config: &c})
	if err != nil || !st.Success() {
		t.Errorf("Run = %+v, %v", st, err)
	}
}

// TestCancel: the end of the context kills everything before Run returns.
func TestCancel(t *testing.T) {
	r, img := runtimeFor(t), image(t)
	cause := errors.New("enough")
	for _, tt := range []struct {
		name   string
		script string
		task   Task
		want   Status
	}{
		{"at once", "sleep 100 & echo; sleep 100", Task{}, Status{ExitCode: 137, Signal: unix.SIGKILL}},
		{"with a chance", "trap 'exit 3' TERM; sleep 100 & echo; wait", Task{Grace: 10 * time.Second}, Status{ExitCode: 3}},
		{"a chance not taken", "trap '' TERM; echo; while :; do sleep 1; done", Task{Grace: 50 * time.Millisecond}, Status{ExitCode: 137, Signal: unix.SIGKILL}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := sh(tt.script)
			c.StopSignal = unix.SIGTERM
			ctx, cancel := context.WithCancelCause(context.Background())
			pid := 0
			tt.task.Rootfs, tt.task.Config = overlay(t, img), &c
			tt.task.OnStart = func(p int) { pid = p }
			tt.task.Stdout = whenReady(t, func() { cancel(cause) })
			st, err := r.Run(ctx, tt.task)
			if !errors.Is(err, cause) {
				t.Errorf("Run = %v, want the cause", err)
			}
			st.Started, st.Finished = time.Time{}, time.Time{}
			if diff := cmp.Diff(tt.want, st); diff != "" {
				t.Errorf("status (-want +got):\n%s", diff)
			}
			if err := unix.Kill(pid, 0); err != unix.ESRCH {
				t.Errorf("process %d is still there: %v", pid, err)
			}
		})
	}
}

// whenReady returns a file to write to; f is called after the first byte.
func whenReady(t *testing.T, f func()) *os.File {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		w.Close()
		r.Close()
	})
	go func() {
		var b [1]byte
		r.Read(b[:])
		f()
	}()
	return w
}

func TestSignals(t *testing.T) {
	r, img := runtimeFor(t), image(t)
	c := sh("trap 'exit 42' USR1; sleep 100 & echo; wait")
	ch := make(chan os.Signal, 1)
	st, err := r.Run(context.Background(), Task{
		Rootfs: overlay(t, img), Config: &c, Signals: ch,
		Stdout: whenReady(t, func() { ch <- syscall.SIGUSR1 }),
	})
	if err != nil || st.ExitCode != 42 {
		t.Errorf("Run = %+v, %v, want exit code 42", st, err)
	}
}

// TestStdio: bytes go through pipes both ways, more than a pipe holds.
func TestStdio(t *testing.T) {
	r, img := runtimeFor(t), image(t)
	c := sh("cat; echo done >&2")
	inR, inW, _ := os.Pipe()
	outR, outW, _ := os.Pipe()
	errFile, err := os.Create(filepath.Join(tempDir(t), "err"))
	if err != nil {
		t.Fatal(err)
	}
	defer errFile.Close()
	const size = 3 << 20
	go func() {
		inW.Write(make([]byte, size))
		inW.Close()
	}()
	got := make(chan int)
	go func() {
		n, buf := 0, make([]byte, 64<<10)
		for {
			k, err := outR.Read(buf)
			n += k
			if err != nil {
				got <- n
				return
			}
		}
	}()
	st, err := r.Run(context.Background(), Task{Rootfs: overlay(t, img), Config: &c, Stdin: inR, Stdout: outW, Stderr: errFile})
	outW.Close()
	if n := <-got; err != nil || !st.Success() || n != size {
		t.Errorf("Run = %+v, %v, %d bytes, want %d", st, err, n, size)
	}
	if b, _ := os.ReadFile(errFile.Name()); string(b) != "done\n" {
		t.Errorf("standard error is %q", b)
	}
}

func TestOOM(t *testing.T) {
	r, img := runtimeFor(t), image(t)
	if tier, _ := DetectTier(); tier.Cgroup == 0 {
		t.Skip("no cgroups here")
	}
	c := Config{Memory: 64 << 20, Args: []string{"dd", "if=/dev/zero", "of=/dev/null", "bs=256M", "count=1"}}
	out, st, err := output(t, r, overlay(t, img), c)
	if err != nil || !st.OOMKilled || st.ExitCode != 137 {
		t.Errorf("Run = %+v, %v, want OOMKilled; %s", st, err, out)
	}
	out, st, err = output(t, r, overlay(t, img), sh("true"))
	if err != nil || st.OOMKilled {
		t.Errorf("Run = %+v, %v; %s", st, err, out)
	}
}

func TestPidsLimit(t *testing.T) {
	r, img := runtimeFor(t), image(t)
	if tier, _ := DetectTier(); tier.Cgroup == 0 {
		t.Skip("no cgroups here")
	}
	c := sh("sleep 1 & sleep 1 & sleep 1 & sleep 1 & sleep 1 & wait")
	c.PidsLimit = 4
	out, _, err := output(t, r, overlay(t, img), c)
	if err != nil || !strings.Contains(out, "fork") {
		t.Errorf("Run = %v, %q, want a refused fork", err, out)
	}
}

// TestFiles: a task's own files are there for the run.
func TestFiles(t *testing.T) {
	r, img := runtimeFor(t), image(t)
	root := overlay(t, img)
	out, err := os.Create(filepath.Join(tempDir(t), "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	c := sh("cat /etc/hosts /run/secret/key")
	c.Network, c.Hostname, c.ExtraHosts = "none", "box", []string{"db:10.0.0.5"}
	st, err := r.Run(context.Background(), Task{Rootfs: root, Config: &c, Stdout: out, Files: map[string]File{"/run/secret/key": {Data: []byte("k\n"), Mode: 0o400}}})
	b, _ := os.ReadFile(out.Name())
	if want := defaultHosts + "10.0.0.5\tdb\n127.0.0.1\tbox\nk\n"; err != nil || !st.Success() || string(b) != want {
		t.Errorf("Run = %+v, %v, output %q, want %q", st, err, b, want)
	}
	if diff := cmp.Diff([]string{"."}, tree(t, root.Upper)); diff != "" {
		t.Errorf("upper directory (-want +got):\n%s", diff)
	}
}
