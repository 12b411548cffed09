package runner

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"cooper/run/internal/life"
)

// openTestLog opens a log in a directory of its own.
func openTestLog(t *testing.T, c life.LogConfig) (*log, string) {
	t.Helper()
	name := t.TempDir()
	dir, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dir.Close() })
	l, err := openLog(dir, c)
	if err != nil {
		t.Fatal(err)
	}
	return l, name
}

// withoutTimes is the k8s-file log with a letter for each time.
func withoutTimes(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		_, rest, _ := strings.Cut(line, " ")
		b.WriteString(rest)
	}
	return b.String()
}

func TestLogLines(t *testing.T) {
	l, dir := openTestLog(t, life.LogConfig{})
	l.write(streamOut, []byte("one\ntwo\npar"))
	l.write(streamErr, []byte("bad\n"))
	l.write(streamOut, []byte("t\n\nend"))
	l.close()
	l.write(streamOut, []byte("too late\n"))
	b, err := os.ReadFile(filepath.Join(dir, life.LogFile))
	const want = "stdout F one\nstdout F two\nstdout P par\nstderr F bad\nstdout F t\nstdout F \nstdout P end\n"
	if got := withoutTimes(string(b)); got != want || err != nil {
		t.Errorf("log = %q, %v, want %q", got, err, want)
	}
}

func TestLogRotation(t *testing.T) {
	for _, tt := range []struct {
		name  string
		c     life.LogConfig
		files []string // the oldest first
	}{
		{"never", life.LogConfig{}, []string{"log"}},
		{"one file", life.LogConfig{MaxSize: 100}, []string{"log"}},
		{"three files", life.LogConfig{MaxSize: 100, MaxFiles: 3}, []string{"log.2", "log.1", "log"}},
		{"less than a line", life.LogConfig{MaxSize: 1, MaxFiles: 2}, []string{"log.1", "log"}},
		{"json", life.LogConfig{MaxSize: 150, MaxFiles: 2, Driver: "json-file"}, []string{"log.1", "log"}},
	} {
		l, dir := openTestLog(t, tt.c)
		for range 5 {
			l.write(streamOut, []byte("a\nb\nc\n"))
		}
		l.close()
		found, _ := filepath.Glob(filepath.Join(dir, "*"))
		if len(found) != len(tt.files) {
			t.Errorf("%s: files %v", tt.name, found)
		}
		for _, name := range tt.files {
			b, err := os.ReadFile(filepath.Join(dir, name))
			if err != nil {
				t.Fatalf("%s: %v", tt.name, err)
			}
			if lines := strings.Count(string(b), "\n"); lines == 0 || tt.c.MaxSize > 0 && lines > 1 && int64(len(b)) > tt.c.MaxSize {
				t.Errorf("%s: %s has %d lines, %d bytes", tt.name, name, lines, len(b))
			}
		}
		last, _ := os.ReadFile(filepath.Join(dir, life.LogFile))
		if !strings.Contains(string(last), "c") {
			t.Errorf("%s: the last line is not in the last file: %q", tt.name, last)
		}
	}
}

// TestLogGoesOn: a container that is started again has one log.
func TestLogGoesOn(t *testing.T) {
	l, dir := openTestLog(t, life.LogConfig{MaxSize: 60, MaxFiles: 2})
	l.write(streamOut, []byte("first\n"))
	l.close()
	at, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer at.Close()
	again, err := openLog(at, life.LogConfig{MaxSize: 60, MaxFiles: 2})
	if err != nil {
		t.Fatal(err)
	}
	again.write(streamOut, []byte("second\n"))
	old, _ := os.ReadFile(filepath.Join(dir, "log.1"))
	now, _ := os.ReadFile(filepath.Join(dir, "log"))
	if withoutTimes(string(old)) != "stdout F first\n" || withoutTimes(string(now)) != "stdout F second\n" {
		t.Errorf("log.1 = %q, log = %q", old, now)
	}
}

// FuzzLogJSON: whatever a container writes, the log is JSON that gives it back, but
// for what is not UTF-8.
func FuzzLogJSON(f *testing.F) {
	for _, s := range []string{"plain\n", "", "no end", "<&>\"\\\n", "\x00\x1b[0m\r\n", "ünï\n", "\xff\xfe\n", "\u2028", "a\nb"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		var got string
		b := appendString(nil, text)
		if err := json.Unmarshal(b, &got); err != nil {
			t.Fatalf("%q becomes %s: %v", text, b, err)
		}
		if utf8.Valid(text) && got != string(text) {
			t.Errorf("%q comes back as %q", text, got)
		}
	})
}

func BenchmarkLog(b *testing.B) {
	for _, driver := range []string{"k8s-file", "json-file"} {
		b.Run(driver, func(b *testing.B) {
			dir, err := os.Open(b.TempDir())
			if err != nil {
				b.Fatal(err)
			}
			defer dir.Close()
			l, err := openLog(dir, life.LogConfig{Driver: driver, MaxSize: 10 << 20})
			if err != nil {
				b.Fatal(err)
			}
			text := []byte(strings.Repeat(strings.Repeat("x", 79)+"\n", copyBuffer/80))
			b.SetBytes(int64(len(text)))
			for b.Loop() {
				l.write(streamOut, text)
			}
		})
	}
}
