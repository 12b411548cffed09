package run

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

// terminal is a terminal of our own, as a user's shell would have it.
type terminal struct {
	master, slave *os.File

	mu   sync.Mutex
	text string
}

func newTerminal(t *testing.T, width, height uint16) *terminal {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skip("no terminals here:", err)
	}
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	slave, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skip("no terminals here:", err)
	}
	tt := &terminal{master: master, slave: slave}
	ResizeTerminal(slave, width, height)
	go func() {
		buf := make([]byte, 4096)
		for {
			n, err := master.Read(buf)
			tt.mu.Lock()
			tt.text += string(buf[:n])
			tt.mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	t.Cleanup(func() {
		slave.Close()
		master.Close()
	})
	return tt
}

// wait waits for the screen to hold s.
func (tt *terminal) wait(t *testing.T, s string) {
	t.Helper()
	for range 200 {
		if strings.Contains(tt.screen(), s) {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Errorf("the screen never shows %q: %q", s, tt.screen())
}

func (tt *terminal) screen() string {
	tt.mu.Lock()
	defer tt.mu.Unlock()
	return tt.text
}

// TestTerminal: a shell at a terminal, as run -it gives one.
func TestTerminal(t *testing.T) {
	r, img := runtimeFor(t), image(t)
	tt := newTerminal(t, 91, 33)
	before, err := term.GetState(int(tt.slave.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	c := Config{Terminal: true, Args: []string{"/bin/sh"}}
	done := make(chan error, 1)
	var st Status
	go func() {
		var err error
		st, err = r.Run(context.Background(), Task{Rootfs: overlay(t, img), Config: &c, Stdin: tt.slave, Stdout: tt.slave})
		done <- err
	}()
	tt.wait(t, "# ")
	fmt.Fprint(tt.master, "tty; stty size; echo TERM is $TERM\r")
	tt.wait(t, "/dev/pts/0\r\n33 91\r\nTERM is xterm\r\n")
	ResizeTerminal(tt.slave, 120, 50)
	unix.Kill(os.Getpid(), syscall.SIGWINCH)
	time.Sleep(100 * time.Millisecond)
	fmt.Fprint(tt.master, "stty size\r")
	tt.wait(t, "50 120\r\n")
	fmt.Fprint(tt.master, "sh -c 'echo sleep''ing; exec sleep 100'\r")
	tt.wait(t, "sleeping\r\n")
	fmt.Fprint(tt.master, "\x03echo inter'rupted'\r")
	tt.wait(t, "interrupted\r\n")
	fmt.Fprint(tt.master, "exit 5\r")
	select {
	case err := <-done:
		if err != nil || st.ExitCode != 5 {
			t.Errorf("Run = %+v, %v, want exit code 5", st, err)
		}
	case <-time.After(10 * time.Second):
		t.Fatalf("Run does not return; screen: %q", tt.screen())
	}
	if after, err := term.GetState(int(tt.slave.Fd())); err != nil || *after != *before {
		t.Errorf("terminal mode is %+v, %v, was %+v", after, err, before)
	}
}

// TestTerminalStaysOurs: a terminal given to a container without one is not its
// terminal, and reading from it ends with the container.
func TestTerminalStaysOurs(t *testing.T) {
	r, img := runtimeFor(t), image(t)
	tt := newTerminal(t, 80, 24)
	c := sh("test -t 0 || echo no terminal; read x; echo got $x")
	fmt.Fprint(tt.master, "line\n")
	st, err := r.Run(context.Background(), Task{Rootfs: overlay(t, img), Config: &c, Stdin: tt.slave, Stdout: tt.slave, Stderr: tt.slave})
	if err != nil || !st.Success() {
		t.Errorf("Run = %+v, %v", st, err)
	}
	tt.wait(t, "no terminal\r\n")
	tt.wait(t, "got line\r\n")
}

// TestConsoleReady: the caller may take the terminal over, as a monitor does.
func TestConsoleReady(t *testing.T) {
	r, img := runtimeFor(t), image(t)
	c := Config{Terminal: true, Args: []string{"/bin/sh", "-c", "stty size; exit 4"}}
	text := make(chan string, 1)
	st, err := r.Run(context.Background(), Task{Rootfs: overlay(t, img), Config: &c, Console: &Console{
		Width: 77, Height: 11,
		Ready: func(master *os.File) {
			go func() {
				defer master.Close()
				var b strings.Builder
				buf := make([]byte, 100)
				for {
					n, err := master.Read(buf)
					b.Write(buf[:n])
					if err != nil {
						text <- b.String()
						return
					}
				}
			}()
		},
	}})
	if err != nil || st.ExitCode != 4 {
		t.Errorf("Run = %+v, %v, want exit code 4", st, err)
	}
	if got := <-text; got != "11 77\r\n" {
		t.Errorf("terminal shows %q", got)
	}
}
