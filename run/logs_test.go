package run

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"cooper/run/internal/life"
)

// logged is a container with these log files, "log" first; the monitor, if any, is
// another process.
func logged(t *testing.T, driver string, files ...string) *Container {
	t.Helper()
	cs, img := keptStore(t)
	c := create(t, cs, img, ContainerOptions{Log: LogConfig{Driver: driver}})
	for i, text := range files {
		writeLog(t, c, i, text)
	}
	return c
}

func logFile(c *Container, i int) string {
	if i == 0 {
		return filepath.Join(c.dir, "log")
	}
	return fmt.Sprintf("%s/log.%d", c.dir, i)
}

func writeLog(t *testing.T, c *Container, i int, text string) {
	t.Helper()
	f, err := os.OpenFile(logFile(c, i), os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString(text); err != nil {
		t.Fatal(err)
	}
}

// k8s makes records of lines; one that begins with "!" is standard error's and one
// that ends with "+" goes on.
func k8s(lines ...string) string {
	var b strings.Builder
	for i, l := range lines {
		stream, tag := "stdout", "F"
		if s, ok := strings.CutPrefix(l, "!"); ok {
			l, stream = s, "stderr"
		}
		if s, ok := strings.CutSuffix(l, "+"); ok {
			l, tag = s, "P"
		}
		fmt.Fprintf(&b, "2026-01-02T03:04:%02d.5Z %s %s %s\n", i, stream, tag, l)
	}
	return b.String()
}

// read returns what Logs gives, standard error marked.
func read(t *testing.T, c *Container, o LogOptions) string {
	t.Helper()
	var b strings.Builder
	err := c.Logs(t.Context(), o, func(l LogLine) error {
		if l.Stderr {
			b.WriteString("!")
		}
		b.Write(l.Text)
		return nil
	})
	if err != nil {
		t.Errorf("Logs: %v", err)
	}
	return b.String()
}

func TestLogs(t *testing.T) {
	c := logged(t, "", k8s("five", "!six", "se+", "ven", ""), k8s("three", "four"), k8s("one", "two"))
	at := func(s int) time.Time { return time.Date(2026, 1, 2, 3, 4, s, 0, time.UTC) }
	for _, tt := range []struct {
		name string
		o    LogOptions
		want string
	}{
		{"all", LogOptions{Tail: -1}, "one\ntwo\nthree\nfour\nfive\n!six\nseven\n\n"},
		{"none", LogOptions{Tail: 0}, ""},
		{"last", LogOptions{Tail: 1}, "\n"},
		{"last in two parts", LogOptions{Tail: 2}, "seven\n\n"},
		{"one file", LogOptions{Tail: 4}, "five\n!six\nseven\n\n"},
		{"two files", LogOptions{Tail: 5}, "four\nfive\n!six\nseven\n\n"},
		{"more than there are", LogOptions{Tail: 99}, "one\ntwo\nthree\nfour\nfive\n!six\nseven\n\n"},
		{"since", LogOptions{Tail: 4, Since: at(2)}, "seven\n\n"},
		{"until", LogOptions{Tail: 4, Until: at(1)}, "five\n"},
	} {
		if got := read(t, c, tt.o); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
}

func TestLogsJSON(t *testing.T) {
	c := logged(t, "json-file", `{"log":"a\u003cb\n","stream":"stdout","time":"2026-01-02T03:04:05.5Z"}
{"log":"long ","stream":"stderr","time":"2026-01-02T03:04:06.5Z"}
{"log":"line\n","stream":"stderr","time":"2026-01-02T03:04:07.5Z"}
`)
	if got, want := read(t, c, LogOptions{Tail: -1}), "a<b\n!long !line\n"; got != want {
		t.Errorf("Logs = %q, want %q", got, want)
	}
	if got, want := read(t, c, LogOptions{Tail: 1}), "!long !line\n"; got != want {
		t.Errorf("the last line = %q, want %q", got, want)
	}
}

// TestLogsLong reads lines that are longer than any buffer, from both ends.
func TestLogsLong(t *testing.T) {
	long := strings.Repeat("0123456789", 30_000)
	c := logged(t, "", k8s("first", long, "last"))
	if got := read(t, c, LogOptions{Tail: -1}); got != "first\n"+long+"\nlast\n" {
		t.Errorf("Logs = %d bytes, want %d", len(got), len(long)+12)
	}
	if got := read(t, c, LogOptions{Tail: 2}); got != long+"\nlast\n" {
		t.Errorf("the last two = %d bytes, want %d", len(got), len(long)+6)
	}
}

func TestLogsNone(t *testing.T) {
	for _, o := range []ContainerOptions{{Log: LogConfig{Driver: "none"}}, {Foreground: true}} {
		c := new(Container)
		c.present.Store(&o)
		if err := c.Logs(t.Context(), LogOptions{}, nil); !errors.Is(err, ErrNoLog) {
			t.Errorf("Logs with driver %q = %v, want ErrNoLog", o.Log.Driver, err)
		}
	}
}

// attend makes a process the container's monitor, until it ends.
func attend(t *testing.T, c *Container) *exec.Cmd {
	t.Helper()
	lock, err := c.lock()
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	cmd := exec.Command("/bin/sleep", "60")
	cmd.ExtraFiles = []*os.File{lock}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	st := State{Status: StatusRunning, MonitorPID: cmd.Process.Pid, BootID: bootID()}
	if err := c.writeState(st); err != nil {
		t.Fatal(err)
	}
	return cmd
}

// TestLogsFollow follows a log that is rotated after every few lines, down to a
// single file, while it is written.
func TestLogsFollow(t *testing.T) {
	const lines = 20_000
	for _, files := range []int{1, 3} {
		t.Run(fmt.Sprint(files), func(t *testing.T) {
			c := logged(t, "")
			monitor := attend(t, c)
			var want, got bytes.Buffer
			following := make(chan error, 1)
			begun := make(chan struct{})
			begin := sync.OnceFunc(func() { close(begun) })
			go func() {
				following <- c.Logs(t.Context(), LogOptions{Tail: -1, Follow: true, Pause: func() error {
					begin()
					return nil
				}}, func(l LogLine) error { got.Write(l.Text); return nil })
			}()
			<-begun
			dir, err := os.Open(c.dir)
			if err != nil {
				t.Fatal(err)
			}
			defer dir.Close()
			for i := range lines {
				if i%1000 == 0 { // as the monitor does: one more file for those who follow
					for life.Followed(dir, filepath.Base(logFile(c, files))) {
						time.Sleep(time.Millisecond)
					}
					rotateLog(t, c, files+1)
				}
				fmt.Fprintf(&want, "line %d\n", i)
				writeLog(t, c, 0, k8s(fmt.Sprintf("line %d", i)))
			}
			monitor.Process.Kill()
			monitor.Wait()
			if err := <-following; err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got.Bytes(), want.Bytes()) {
				t.Errorf("followed %d lines, want %d", bytes.Count(got.Bytes(), []byte("\n")), lines)
			}
		})
	}
}

// TestLogsFollowSlowly follows a log that is rotated often while nobody reads what
// is followed.
func TestLogsFollowSlowly(t *testing.T) {
	const rotations = 50
	c := logged(t, "", k8s("first"))
	monitor := attend(t, c)
	var got []string
	begun, goOn := make(chan struct{}), make(chan struct{})
	following := make(chan error, 1)
	go func() {
		following <- c.Logs(t.Context(), LogOptions{Tail: -1, Follow: true}, func(l LogLine) error {
			if len(got) == 0 {
				close(begun)
				<-goOn
			}
			got = append(got, string(l.Text))
			return nil
		})
	}()
	<-begun
	want := []string{"first\n"}
	dir, err := os.Open(c.dir)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	for i := range rotations {
		for life.Followed(dir, filepath.Base(logFile(c, 1))) {
			time.Sleep(time.Millisecond)
		}
		rotateLog(t, c, 2)
		writeLog(t, c, 0, k8s(fmt.Sprint(i)))
		want = append(want, fmt.Sprintln(i))
	}
	close(goOn)
	monitor.Process.Kill()
	monitor.Wait()
	if err := <-following; err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(got, want) {
		t.Errorf("followed %q, want %q", got, want)
	}
}

func rotateLog(t *testing.T, c *Container, files int) {
	t.Helper()
	for i := files - 1; i > 0; i-- {
		os.Rename(logFile(c, i-1), logFile(c, i))
	}
	os.Remove(logFile(c, 0))
	writeLog(t, c, 0, "")
}

// TestLogsFollowEnds has following end at once for a container that does not run,
// at Until, and with its context.
func TestLogsFollowEnds(t *testing.T) {
	c := logged(t, "", k8s("one"))
	if got := read(t, c, LogOptions{Tail: -1, Follow: true}); got != "one\n" {
		t.Errorf("following a container that does not run = %q", got)
	}
	attend(t, c)
	if got := read(t, c, LogOptions{Tail: -1, Follow: true, Until: time.Now().Add(50 * time.Millisecond)}); got != "one\n" {
		t.Errorf("following for 50 ms = %q", got)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cause := errors.New("enough")
	err := c.Logs(ctx, LogOptions{Tail: -1, Follow: true}, func(LogLine) error { cancel(cause); return nil })
	if !errors.Is(err, cause) {
		t.Errorf("following until cancelled = %v, want %v", err, cause)
	}
}

func FuzzLogLine(f *testing.F) {
	for _, line := range []string{
		k8s("text"), k8s("!part+"), "2026-01-02T03:04:05Z stdout F\n", "x stdout P\n", " stdout F \n",
		`{"log":"x\n","stream":"stdout","time":"2026-01-02T03:04:05Z"}` + "\n", `{"log":1}`, "{}\n", "\n",
	} {
		f.Add([]byte(line))
	}
	f.Fuzz(func(t *testing.T, record []byte) {
		record = append(bytes.ReplaceAll(record, []byte("\n"), nil), '\n')
		for _, driver := range []string{"k8s-file", "json-file"} {
			l, err := parseLogLine(slices.Clone(record), driver)
			if err != nil {
				continue
			}
			if l.Time(); driver == "k8s-file" && len(l.Text) >= len(record) {
				t.Errorf("%q has the text %q", record, l.Text)
			}
			if driver == "k8s-file" && l.Partial() == bytes.HasSuffix(l.Text, []byte("\n")) {
				t.Errorf("%q: Partial() = %v", record, l.Partial())
			}
		}
	})
}
