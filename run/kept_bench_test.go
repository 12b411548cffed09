package run

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// BenchmarkListStates lists 50 containers that run, as ps does.
func BenchmarkListStates(b *testing.B) {
	cs, img := keptStore(b)
	for range 50 {
		c := create(b, cs, img, ContainerOptions{Rootfs: "/nowhere"})
		lock, err := c.lock()
		if err != nil {
			b.Fatal(err)
		}
		defer lock.Close()
		if err := c.writeState(State{Status: StatusRunning, MonitorPID: os.Getpid(), BootID: bootID()}); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportAllocs()
	for b.Loop() {
		if list, _, err := cs.ListStates(); err != nil || len(list) != 50 {
			b.Fatal(len(list), err)
		}
	}
}

// BenchmarkLogs reads a log of 10 MB in either format.
func BenchmarkLogs(b *testing.B) {
	text := strings.Repeat("x", 100)
	for driver, record := range map[string]string{
		"k8s-file":  "2026-01-02T03:04:05.678901234Z stdout F " + text + "\n",
		"json-file": `{"log":"` + text + `\n","stream":"stdout","time":"2026-01-02T03:04:05.678901234Z"}` + "\n",
	} {
		b.Run(driver, func(b *testing.B) {
			cs, img := keptStore(b)
			c := create(b, cs, img, ContainerOptions{Log: LogConfig{Driver: driver}})
			lines := 10_000_000 / len(record)
			if err := os.WriteFile(logFile(c, 0), []byte(strings.Repeat(record, lines)), 0o600); err != nil {
				b.Fatal(err)
			}
			b.SetBytes(int64(lines * len(record)))
			b.ReportAllocs()
			for b.Loop() {
				n := 0
				err := c.Logs(b.Context(), LogOptions{Tail: -1}, func(LogLine) error { n++; return nil })
				if err != nil || n != lines {
					b.Fatal(fmt.Sprint(n, " lines: ", err))
				}
			}
		})
	}
}
