package run

import (
	"context"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestKillMonitor kills monitors and containers at random moments: the container
// goes with its monitor, nothing stays, and it can be started again.
func TestKillMonitor(t *testing.T) {
	cs, img := liveStore(t)
	n := 100
	if testing.Short() || testedRuntime.Name != "" || os.Getenv(envUserTest) != "" {
		n = 10
	}
	for i := range n {
		c := live(t, cs, img, "sleep 1000 & sleep 1000", ContainerOptions{})
		started := make(chan error, 1)
		go func() { started <- c.Start(t.Context()) }()
		time.Sleep(time.Duration(rand.Int64N(int64(40 * time.Millisecond))))
		killed := killOne(c, i%2 == 0)
		<-started
		if !killed {
			killOne(c, i%2 == 0)
		}
		until(t, c, "ended", func(s State) bool { return !s.Alive() })
		if left := cgroupsOf(c.id); len(left) > 0 {
			t.Fatalf("round %d: cgroups are left: %v", i, left)
		}
		if left := findRemains(t, c.id); len(left.Processes)+len(left.Mounts) > 0 {
			t.Fatalf("round %d: left: %+v", i, left)
		}
		if left := processesNamed("cooper-monitor " + c.Name()); len(left) > 0 {
			t.Fatalf("round %d: processes of the start are left: %v", i, left)
		}
		start(t, c)
		if err := c.Remove(t.Context(), RemoveOptions{Force: true}); err != nil {
			t.Fatal(err)
		}
	}
}

// processesNamed lists the processes whose arguments begin so, once those that are
// about to end have ended.
func processesNamed(name string) (found []string) {
	for range 50 {
		found = nil
		lines, _ := filepath.Glob("/proc/[0-9]*/cmdline")
		for _, line := range lines {
			if b, err := os.ReadFile(line); err == nil && strings.HasPrefix(string(b), name+"\x00") {
				found = append(found, line)
			}
		}
		if len(found) == 0 {
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	return found
}

// killOne kills the monitor or the first process of a container, once it is there.
func killOne(c *Container, monitor bool) bool {
	for range 200 {
		st, err := c.readState()
		if err != nil {
			return false
		}
		pid := st.PID
		if monitor {
			pid = st.MonitorPID
		}
		if pid != 0 {
			return syscall.Kill(pid, syscall.SIGKILL) == nil
		}
		time.Sleep(time.Millisecond)
	}
	return false
}

// TestMany starts and stops many containers at once.
func TestMany(t *testing.T) {
	cs, img := liveStore(t)
	n := 50
	if testing.Short() || testedRuntime.Name != "" || os.Getenv(envUserTest) != "" {
		n = 10
	}
	errs := make(chan error, n)
	for i := range n {
		c := live(t, cs, img, "echo hello; sleep 1000", ContainerOptions{Name: "many" + strconv.Itoa(i)})
		go func() {
			err := c.Start(context.Background())
			if err == nil {
				none := time.Duration(0)
				err = c.Stop(context.Background(), StopOptions{Grace: &none})
			}
			errs <- err
		}()
	}
	for range n {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	list, err := cs.List()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range list {
		if st := stateOf(t, c); st.Status != StatusExited || st.ExitCode != 137 {
			t.Errorf("%s: %+v", c.Name(), st)
		}
		if left := cgroupsOf(c.id); len(left) > 0 {
			t.Errorf("%s: cgroups are left: %v", c.Name(), left)
		}
	}
	if left := findRemains(t, cs.runDir); len(left.Processes)+len(left.Mounts) > 0 {
		t.Errorf("left: %+v", left)
	}
}

// TestLogRotation writes numbered lines faster than a terminal would, into a log that
// is rotated, and reads them all again.
func TestLogRotation(t *testing.T) {
	cs, img := liveStore(t)
	for _, driver := range []string{"k8s-file", "json-file"} {
		c := live(t, cs, img, "seq 1 20000", ContainerOptions{Log: LogConfig{Driver: driver, MaxSize: 100 << 10, MaxFiles: 50}})
		start(t, c)
		until(t, c, "exited", func(s State) bool { return s.Status == StatusExited })
		files, _ := filepath.Glob(filepath.Join(c.dir, "log*"))
		if len(files) < 5 {
			t.Errorf("%s: %d files", driver, len(files))
		}
		next := 1
		for i := len(files) - 1; i >= 0; i-- {
			name := filepath.Join(c.dir, "log")
			if i > 0 {
				name += "." + strconv.Itoa(i)
			}
			b, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			if len(b) > 100<<10 {
				t.Errorf("%s: %s has %d bytes", driver, name, len(b))
			}
			next = countLines(t, driver, string(b), next)
		}
		if next != 20001 {
			t.Errorf("%s: the log ends before %d", driver, next)
		}
	}
}

// countLines checks that text goes on with line next, and returns the one after it.
// A line may have come in two parts.
func countLines(t *testing.T, driver, text string, next int) int {
	t.Helper()
	part := ""
	for line := range strings.Lines(text) {
		word := ""
		if driver == "json-file" {
			word = strings.TrimPrefix(line, `{"log":"`)
			word = word[:strings.IndexByte(word, '"')]
		} else {
			f := strings.SplitN(strings.TrimSuffix(line, "\n"), " ", 4)
			word = f[3]
			if f[2] == "F" {
				word += `\n`
			}
		}
		part += word
		if !strings.HasSuffix(part, `\n`) {
			continue
		}
		if got := strings.TrimSuffix(part, `\n`); got != strconv.Itoa(next) {
			t.Fatalf("%s: line %d is %q", driver, next, got)
		}
		next, part = next+1, ""
	}
	return next
}

// TestLimitsHoldOne: what exceeds its limits dies alone.
func TestLimitsHoldOne(t *testing.T) {
	cs, img := liveStore(t)
	if tier, _ := DetectTier(); tier.Cgroup == 0 {
		t.Skip("no cgroups here")
	}
	bystander := live(t, cs, img, "sleep 1000", ContainerOptions{})
	start(t, bystander)
	bomb := live(t, cs, img, "b() { b | b & }; b; sleep 1000", ContainerOptions{Config: Config{PidsLimit: 20}})
	start(t, bomb)
	hog := live(t, cs, img, "exec dd if=/dev/zero of=/dev/null bs=200M", ContainerOptions{Config: Config{Memory: 20 << 20}})
	start(t, hog)
	until(t, hog, "ended", func(s State) bool { return s.Status == StatusExited })
	if st := stateOf(t, hog); !st.OOMKilled || st.ExitCode != 137 {
		t.Errorf("after its memory was used up: %+v", st)
	}
	until(t, bomb, "full", func(State) bool { return strings.Contains(logText(t, bomb), "can't fork") })
	if out, st, err := execOutput(t, bystander, ExecOptions{Args: []string{"echo", "well"}}); out != "well\n" || !st.Success() || err != nil {
		t.Errorf("exec beside a fork bomb = %q, %+v, %v", out, st, err)
	}
	none := time.Duration(0)
	if err := bomb.Stop(t.Context(), StopOptions{Grace: &none}); err != nil {
		t.Fatal(err)
	}
}
