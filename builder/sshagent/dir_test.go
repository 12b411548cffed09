package sshagent

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestTempDirIsShort(t *testing.T) {
	long := filepath.Join(t.TempDir(), strings.Repeat("x", 120))
	if err := os.Mkdir(long, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("TMPDIR", long)
	dir, err := TempDir()
	if err != nil {
		t.Fatal(err)
	}
	defer os.Remove(dir)
	if len(dir) > maxDir {
		t.Errorf("TempDir() = %s, %d bytes", dir, len(dir))
	}
	if left, _ := os.ReadDir(long); len(left) > 0 {
		t.Errorf("left in TMPDIR: %v", left)
	}
}
