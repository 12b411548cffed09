package spawn

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"
)

// memory makes a file in memory, sealed or not.
func memory(t *testing.T, content string, sealIt bool) *os.File {
	t.Helper()
	fd, err := unix.MemfdCreate("test", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fd), "test")
	t.Cleanup(func() { f.Close() })
	if _, err := f.WriteString(content); err != nil {
		t.Fatal(err)
	}
	if err := f.Chmod(0o511); err != nil {
		t.Fatal(err)
	}
	if sealIt {
		if err := seal(f); err != nil {
			t.Fatal(err)
		}
	}
	return f
}

// TestFindProgram: whatever the programs file names, only a file that nobody can
// change and that holds the program is used.
func TestFindProgram(t *testing.T) {
	const program = "the program"
	entry := func(f *os.File) string { return strconv.Itoa(os.Getpid()) + "/fd/" + strconv.Itoa(int(f.Fd())) }
	good, other, open := memory(t, program, true), memory(t, "the Program", true), memory(t, program, false)
	fifo := filepath.Join(t.TempDir(), "fifo")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	plain := filepath.Join(t.TempDir(), "plain")
	if err := os.WriteFile(plain, []byte(program), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		text string
		want bool
	}{
		"none":          {"", false},
		"good":          {entry(good), true},
		"behind others": {"999999999/exe\n" + entry(other) + "\n" + entry(open) + "\n" + entry(good) + "\n", true},
		"other program": {entry(other), false},
		"not sealed":    {entry(open), false},
		"a plain file":  {"1/../.." + plain, false},
		"a fifo":        {"1/root" + fifo, false},
		"not a path":    {"/etc/passwd\n..\n\x00", false},
	} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, programsFile), []byte(tt.text), 0o600); err != nil {
			t.Fatal(err)
		}
		f := find(dir, []byte(program))
		if (f != nil) != tt.want {
			t.Errorf("%s: found %v, want %v", name, f != nil, tt.want)
		}
		if f != nil {
			b := make([]byte, len(program))
			if _, err := f.ReadAt(b, 0); err != nil || !bytes.Equal(b, []byte(program)) {
				t.Errorf("%s: it holds %q, %v", name, b, err)
			}
			f.Close()
		}
	}
}
