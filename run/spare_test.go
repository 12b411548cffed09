package run

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// anotherStep runs a command as a build does that has more of them to run.
func anotherStep(t *testing.T, r *Runtime, img string, c Config) string {
	t.Helper()
	pr, pw, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer pr.Close()
	c.Hostname = "step"
	st, err := r.Run(context.Background(), Task{Rootfs: overlay(t, img), Config: &c, Stdout: pw, Stderr: pw, Another: true})
	pw.Close()
	out, _ := io.ReadAll(pr)
	if err != nil || !st.Success() {
		t.Fatalf("%+v, %v: %s", st, err, out)
	}
	return strings.TrimSpace(string(out))
}

// children are the processes that a process has started and that still run.
func children(t *testing.T, pid int) []string {
	t.Helper()
	var all []string
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, f := range tasks {
		b, err := os.ReadFile(f)
		if err != nil {
			continue
		}
		all = append(all, strings.Fields(string(b))...)
	}
	slices.Sort(all)
	return all
}

// waitingSpare returns the one process that waits for another step.
func waitingSpare(t *testing.T, r *Runtime) string {
	t.Helper()
	var found []string
	for range 500 {
		if found = children(t, r.link.p.Cmd.Process.Pid); len(found) == 1 {
			// One of libcontainer's first two processes is not it.
			if name, _ := os.ReadFile("/proc/" + found[0] + "/comm"); strings.Contains(string(name), "INIT") {
				return found[0]
			}
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("processes of the runner: %v", found)
	return ""
}

// TestSpare: the first process of the next step is there when a step ends, and
// becomes that step with its own files, streams and environment, if it is of the
// same kind.
func TestSpare(t *testing.T) {
	r, img := runtimeFor(t), image(t)
	var last string
	for i := range 3 {
		c := sh("echo $N; cat /proc/self/status | grep ^NSpid; ls /proc/self/fd | wc -l; hostname")
		c.Env = []string{"N=" + strconv.Itoa(i)}
		out := strings.Fields(anotherStep(t, r, img, c))
		if want := []string{strconv.Itoa(i), "4", "step"}; out[0] != want[0] || out[len(out)-2] != want[1] || out[len(out)-1] != want[2] {
			t.Errorf("step %d: %q", i, out)
		}
		next := waitingSpare(t, r)
		if next == last {
			t.Errorf("step %d left the process %s of the step before it", i, next)
		}
		last = next
	}
	c := sh("cat /proc/self/mountinfo | grep -c tmp/there")
	c.Mounts = append(c.Mounts, specs.Mount{Type: "bind", Source: tempDir(t), Destination: "/tmp/there", Options: []string{"rbind"}})
	if out := anotherStep(t, r, img, c); out != "1" {
		t.Errorf("a step with a mount of its own has %s of them", out)
	}
	if !slices.Contains(children(t, r.link.p.Cmd.Process.Pid), last) {
		t.Errorf("the process %s for plain steps is gone", last)
	}
}

// TestSpareLeavesNothing: what was prepared for a step that never came is gone with
// the Runtime, and with a runner that was killed.
func TestSpareLeavesNothing(t *testing.T) {
	for _, kill := range []bool{false, true} {
		t.Run(fmt.Sprintf("kill=%v", kill), func(t *testing.T) {
			r, img := runtimeFor(t), image(t)
			anotherStep(t, r, img, sh("true"))
			pid := waitingSpare(t, r)
			for i := 0; len(spareCgroups(r)) == 0 && hasCgroups(t) && i < 100; i++ {
				time.Sleep(10 * time.Millisecond)
			}
			cgroups := spareCgroups(r)
			if hasCgroups(t) && len(cgroups) == 0 {
				t.Error("the spare has no cgroup")
			}
			if kill {
				r.link.p.Cmd.Process.Signal(unix.SIGKILL)
				<-r.link.done
			} else if err := r.Close(); err != nil {
				t.Fatal(err)
			}
			for i := 0; ; i++ {
				left := slices.DeleteFunc(slices.Clone(cgroups), func(dir string) bool {
					_, err := os.Stat(dir)
					return err != nil
				})
				if !runs(pid) && len(left) == 0 {
					break
				}
				if i == 300 {
					t.Fatalf("process %s runs: %v, cgroups %v", pid, runs(pid), left)
				}
				time.Sleep(10 * time.Millisecond)
			}
		})
	}
}

// runs reports whether a process is there and no zombie, which it may stay for ever
// where the first process of the machine does not collect strangers.
func runs(pid string) bool {
	b, err := os.ReadFile("/proc/" + pid + "/stat")
	_, after, _ := strings.Cut(string(b), ") ")
	return err == nil && !strings.HasPrefix(after, "Z")
}

func hasCgroups(t *testing.T) bool {
	t.Helper()
	tier, err := DetectTier()
	if err != nil {
		t.Fatal(err)
	}
	return tier.Cgroup != 0
}

func spareCgroups(r *Runtime) []string {
	r.link.mu.Lock()
	defer r.link.mu.Unlock()
	return slices.Clone(r.link.spare)
}
