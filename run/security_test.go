package run

import (
	"errors"
	"fmt"
	"testing"

	"cooper/run/internal/spawn"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// TestNoWayOut: what an attacker in a container would look for.
func TestNoWayOut(t *testing.T) {
	r, img := runtimeFor(t), image(t)
	for _, tt := range []struct {
		name string
		conf Config
		want string
	}{
		{"working directory through a descriptor of the host (CVE-2024-21626)",
			Config{Dir: "/proc/self/fd/7", Args: []string{"true"}}, "start error 127"},
		{"working directory is the last stage's program", Config{Dir: "/proc/self/fd/3", Args: []string{"true"}}, "start error 127"},
		{"program is the last stage's program", Config{Args: []string{"/proc/self/fd/3"}}, "start error 127"},
		{"program is the report pipe", Config{Args: []string{"/proc/self/fd/5"}}, "start error 126"},
		{"the first process's executable is the image's", sh("readlink /proc/$$/exe; true"), "/bin/busybox\n"},
		{"keyring is refused", Config{Args: []string{"grep", "-c", "x", "/proc/keys"}}, "0\n"},
		{"devices of the host", sh("mknod /tmp/m b 8 0 2>/dev/null && cat /tmp/m; ls /dev/mem 2>/dev/null; true"), ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, _, err := output(t, r, overlay(t, img), tt.conf)
			var e *StartError
			if errors.As(err, &e) {
				got = fmt.Sprintf("start error %d", e.Code)
			} else if err != nil {
				t.Fatal(err)
			}
			if tt.name == "devices of the host" && got == "cat: can't open '/tmp/m': Operation not permitted\n" {
				got = ""
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// TestProgramIsSealed: nobody can change what runs in containers' first processes.
func TestProgramIsSealed(t *testing.T) {
	f, err := spawn.Program()
	if err != nil {
		t.Fatal(err)
	}
	seals, err := unix.FcntlInt(f.Fd(), unix.F_GET_SEALS, 0)
	want := unix.F_SEAL_SEAL | unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_WRITE
	if err != nil || seals&want != want {
		t.Errorf("seals are %#x, %v, want %#x", seals, err, want)
	}
	if _, err := f.WriteAt([]byte("x"), 0); err == nil {
		t.Error("the program can be written")
	}
}
