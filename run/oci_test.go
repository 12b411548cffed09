package run

import (
	"testing"
)

// testedRuntime makes the containers of tests.
var testedRuntime OCIRuntime

// TestOtherRuntimes runs those tests once more whose containers another runtime can
// make.
func TestOtherRuntimes(t *testing.T) {
	for _, name := range []string{"runc", "crun"} {
		t.Run(name, func(t *testing.T) {
			r := OCIRuntime{Name: name}
			if _, err := r.Path(); err != nil {
				t.Skip(err)
			}
			testedRuntime = r
			defer func() { testedRuntime = OCIRuntime{} }()
			for _, tt := range []struct {
				name string
				test func(*testing.T)
			}{
				{"Output", TestOutput},
				{"MountPointsLeaveNoTrace", TestMountPointsLeaveNoTrace},
				{"Cancel", TestCancel},
				{"Signals", TestSignals},
				{"Stdio", TestStdio},
				{"OOM", TestOOM},
				{"PidsLimit", TestPidsLimit},
				{"Files", TestFiles},
				{"Terminal", TestTerminal},
				{"Life", TestLife},
				{"FailedStart", TestFailedStart},
				{"Exec", TestExec},
				{"RestartPolicy", TestRestartPolicy},
				{"RestartByHand", TestRestartByHand},
				{"Pause", TestPause},
				{"Health", TestHealth},
				{"HealthTimeout", TestHealthTimeout},
				{"Wait", TestWait},
				{"RunAttached", TestRunAttached},
				{"ForegroundEndsWithUs", TestForegroundEndsWithUs},
				{"MonitorSignalled", TestMonitorSignalled},
				{"AttachTerminal", TestAttachTerminal},
				{"TerminalWithoutInput", TestTerminalWithoutInput},
				{"ExecTerminal", TestExecTerminal},
				{"KillMonitor", TestKillMonitor},
				{"Many", TestMany},
			} {
				t.Run(tt.name, tt.test)
			}
		})
	}
}
