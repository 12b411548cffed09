package run

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"cooper/layers"
)

// remains are what a container could leave behind on the machine.
type remains struct {
	Processes, Mounts, Cgroups []string
}

// findRemains looks for this test's: processes that were executed from a runner's
// program or have id in their environment or arguments, mounts below dir, and
// cgroups of containers.
func findRemains(t testing.TB, dir string) remains {
	t.Helper()
	var r remains
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(mounts)) {
		if strings.Contains(line, dir) {
			r.Mounts = append(r.Mounts, strings.TrimSpace(line))
		}
	}
	procs, _ := filepath.Glob("/proc/[0-9]*")
	for _, p := range procs {
		env, _ := os.ReadFile(filepath.Join(p, "environ"))
		args, _ := os.ReadFile(filepath.Join(p, "cmdline"))
		if strings.Contains(string(env), dir) || strings.Contains(string(args), dir) {
			if filepath.Base(p) != strconv.Itoa(os.Getpid()) {
				r.Processes = append(r.Processes, filepath.Base(p)+" "+string(args))
			}
		}
	}
	return r
}

// cgroups lists the containers' cgroups whose names begin with id.
func cgroupsOf(id string) []string {
	var out []string
	own, _ := os.ReadFile("/proc/self/cgroup")
	for line := range strings.Lines(string(own)) {
		f := strings.SplitN(strings.TrimSpace(line), ":", 3)
		found, _ := filepath.Glob(filepath.Join("/sys/fs/cgroup/*", f[2], "cooper-"+id+"*"))
		out = append(out, found...)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// count reports descriptors, threads and children of a process.
func count(t testing.TB, pid int) map[string]int {
	t.Helper()
	n := map[string]int{}
	for _, what := range []string{"fd", "task"} {
		l, err := os.ReadDir(fmt.Sprintf("/proc/%d/%s", pid, what))
		if err != nil {
			t.Fatal(err)
		}
		n[what] = len(l)
	}
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, f := range tasks {
		b, _ := os.ReadFile(f)
		n["children"] += len(strings.Fields(string(b)))
	}
	return n
}

// openFiles names what a process has open.
func openFiles(pid int) (names []string) {
	links, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	for _, l := range links {
		if name, err := os.Readlink(l); err == nil {
			names = append(names, name)
		}
	}
	return names
}

// TestParallel runs many containers at once and looks for what they leave in this
// process and in the runner.
func TestParallel(t *testing.T) {
	n := 2000
	if testing.Short() || os.Getenv("COOPER_LONG") == "" {
		n = 120
	}
	r, img := runtimeFor(t), image(t)
	c := sh("echo x$N")
	if _, st, err := output(t, r, overlay(t, img), c); err != nil || !st.Success() {
		t.Fatal(st, err)
	}
	runner := r.link.p.Cmd.Process.Pid
	before, ours := count(t, runner), count(t, os.Getpid())
	goroutines := runtime.NumGoroutine()
	const workers = 8
	roots := make([]layers.Rootfs, workers)
	for i := range roots {
		roots[i] = overlay(t, img)
	}
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for i := w; i < n; i += workers {
				if err := runNumbered(r, roots[w], i); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	var after, oursAfter map[string]int
	settled := func() bool { // the runner tidies its own directory after a container's end
		after, oursAfter = count(t, runner), count(t, os.Getpid())
		for _, what := range []string{"fd", "children"} {
			if after[what] > before[what] || oursAfter[what] > ours[what] {
				return false
			}
		}
		return true
	}
	for i := 0; i < 100 && !settled(); i++ {
		time.Sleep(20 * time.Millisecond)
	}
	if !settled() {
		t.Errorf("runner %v then %v, here %v then %v; the runner has open %v", before, after, ours, oursAfter, openFiles(runner))
	}
	if after["task"] > before["task"]+3*workers {
		t.Errorf("threads of the runner: %d then %d", before["task"], after["task"])
	}
	if g := runtime.NumGoroutine(); g > goroutines+2 {
		t.Errorf("goroutines: %d then %d", goroutines, g)
	}
}

func runNumbered(r *Runtime, root layers.Rootfs, i int) error {
	pr, pw, err := os.Pipe()
	if err != nil {
		return err
	}
	defer pr.Close()
	c := sh("echo x$N")
	c.Env = []string{fmt.Sprintf("N=%d", i)}
	st, err := r.Run(context.Background(), Task{Rootfs: root, Config: &c, Stdout: pw})
	pw.Close()
	buf := make([]byte, 64)
	k, _ := pr.Read(buf)
	if want := fmt.Sprintf("x%d\n", i); err != nil || !st.Success() || string(buf[:k]) != want {
		return fmt.Errorf("container %d: %+v, %w, output %q", i, st, err, buf[:k])
	}
	return nil
}

// TestKilled: what is left when this process, or the runner, dies by SIGKILL in the
// middle of containers: nothing.
func TestKilled(t *testing.T) {
	for _, victim := range []string{"parent", "runner"} {
		t.Run(victim, func(t *testing.T) {
			runtimeFor(t) // skips where there are no containers
			dir := tempDir(t)
			id := fmt.Sprintf("kill%d%s", os.Getpid(), victim)
			cmd := exec.Command("/proc/self/exe", "-test.run", "TestHelperProcess", "-test.v")
			cmd.Env = append(os.Environ(), "COOPER_HELPER="+victim, "COOPER_HELPER_DIR="+dir, "COOPER_HELPER_ID="+id)
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			buf := make([]byte, 4096)
			text := ""
			for !strings.Contains(text, "READY") {
				n, err := out.Read(buf)
				if err != nil {
					t.Fatalf("helper ended: %v: %s", err, text)
				}
				text += string(buf[:n])
			}
			if victim == "parent" {
				cmd.Process.Kill()
			}
			cmd.Wait()
			waitForNothing(t, dir, id)
		})
	}
}

func waitForNothing(t *testing.T, dir, id string) {
	t.Helper()
	var got remains
	for range 100 {
		got = findRemains(t, dir)
		got.Cgroups = cgroupsOf(id)
		if len(got.Processes)+len(got.Mounts)+len(got.Cgroups) == 0 {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Errorf("left behind (-want +got):\n%s", cmp.Diff(remains{}, got))
}

// TestHelperProcess is the process that TestKilled kills.
func TestHelperProcess(t *testing.T) {
	victim, dir := os.Getenv("COOPER_HELPER"), os.Getenv("COOPER_HELPER_DIR")
	if victim == "" {
		t.Skip("only for TestKilled")
	}
	os.Unsetenv("COOPER_HELPER")
	r := NewRuntime(RuntimeOptions{StateDir: filepath.Join(dir, "state")})
	img := image(t)
	var wg, started sync.WaitGroup
	for i := range 3 {
		started.Add(1)
		root := overlay(t, img)
		wg.Go(func() {
			c := sh("trap '' TERM INT; sleep 1000 & sleep 1000")
			c.Env = []string{"MARK=" + dir}
			r.Run(context.Background(), Task{
				ID: fmt.Sprintf("%s%d", os.Getenv("COOPER_HELPER_ID"), i), Rootfs: root, Config: &c,
				OnStart: func(int) { started.Done() },
			})
		})
	}
	started.Wait()
	if victim == "runner" {
		r.link.p.Cmd.Process.Signal(unix.SIGKILL)
		wg.Wait()
		fmt.Println("READY")
		return
	}
	fmt.Println("READY")
	wg.Wait()
}
