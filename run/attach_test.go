package run

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestAttachTerminal works in a container's terminal, leaves it, and comes back.
func TestAttachTerminal(t *testing.T) {
	cs, img := liveStore(t)
	c := live(t, cs, img, "while read line; do echo got $line; stty size; [ $line != end ] || exit 6; done",
		ContainerOptions{OpenStdin: true, Config: Config{Terminal: true}})
	keys, err := ParseDetachKeys(DefaultDetachKeys)
	if err != nil {
		t.Fatal(err)
	}
	tt := newTerminal(t, 80, 24)
	before, err := unix.IoctlGetTermios(int(tt.slave.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	s := Streams{Stdin: tt.slave, Stdout: tt.slave, DetachKeys: keys}
	type end struct {
		st  Status
		err error
	}
	ended := make(chan end, 1)
	go func() {
		st, err := c.Run(t.Context(), s)
		ended <- end{st, err}
	}()
	fmt.Fprint(tt.master, "one\r")
	tt.wait(t, "got one\r\n24 80")
	ResizeTerminal(tt.slave, 100, 30)
	unix.Kill(os.Getpid(), unix.SIGWINCH) // it is not our controlling terminal
	time.Sleep(100 * time.Millisecond)
	fmt.Fprint(tt.master, "two\r")
	tt.wait(t, "got two\r\n30 100")
	fmt.Fprint(tt.master, "\x10\x11")
	if e := <-ended; !errors.Is(e.err, ErrDetached) {
		t.Fatalf("after the keys: %+v", e)
	}
	after, err := unix.IoctlGetTermios(int(tt.slave.Fd()), unix.TCGETS)
	if err != nil || *after != *before {
		t.Errorf("our terminal has another mode: %+v, %v", after, err)
	}
	if st := stateOf(t, c); st.Status != StatusRunning {
		t.Fatalf("after detaching: %+v", st)
	}
	go func() {
		st, err := c.Attach(t.Context(), s)
		ended <- end{st, err}
	}()
	fmt.Fprint(tt.master, "end\r")
	tt.wait(t, "got end")
	if e := <-ended; e.err != nil || e.st.ExitCode != 6 {
		t.Errorf("at the end: %+v", e)
	}
	if log := logText(t, c); !strings.Contains(log, "got one") || !strings.Contains(log, "got end") {
		t.Errorf("log: %q", log)
	}
}

// TestTerminalWithoutInput: a container that nobody can type at has a terminal as
// large as ours all the same.
func TestTerminalWithoutInput(t *testing.T) {
	cs, img := liveStore(t)
	c := live(t, cs, img, "stty size; while ! test -e /tmp/go; do sleep 0.01; done; stty size", ContainerOptions{Config: Config{Terminal: true}})
	tt := newTerminal(t, 80, 24)
	ended := make(chan error, 1)
	go func() {
		_, err := c.Run(t.Context(), Streams{Stdout: tt.slave})
		ended <- err
	}()
	tt.wait(t, "24 80")
	ResizeTerminal(tt.slave, 100, 30)
	unix.Kill(os.Getpid(), unix.SIGWINCH) // it is not our controlling terminal
	time.Sleep(100 * time.Millisecond)
	if _, _, err := execOutput(t, c, ExecOptions{Args: []string{"touch", "/tmp/go"}}); err != nil {
		t.Fatal(err)
	}
	tt.wait(t, "30 100")
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// TestExecTerminal: a further process has a terminal of its own.
func TestExecTerminal(t *testing.T) {
	cs, img := liveStore(t)
	c := live(t, cs, img, "sleep 1000", ContainerOptions{})
	start(t, c)
	tt := newTerminal(t, 80, 24)
	ended := make(chan Status, 1)
	go func() {
		st, err := c.Exec(t.Context(), ExecOptions{Args: []string{"sh"}, Terminal: true}, Streams{Stdin: tt.slave, Stdout: tt.slave})
		if err != nil {
			t.Error(err)
		}
		ended <- st
	}()
	fmt.Fprint(tt.master, "stty size; tty\r")
	tt.wait(t, "24 80\r\n/dev/pts/")
	ResizeTerminal(tt.slave, 100, 30)
	unix.Kill(os.Getpid(), unix.SIGWINCH) // it is not our controlling terminal
	time.Sleep(100 * time.Millisecond)
	fmt.Fprint(tt.master, "stty size; sleep 100\r")
	tt.wait(t, "30 100")
	time.Sleep(100 * time.Millisecond)
	fmt.Fprint(tt.master, "\x03")
	fmt.Fprint(tt.master, "echo interrupted $?; exit 5\r")
	tt.wait(t, "interrupted 130")
	if st := <-ended; st.ExitCode != 5 {
		t.Errorf("exec ended with %+v", st)
	}
}

// TestAttachMany: everybody attached sees the output, and one who doesn't read
// keeps nobody from leaving.
func TestAttachMany(t *testing.T) {
	cs, img := liveStore(t)
	c := live(t, cs, img, "while ! test -e /tmp/go; do sleep 0.01; done; seq 1 1000; exit 2", ContainerOptions{})
	start(t, c)
	type end struct {
		st  Status
		err error
	}
	ended := make(chan end)
	dir := t.TempDir()
	for i := range 3 {
		f, err := os.Create(filepath.Join(dir, fmt.Sprint(i)))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		go func() {
			st, err := c.Attach(t.Context(), Streams{Stdout: f})
			ended <- end{st, err}
		}()
	}
	ctx, leave := context.WithCancel(t.Context())
	go func() {
		st, err := c.Attach(ctx, Streams{})
		ended <- end{st, err}
	}()
	time.Sleep(100 * time.Millisecond)
	leave()
	if e := <-ended; !errors.Is(e.err, context.Canceled) {
		t.Errorf("who left: %+v", e)
	}
	if _, _, err := execOutput(t, c, ExecOptions{Args: []string{"touch", "/tmp/go"}}); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if e := <-ended; e.err != nil || e.st.ExitCode != 2 {
			t.Errorf("who stayed: %+v", e)
		}
	}
	for i := range 3 {
		b, err := os.ReadFile(filepath.Join(dir, fmt.Sprint(i)))
		if err != nil || strings.Count(string(b), "\n") != 1000 {
			t.Errorf("%d saw %d lines, %v", i, strings.Count(string(b), "\n"), err)
		}
	}
	if _, err := c.Attach(t.Context(), Streams{}); !errors.Is(err, ErrNotRunning) {
		t.Errorf("attach to a container that has ended = %v", err)
	}
}

func TestKeyFilter(t *testing.T) {
	for _, tt := range []struct {
		keys   string
		typed  []string
		want   string
		detach bool
	}{
		{"ctrl-p,ctrl-q", []string{"abc"}, "abc", false},
		{"ctrl-p,ctrl-q", []string{"a\x10\x11b"}, "a", true},
		{"ctrl-p,ctrl-q", []string{"a\x10", "\x11"}, "a", true},
		{"ctrl-p,ctrl-q", []string{"a\x10", "b"}, "a\x10b", false},
		{"ctrl-p,ctrl-q", []string{"\x10\x10\x11"}, "\x10", true},
		{"a,a,b", []string{"aaab"}, "a", true},
		{"a,b,a,c", []string{"ababac"}, "ab", true},
		{"a,b,a,c", []string{"aba", "x"}, "abax", false},
		{"", []string{"\x10\x11"}, "\x10\x11", false},
	} {
		keys, err := ParseDetachKeys(tt.keys)
		if err != nil {
			t.Fatal(err)
		}
		f, err := os.Create(filepath.Join(t.TempDir(), "out"))
		if err != nil {
			t.Fatal(err)
		}
		k := &keyFilter{to: f, keys: keys}
		for _, s := range tt.typed {
			k.Write([]byte(s))
		}
		f.Close()
		if got, _ := os.ReadFile(f.Name()); string(got) != tt.want || k.complete != tt.detach {
			t.Errorf("%s: %q passes %q, %v, want %q, %v", tt.keys, tt.typed, got, k.complete, tt.want, tt.detach)
		}
	}
	for _, bad := range []string{"ctrl-", "ctrl-1", "ab", ",", "ctrl-pq"} {
		if _, err := ParseDetachKeys(bad); err == nil {
			t.Errorf("ParseDetachKeys(%q) succeeded", bad)
		}
	}
}
