package run

import (
	"os/exec"
	"syscall"
	"testing"
	"time"
)

// TestMonitorEndsLikeItsContainer: whoever watches the monitor, as systemd does,
// learns how the container ended, and can stop it by a signal.
func TestMonitorEndsLikeItsContainer(t *testing.T) {
	runtimeFor(t) // skips where there are no containers
	cs, _ := keptStore(t)
	long := time.Hour
	ended := make(chan int)
	defer func(f func(*exec.Cmd)) { reap = f }(reap)
	reap = func(monitor *exec.Cmd) {
		monitor.Wait()
		ended <- monitor.ProcessState.ExitCode()
	}
	for _, c := range []struct {
		name, script string
		signal       syscall.Signal
		want         int
	}{
		{name: "by-itself", script: "sleep 0.2; exit 3", want: 3},
		{name: "asked", script: "trap 'exit 42' TERM; sleep 100 & wait", signal: syscall.SIGTERM, want: 42},
	} {
		t.Run(c.name, func(t *testing.T) {
			ctr, err := cs.Create(t.Context(), ContainerOptions{
				Name: c.name, Rootfs: image(t), Config: sh(c.script), NetworkMode: "host", StopTimeout: &long,
			})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if err := ctr.Remove(t.Context(), RemoveOptions{Force: true}); err != nil {
					t.Error(err)
				}
			})
			if err := ctr.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
			st, err := ctr.State()
			if err != nil {
				t.Fatal(err)
			}
			if c.signal != 0 {
				time.Sleep(200 * time.Millisecond) // until the trap is set
				if err := syscall.Kill(st.MonitorPID, c.signal); err != nil {
					t.Fatal(err)
				}
			}
			if got := <-ended; got != c.want {
				t.Errorf("the monitor ended with status %d, want %d", got, c.want)
			}
			if st, err = ctr.State(); err != nil || st.ExitCode != c.want {
				t.Errorf("State().ExitCode = %d, %v, want %d", st.ExitCode, err, c.want)
			}
		})
	}
}
