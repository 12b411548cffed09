package run

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestCheckControllers(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "cgroup.controllers"), []byte("cpu memory\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		config Config
		lacks  string
	}{
		{Config{}, ""},
		{Config{Memory: 64 << 20, CPUs: 0.5}, ""},
		{Config{PidsLimit: 10}, "pids"},
		{Config{CPUSetCPUs: "0"}, "cpuset"},
		{Config{CPUShares: 100, CPUSetCPUs: "0"}, "cpuset"},
	} {
		err := c.config.checkControllers(dir)
		if c.lacks == "" && err != nil || c.lacks != "" && (err == nil || !strings.Contains(err.Error(), `"`+c.lacks+`"`)) {
			t.Errorf("%+v: %v, want %q missing", c.config, err, c.lacks)
		}
	}
	if err := (&Config{PidsLimit: 10}).checkControllers(dir + "/none"); err != nil {
		t.Errorf("nothing known: %v", err)
	}
}
