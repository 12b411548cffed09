package run

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"cooper/layers"
)

// liveStore is a store with an image of busybox, for containers that run.
func liveStore(t testing.TB) (*Containers, layers.Image) {
	t.Helper()
	tier, err := DetectTier()
	if err != nil {
		t.Fatal(err)
	}
	if !tier.Mounts {
		t.Skip("no containers here:", tier.Missing())
	}
	dir := tempDir(t)
	store, err := layers.Open(t.Context(), layers.Options{Root: dir + "/root", RunRoot: dir + "/run"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	sn, err := store.Prepare(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("/bin/cp", "-a", image(t)+"/.", sn.Upper()).CombinedOutput(); err != nil {
		t.Fatalf("copy image: %v\n%s", err, out)
	}
	layer, err := sn.Commit(t.Context()).Wait(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	img, err := store.CreateImage(t.Context(), layers.ImageOptions{Layer: layer.ID, Names: []string{"base"}})
	if err != nil {
		t.Fatal(err)
	}
	cs, err := OpenContainers(store)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		list, err := cs.List()
		if err != nil {
			t.Error(err)
		}
		for _, c := range list {
			if err := c.Remove(context.Background(), RemoveOptions{Force: true}); err != nil {
				t.Error(err)
			}
		}
	})
	return cs, img
}

// live makes a container with a shell script.
func live(t testing.TB, cs *Containers, img layers.Image, script string, o ContainerOptions) *Container {
	t.Helper()
	o.Image, o.ImageID, o.NetworkMode = "base", img.ID, "host"
	o.Config.Args = sh(script).Args
	o.Runtime, o.RuntimeFlags = testedRuntime.Name, testedRuntime.Flags
	c, err := cs.Create(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func start(t testing.TB, c *Container) {
	t.Helper()
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func stateOf(t testing.TB, c *Container) State {
	t.Helper()
	st, err := c.State()
	if err != nil {
		t.Fatal(err)
	}
	return st
}

// until waits for a state.
func until(t testing.TB, c *Container, what string, ok func(State) bool) {
	t.Helper()
	var st State
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if st = stateOf(t, c); ok(st) {
			return
		}
	}
	t.Fatalf("the container did not become %s: %+v", what, st)
}

// logText is all that the container wrote, without times.
func logText(t testing.TB, c *Container) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(c.dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	for line := range strings.Lines(string(b)) {
		f := strings.SplitN(line, " ", 4)
		if len(f) != 4 {
			t.Fatalf("log line %q", line)
		}
		if _, err := time.Parse(time.RFC3339Nano, f[0]); err != nil {
			t.Fatalf("log line %q: %v", line, err)
		}
		text.WriteString(f[1] + " " + f[2] + " " + f[3])
	}
	return text.String()
}

// execOutput runs a command in c.
func execOutput(t testing.TB, c *Container, o ExecOptions) (string, Status, error) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	st, err := c.Exec(t.Context(), o, Streams{Stdout: w, Stderr: w})
	w.Close()
	b, _ := io.ReadAll(r)
	return string(b), st, err
}

func TestLife(t *testing.T) {
	cs, img := liveStore(t)
	c := live(t, cs, img, "echo out; echo err >&2; printf part; trap 'exit 3' TERM; while :; do sleep 0.01; done", ContainerOptions{Name: "web"})
	if _, err := os.Stat(c.RunDir()); err == nil {
		t.Error("a runtime directory before the start")
	}
	start(t, c)
	st := stateOf(t, c)
	if st.Status != StatusRunning || st.PID == 0 || st.StartTime == 0 || st.MonitorPID == 0 || st.Started.IsZero() {
		t.Errorf("state after start: %+v", st)
	}
	if err := c.Start(t.Context()); !errors.Is(err, ErrRunning) {
		t.Errorf("second start = %v, want ErrRunning", err)
	}
	if comm, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", st.MonitorPID)); strings.TrimRight(string(comm), "\x00") != "cooper-monitor web" {
		t.Errorf("the monitor is called %q", comm)
	}
	until(t, c, "ready", func(State) bool { return strings.Contains(logText(t, c), "part") })
	grace := 5 * time.Second
	if err := c.Stop(t.Context(), StopOptions{Grace: &grace}); err != nil {
		t.Fatal(err)
	}
	if st = stateOf(t, c); st.Status != StatusExited || st.ExitCode != 3 || st.PID != 0 || !st.StoppedByUser || st.Finished.IsZero() {
		t.Errorf("state after stop: %+v", st)
	}
	if got := logText(t, c); !strings.Contains(got, "stdout F out\n") || !strings.Contains(got, "stderr F err\n") || !strings.Contains(got, "stdout P part\n") {
		t.Errorf("log: %q", got)
	}
	if err := c.Signal(t.Context(), unix.SIGTERM); !errors.Is(err, ErrNotRunning) {
		t.Errorf("signal to a stopped container = %v", err)
	}
	start(t, c)
	if err := c.Stop(t.Context(), StopOptions{Grace: new(time.Duration), Signal: unix.SIGUSR1}); err != nil {
		t.Fatal(err)
	}
	if st = stateOf(t, c); st.ExitCode != 137 && st.ExitCode != 128+int(unix.SIGUSR1) {
		t.Errorf("exit code after SIGUSR1 and SIGKILL: %d", st.ExitCode)
	}
}

func TestFailedStart(t *testing.T) {
	cs, img := liveStore(t)
	c := live(t, cs, img, "", ContainerOptions{Config: Config{}})
	for _, tt := range []struct {
		program string
		code    int
	}{{"/no/such", 127}, {"nosuch", 127}, {"/etc", 126}} {
		if err := c.Edit(func(o *ContainerOptions) error { o.Config.Args = []string{tt.program}; return nil }); err != nil {
			t.Fatal(err)
		}
		var failed *StartError
		if err := c.Start(t.Context()); !errors.As(err, &failed) || failed.Code != tt.code {
			t.Errorf("start of %s = %v, want code %d", tt.program, err, tt.code)
		}
		if st := stateOf(t, c); st.Status != StatusCreated || st.ExitCode != tt.code || st.Error == "" {
			t.Errorf("state after failed start: %+v", st)
		}
	}
}

func TestExec(t *testing.T) {
	cs, img := liveStore(t)
	if tier, _ := DetectTier(); tier.SingleID {
		t.Skip("there is only root")
	}
	c := live(t, cs, img, "sleep 100", ContainerOptions{Config: Config{Env: []string{"A=1", "B=1"}, User: "app", Dir: "/tmp"}})
	if _, _, err := execOutput(t, c, ExecOptions{Args: []string{"id"}}); !errors.Is(err, ErrNotRunning) {
		t.Errorf("exec in a container that does not run = %v", err)
	}
	start(t, c)
	for _, tt := range []struct {
		name string
		o    ExecOptions
		want string
		code int
	}{
		{"as the container", ExecOptions{Args: sh("id -un; pwd; echo $A$B").Args}, "app\n/tmp\n11\n", 0},
		{"otherwise", ExecOptions{Args: sh("id -u; pwd; echo $A$B").Args, User: "0", Dir: "/bin", Env: []string{"B=2"}}, "0\n/bin\n12\n", 0},
		{"exit code", ExecOptions{Args: sh("exit 42").Args}, "", 42},
		{"killed", ExecOptions{Args: sh("kill -9 $$").Args}, "", 137},
		{"capabilities", ExecOptions{Args: []string{"grep", "CapEff", "/proc/self/status"}, User: "0"}, "CapEff:\t00000000a80425fb\n", 0},
		{"filter", ExecOptions{Args: []string{"grep", "Seccomp:", "/proc/self/status"}}, "Seccomp:\t2\n", 0},
		{"privileged", ExecOptions{Args: []string{"grep", "Seccomp:", "/proc/self/status"}, Privileged: true}, "Seccomp:\t0\n", 0},
	} {
		if tt.o.Privileged && testedRuntime.Name != "" {
			continue // others keep the container's filter
		}
		got, st, err := execOutput(t, c, tt.o)
		if got != tt.want || st.ExitCode != tt.code || err != nil {
			t.Errorf("%s: exec = %q, %d, %v, want %q, %d", tt.name, got, st.ExitCode, err, tt.want, tt.code)
		}
	}
	var failed *StartError
	if _, _, err := execOutput(t, c, ExecOptions{Args: []string{"nosuch"}}); !errors.As(err, &failed) || failed.Code != 127 {
		t.Errorf("exec of nothing = %v", err)
	}
	if err := c.ExecDetached(t.Context(), ExecOptions{Args: sh("echo done > /tmp/done").Args}); err != nil {
		t.Fatal(err)
	}
	until(t, c, "done", func(State) bool {
		got, _, _ := execOutput(t, c, ExecOptions{Args: []string{"cat", "/tmp/done"}})
		return got == "done\n"
	})
	if err := c.Pause(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, _, err := execOutput(t, c, ExecOptions{Args: []string{"true"}}); err == nil || !strings.Contains(err.Error(), "paused") {
		t.Errorf("exec in a paused container = %v", err)
	}
}

func TestRestartPolicy(t *testing.T) {
	cs, img := liveStore(t)
	c := live(t, cs, img, "echo x; exit 5", ContainerOptions{Restart: RestartPolicy{Name: "on-failure", MaxRetries: 2}})
	start(t, c)
	until(t, c, "exited", func(s State) bool { return s.Status == StatusExited })
	if st := stateOf(t, c); st.RestartCount != 2 || st.ExitCode != 5 {
		t.Errorf("after two retries: %+v", st)
	}
	if got := strings.Count(logText(t, c), "x"); got != 3 {
		t.Errorf("it ran %d times, want 3", got)
	}
	always := live(t, cs, img, "exit 0", ContainerOptions{Restart: RestartPolicy{Name: "always"}})
	start(t, always)
	until(t, always, "restarted", func(s State) bool { return s.RestartCount >= 2 })
	began := time.Now()
	if err := always.Stop(t.Context(), StopOptions{}); err != nil {
		t.Fatal(err)
	}
	if st := stateOf(t, always); st.Status != StatusExited || time.Since(began) > 5*time.Second {
		t.Errorf("stopped between two runs after %v: %+v", time.Since(began), st)
	}
	never := live(t, cs, img, "exit 0", ContainerOptions{Restart: RestartPolicy{Name: "on-failure"}})
	start(t, never)
	until(t, never, "exited", func(s State) bool { return s.Status == StatusExited && s.RestartCount == 0 })
}

func TestRestartByHand(t *testing.T) {
	cs, img := liveStore(t)
	c := live(t, cs, img, "echo x; sleep 100", ContainerOptions{})
	none := time.Duration(0)
	for i := range 3 {
		if err := c.Restart(t.Context(), StopOptions{Grace: &none}); err != nil {
			t.Fatal(err)
		}
		if st := stateOf(t, c); st.Status != StatusRunning || st.RestartCount != 0 {
			t.Errorf("after restart %d: %+v", i, st)
		}
	}
}

func TestPause(t *testing.T) {
	cs, img := liveStore(t)
	c := live(t, cs, img, "i=0; while :; do i=$((i+1)); echo $i > /tmp/n; done", ContainerOptions{})
	start(t, c)
	view, err := c.View()
	if err != nil {
		t.Fatal(err)
	}
	defer view.Close()
	time.Sleep(50 * time.Millisecond)
	if err := c.Pause(t.Context()); err != nil {
		t.Fatal(err)
	}
	read := func() string { b, _ := view.ReadFile("tmp/n"); return string(b) }
	before := read()
	time.Sleep(50 * time.Millisecond)
	if after := read(); after != before || stateOf(t, c).Status != StatusPaused {
		t.Errorf("a paused container goes on: %q, %q", before, after)
	}
	if err := c.Pause(t.Context()); err == nil {
		t.Error("paused twice")
	}
	if err := c.Resume(t.Context()); err != nil {
		t.Fatal(err)
	}
	until(t, c, "running", func(s State) bool { return s.Status == StatusRunning && read() != before })
	// Stopping a paused container must not hang.
	if err := c.Pause(t.Context()); err != nil {
		t.Fatal(err)
	}
	none := time.Duration(0)
	if err := c.Stop(t.Context(), StopOptions{Grace: &none}); err != nil {
		t.Fatal(err)
	}
}

func TestHealth(t *testing.T) {
	cs, img := liveStore(t)
	c := live(t, cs, img, "sleep 100", ContainerOptions{Health: &HealthConfig{
		Test: sh("echo looking; test -e /tmp/ok").Args, Interval: 20 * time.Millisecond, Retries: 2,
	}})
	start(t, c)
	if st := stateOf(t, c); st.Health == nil || st.Health.Status != "starting" {
		t.Errorf("health at first: %+v", st.Health)
	}
	until(t, c, "unhealthy", func(s State) bool { return s.Health.Status == "unhealthy" })
	if r := stateOf(t, c).Health.Log[0]; r.ExitCode != 1 || r.Output != "looking\n" {
		t.Errorf("failed check: %+v", r)
	}
	if _, _, err := execOutput(t, c, ExecOptions{Args: []string{"touch", "/tmp/ok"}}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Wait(t.Context(), WaitHealthy); err != nil {
		t.Fatal(err)
	}
	time.Sleep(200 * time.Millisecond)
	if h := stateOf(t, c).Health; len(h.Log) > 5 || h.FailingStreak != 0 {
		t.Errorf("after a while: %+v", h)
	}
}

func TestHealthTimeout(t *testing.T) {
	cs, img := liveStore(t)
	c := live(t, cs, img, "sleep 100", ContainerOptions{Health: &HealthConfig{
		Test: sh("sleep 77 & sleep 77").Args, Interval: 20 * time.Millisecond, Timeout: 50 * time.Millisecond, Retries: 1,
	}})
	start(t, c)
	if _, err := c.Wait(t.Context(), WaitUnhealthy); err != nil {
		t.Fatal(err)
	}
	if r := stateOf(t, c).Health.Log[0]; r.ExitCode != -1 || !strings.Contains(r.Output, "exceeded timeout") {
		t.Errorf("a check that takes too long: %+v", r)
	}
	if err := c.Update(t.Context(), nil, nil); err != nil {
		t.Error(err)
	}
	out, _, err := execOutput(t, c, ExecOptions{Args: []string{"ps"}})
	if err != nil || strings.Count(out, "sleep 77") > 4 {
		t.Errorf("processes of checks are left: %v\n%s", err, out)
	}
}

func TestWait(t *testing.T) {
	cs, img := liveStore(t)
	c := live(t, cs, img, "while ! test -e /tmp/end; do sleep 0.01; done; exit 9", ContainerOptions{})
	type result struct {
		condition string
		code      int
		err       error
	}
	results := make(chan result)
	wait := func(condition string) {
		code, err := c.Wait(t.Context(), condition)
		results <- result{condition, code, err}
	}
	go wait(StatusRunning)
	go wait(WaitNextExit)
	go wait(WaitRemoved)
	time.Sleep(20 * time.Millisecond)
	start(t, c)
	if r := <-results; r.condition != StatusRunning || r.err != nil {
		t.Fatalf("first to return: %+v", r)
	}
	go wait(WaitNotRunning)
	go wait(WaitHealthy)
	if r := <-results; r.condition != WaitHealthy || !errors.Is(r.err, ErrNeverHealthy) {
		t.Fatalf("second to return: %+v", r)
	}
	if _, _, err := execOutput(t, c, ExecOptions{Args: []string{"touch", "/tmp/end"}}); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if r := <-results; r.condition == WaitRemoved || r.code != 9 || r.err != nil {
			t.Fatalf("at the end: %+v", r)
		}
	}
	if err := c.Remove(t.Context(), RemoveOptions{}); err != nil {
		t.Fatal(err)
	}
	if r := <-results; r.condition != WaitRemoved || r.err != nil {
		t.Fatalf("at last: %+v", r)
	}
}

func TestRunAttached(t *testing.T) {
	cs, img := liveStore(t)
	for _, foreground := range []bool{false, true} {
		o := ContainerOptions{OpenStdin: true, StdinOnce: true, Foreground: foreground}
		if foreground {
			o.Foreground = true
			layer, err := cs.store.Layer(img.Layer)
			if err != nil {
				t.Fatal(err)
			}
			sn, err := cs.store.Prepare(t.Context(), layer)
			if err != nil {
				t.Fatal(err)
			}
			defer sn.Remove()
			root := sn.Rootfs()
			o.Snapshot = &root
		}
		c := live(t, cs, img, "cat; echo err >&2; exit 4", o)
		in, inW, _ := os.Pipe()
		outR, out, _ := os.Pipe()
		errR, errW, _ := os.Pipe()
		inW.WriteString("hello\n")
		inW.Close()
		st, err := c.Run(t.Context(), Streams{Stdin: in, Stdout: out, Stderr: errW})
		out.Close()
		errW.Close()
		b, _ := io.ReadAll(outR)
		e, _ := io.ReadAll(errR)
		if string(b) != "hello\n" || string(e) != "err\n" || st.ExitCode != 4 || err != nil {
			t.Errorf("foreground %v: run = %q, %q, %+v, %v", foreground, b, e, st, err)
		}
		if st := stateOf(t, c); st.ExitCode != 4 || st.Status != StatusExited {
			t.Errorf("foreground %v: state %+v", foreground, st)
		}
	}
}

func TestForegroundEndsWithUs(t *testing.T) {
	cs, img := liveStore(t)
	layer, err := cs.store.Layer(img.Layer)
	if err != nil {
		t.Fatal(err)
	}
	sn, err := cs.store.Prepare(t.Context(), layer)
	if err != nil {
		t.Fatal(err)
	}
	defer sn.Remove()
	root := sn.Rootfs()
	c := live(t, cs, img, "sleep 1000", ContainerOptions{Foreground: true, Snapshot: &root})
	ctx, cancel := context.WithCancel(t.Context())
	began := make(chan int, 1)
	go func() { <-began; cancel() }()
	var out string
	_, err = c.Run(ctx, Streams{OnStart: func(pid int) {
		go func() {
			out, _, _ = execOutput(t, c, ExecOptions{Args: []string{"echo", "looked in"}})
			began <- pid
		}()
	}})
	if out != "looked in\n" {
		t.Errorf("exec in a foreground container: %q", out)
	}
	if !errors.Is(err, context.Canceled) {
		t.Errorf("Run = %v", err)
	}
	until(t, c, "ended", func(s State) bool { return !s.Alive() })
}

// TestMonitorSignalled: a service manager ends a monitor by SIGTERM.
func TestMonitorSignalled(t *testing.T) {
	cs, img := liveStore(t)
	c := live(t, cs, img, "trap 'exit 8' TERM; while :; do sleep 0.01; done", ContainerOptions{Restart: RestartPolicy{Name: "always"}})
	start(t, c)
	pid := stateOf(t, c).MonitorPID
	unix.Kill(pid, unix.SIGHUP)
	time.Sleep(50 * time.Millisecond) // the shell has its trap by then, and the signal had its time
	if st := stateOf(t, c); st.Status != StatusRunning {
		t.Fatalf("after SIGHUP: %+v", st)
	}
	unix.Kill(pid, unix.SIGTERM)
	until(t, c, "exited", func(s State) bool { return s.Status == StatusExited })
	if st := stateOf(t, c); st.ExitCode != 8 {
		t.Errorf("exit code %d, want 8", st.ExitCode)
	}
}
