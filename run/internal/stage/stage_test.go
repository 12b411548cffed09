package stage

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"cooper/run/internal/wire"
)

// The stage as it runs in a container is tested by package run. Here it is executed
// as an ordinary child, which this test binary becomes through the constructor.
func runStage(t *testing.T, instructions []byte) (output string, failure *Failure) {
	t.Helper()
	fd, err := unix.MemfdCreate("instructions", unix.MFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fd), "instructions")
	defer f.Close()
	if _, err := f.Write(instructions); err != nil {
		t.Fatal(err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = []string{Env + "=3"}
	cmd.ExtraFiles = []*os.File{f, w}
	var out strings.Builder
	cmd.Stdout = &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	w.Close()
	failure, err = ReadFailure(r)
	if err != nil {
		t.Fatal(err)
	}
	cmd.Wait()
	return out.String(), failure
}

func instructions(t *testing.T, s wire.Stage) []byte {
	t.Helper()
	s.UID, s.GID = uint32(os.Getuid()), uint32(os.Getgid())
	s.Caps.Bounding = ^uint64(0)
	b, err := Encode(&s, [3]int32{-1, -1, -1}, 5)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestStage(t *testing.T) {
	env := []string{"A=1", "PATH=/nonexistent:relative::/bin"}
	got, failure := runStage(t, instructions(t, wire.Stage{
		Args: []string{"busybox", "sh", "-c", "echo $A $0 $1; pwd", "zero", "two words"}, Env: env, Dir: "/proc",
	}))
	if want := "1 zero two words\n/proc\n"; failure != nil || got != want {
		t.Errorf("output %q, %v, want %q", got, failure, want)
	}
	for _, tt := range []struct {
		args []string
		want Failure
	}{
		{[]string{"no-such-program"}, Failure{127, `exec: "no-such-program": executable file not found in $PATH`}},
		{[]string{"/etc/passwd"}, Failure{126, `exec: "/etc/passwd": permission denied`}},
	} {
		_, failure := runStage(t, instructions(t, wire.Stage{Args: tt.args, Env: env}))
		if failure == nil || *failure != tt.want {
			t.Errorf("%q: %v, want %v", tt.args, failure, &tt.want)
		}
	}
}

// TestBrokenInstructions: every truncation is reported, none is executed.
func TestBrokenInstructions(t *testing.T) {
	whole := instructions(t, wire.Stage{Args: []string{"/bin/true"}, Env: []string{"A=1"}, Groups: []uint32{1, 2}})
	for n := 0; n < len(whole); n += 7 {
		if _, failure := runStage(t, whole[:n]); failure == nil || failure.Code != 125 {
			t.Errorf("%d of %d bytes: %v, want a failure", n, len(whole), failure)
		}
	}
	if _, err := Encode(&wire.Stage{}, [3]int32{}, 3); err == nil {
		t.Error("Encode without a program = nil, want an error")
	}
	if _, err := Encode(&wire.Stage{Args: []string{"a\x00b"}}, [3]int32{}, 3); err == nil {
		t.Error("Encode of a zero byte = nil, want an error")
	}
}
