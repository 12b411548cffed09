package run

import (
	"context"
	"slices"
	"testing"
	"time"
)

// BenchmarkRunTrue is one container from Run to its return, the runner running.
// Other work on the machine moves the mean; the minimum is what the code costs.
func BenchmarkRunTrue(b *testing.B) {
	r := runtimeFor(b)
	root := overlay(b, image(b))
	c := Config{Args: []string{"/bin/true"}, BareEnv: true}
	run := func() {
		st, err := r.Run(context.Background(), Task{Rootfs: root, Config: &c})
		if err != nil || st.ExitCode != 0 {
			b.Fatal(st, err)
		}
	}
	run()
	var took []time.Duration
	for b.Loop() {
		t0 := time.Now()
		run()
		took = append(took, time.Since(t0))
	}
	report(b, took)
}

// BenchmarkFirstRun is a process's first container, with the start of the runner.
func BenchmarkFirstRun(b *testing.B) {
	root := overlay(b, image(b))
	c := Config{Args: []string{"/bin/true"}, BareEnv: true}
	var took []time.Duration
	for b.Loop() {
		t0 := time.Now()
		r := NewRuntime(RuntimeOptions{StateDir: tempDir(b)})
		st, err := r.Run(context.Background(), Task{Rootfs: root, Config: &c})
		took = append(took, time.Since(t0))
		if err != nil || st.ExitCode != 0 {
			b.Fatal(st, err)
		}
		r.Close()
	}
	report(b, took)
}

func report(b *testing.B, took []time.Duration) {
	slices.Sort(took)
	b.ReportMetric(float64(took[0])/1e6, "min-ms")
	b.ReportMetric(float64(took[len(took)/2])/1e6, "median-ms")
}
