package run

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"cooper/run/internal/life"
)

// abandoned is a container whose monitor is gone, and the process that it has left.
func abandoned(t *testing.T, o ContainerOptions, boot string) (*Container, *exec.Cmd) {
	t.Helper()
	cs, img := keptStore(t)
	c := create(t, cs, img, o)
	left := exec.Command("/bin/sleep", "60")
	if err := left.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { left.Process.Kill(); left.Wait() })
	start, err := life.StartTime(left.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	st := State{Status: StatusRunning, PID: left.Process.Pid, StartTime: start, MonitorPID: 1 << 30, BootID: boot}
	if err := c.writeState(st); err != nil {
		t.Fatal(err)
	}
	return c, left
}

func ends(cmd *exec.Cmd, within time.Duration) bool {
	done := make(chan struct{})
	go func() { cmd.Wait(); close(done) }()
	select {
	case <-done:
		return true
	case <-time.After(within):
		return false
	}
}

func TestStateAfterKill(t *testing.T) {
	c, left := abandoned(t, ContainerOptions{}, bootID())
	go left.Wait() // a zombie is still there for who waits
	st, err := c.State()
	if err != nil || st.Status != StatusExited || st.ExitCode != 137 || st.PID != 0 || st.Finished.IsZero() {
		t.Errorf("State() = %+v, %v, want exited with 137", st, err)
	}
	again, err := c.State()
	if err != nil || !again.Finished.Equal(st.Finished) {
		t.Errorf("State() again = %+v, %v", again, err)
	}
}

func TestStateAfterReboot(t *testing.T) {
	c, left := abandoned(t, ContainerOptions{}, "another boot")
	st, err := c.State()
	if err != nil || st.Status != StatusExited || st.ExitCode != 255 {
		t.Errorf("State() = %+v, %v, want exited with 255", st, err)
	}
	if ends(left, 50*time.Millisecond) {
		t.Error("a process of this boot was killed")
	}
}

func TestStateAutoRemove(t *testing.T) {
	c, left := abandoned(t, ContainerOptions{Name: "web", AutoRemove: true}, bootID())
	go left.Wait()
	list, err := c.cs.List()
	if err != nil || len(list) != 0 {
		t.Errorf("List() = %v, %v, want none", list, err)
	}
	if _, err := c.State(); !errors.Is(err, ErrNoContainer) {
		t.Errorf("State() = %v, want ErrNoContainer", err)
	}
}

// TestStateBelieved leaves alone what a living monitor says, and what its end left
// is cleared away.
func TestStateBelieved(t *testing.T) {
	cs, img := keptStore(t)
	c := create(t, cs, img, ContainerOptions{Name: "web"})
	monitor := attend(t, c)
	if st, err := c.State(); err != nil || st.Status != StatusRunning {
		t.Errorf("State() = %+v, %v, want running", st, err)
	}
	if err := c.Remove(t.Context(), RemoveOptions{}); !errors.Is(err, ErrRunning) {
		t.Errorf("Remove = %v, want ErrRunning", err)
	}
	go monitor.Wait()
	if err := c.Remove(t.Context(), RemoveOptions{Force: true}); err != nil {
		t.Errorf("Remove by force = %v", err)
	}
	if _, err := cs.Find("web"); !errors.Is(err, ErrNoContainer) {
		t.Errorf("Find = %v, want ErrNoContainer", err)
	}
}

// TestStateFrozen clears away a container that was paused when its monitor was
// killed.
func TestStateFrozen(t *testing.T) {
	dir, file, frozen := testFreezer(t)
	c, left := abandoned(t, ContainerOptions{Name: "web"}, bootID())
	go left.Wait()
	st, err := c.readState()
	if err != nil {
		t.Fatal(err)
	}
	st.Status, st.Cgroups = StatusPaused, []string{dir}
	if err := c.writeState(st); err != nil {
		t.Fatal(err)
	}
	for name, value := range map[string]string{"cgroup.procs": strconv.Itoa(left.Process.Pid), file: frozen} {
		if err := writeControl(dir, name, value); err != nil {
			t.Fatal(err)
		}
	}
	begun := time.Now()
	if st, err = c.State(); err != nil || st.Status != StatusExited {
		t.Errorf("State() = %+v, %v, want exited", st, err)
	}
	if took := time.Since(begun); took > clearTime/2 {
		t.Errorf("it took %v", took)
	}
	if _, err := os.Lstat(dir); err == nil {
		t.Error("the cgroup is still there")
	}
}

// testFreezer makes a cgroup that can be frozen, and says by writing what to which
// file.
func testFreezer(t *testing.T) (dir, file, frozen string) {
	t.Helper()
	for _, place := range []struct{ dir, file, frozen string }{
		{"/sys/fs/cgroup/freezer", "freezer.state", "FROZEN"}, {"/sys/fs/cgroup", "cgroup.freeze", "1"},
	} {
		dir := filepath.Join(place.dir, "cooper-frozen-"+newContainerID()[:12])
		if os.Mkdir(dir, 0o755) != nil {
			continue
		}
		t.Cleanup(func() { removeCgroup(dir) })
		if _, err := os.Lstat(filepath.Join(dir, place.file)); err == nil {
			return dir, place.file, place.frozen
		}
	}
	t.Skip("no cgroup that can be written and frozen")
	return "", "", ""
}

// TestRemoveCutShort removes the cgroups of a container whose monitor was killed
// before it had written down which they are.
func TestRemoveCutShort(t *testing.T) {
	cs, img := keptStore(t)
	c := create(t, cs, img, ContainerOptions{Name: "web"})
	frozen, _, _ := testFreezer(t)
	dir := filepath.Join(filepath.Dir(frozen), "cooper-"+c.ID())
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { removeCgroup(dir) })
	if err := os.MkdirAll(c.RunDir(), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(c.RunDir(), life.SocketFile), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := c.Remove(t.Context(), RemoveOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(dir); err == nil {
		t.Error("the cgroup is still there")
	}
}

// TestStateDead lists a container that can't be cleared away with the others.
func TestStateDead(t *testing.T) {
	c, left := abandoned(t, ContainerOptions{Name: "web"}, bootID())
	go left.Wait()
	st, err := c.readState()
	if err != nil {
		t.Fatal(err)
	}
	stuck := t.TempDir() // no cgroup, so it can't be removed as one
	if err := os.WriteFile(stuck+"/file", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	st.Cgroups = []string{stuck}
	if err := c.writeState(st); err != nil {
		t.Fatal(err)
	}
	list, states, err := c.cs.ListStates()
	if err != nil || len(list) != 1 || states[0].Status != StatusDead || states[0].Error == "" {
		t.Errorf("ListStates() = %v, %+v, %v, want one dead", list, states, err)
	}
	if err := c.Remove(t.Context(), RemoveOptions{Force: true}); err == nil {
		t.Error("Remove of what can't be cleared away succeeded")
	}
}
