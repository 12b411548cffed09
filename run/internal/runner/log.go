package runner

import (
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"sync"
	"time"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"cooper/run/internal/life"
)

// Standard streams, as indices.
const (
	streamIn = iota
	streamOut
	streamErr
)

var streamNames = [...]string{"stdin", "stdout", "stderr"}

// flushSize is how many bytes a log gathers before it writes them. One read of a
// container's output is seldom more when formatted.
const flushSize = 256 << 10

// log is a container's log, or nothing if the driver keeps none. It may be used
// concurrently; the lines of one write are together in the file.
//
// Two formats are known. k8s-file has lines "TIME STREAM F TEXT", with P for F where
// the text goes on in the stream's next line. json-file has docker's objects
// {"log":TEXT,"stream":STREAM,"time":TIME}; a text that does not end with a line
// feed goes on in the stream's next one.
type log struct {
	dir     *os.File
	json    bool
	maxSize int64 // 0 is none
	files   int   // the present one included

	mu   sync.Mutex
	file *os.File // nil keeps nothing
	over bool     // there is a file more than there should be
	size int64
	buf  []byte
}

// openLog opens the log in a container's directory, to be continued.
func openLog(dir *os.File, c life.LogConfig) (*log, error) {
	l := &log{dir: dir, maxSize: c.MaxSize, files: max(c.MaxFiles, 1)}
	switch c.Driver {
	case "none", "passthrough":
		return l, nil
	case "", "k8s-file":
	case "json-file":
		l.json = true
	default:
		return nil, fmt.Errorf("log driver %q is not known: want k8s-file, json-file or none", c.Driver)
	}
	return l, l.open()
}

func (l *log) open() error {
	f, err := os.OpenFile(life.FilePath(l.dir, life.LogFile), os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("open log: %w", err)
	}
	st, err := f.Stat()
	if err != nil {
		f.Close()
		return fmt.Errorf("open log: %w", err)
	}
	l.file, l.size = f, st.Size()
	return nil
}

// write adds what a stream has brought. A log that cannot be written keeps no
// container from running: what does not fit on the disk is lost.
func (l *log) write(stream int, text []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file == nil {
		return
	}
	now := time.Now().UTC().AppendFormat(nil, "2006-01-02T15:04:05.000000000Z07:00")
	for len(text) > 0 {
		line := text
		for i, c := range text {
			if c == '\n' {
				line = text[:i+1]
				break
			}
		}
		text = text[len(line):]
		if l.json {
			l.appendJSON(stream, line, now)
		} else {
			l.appendLine(stream, line, now)
		}
		if len(l.buf) >= flushSize {
			l.flush()
		}
	}
	l.flush()
}

// appendLine appends a line in k8s-file's format.
func (l *log) appendLine(stream int, line, now []byte) {
	l.rotateFor(len(now) + len(" stdout F ") + len(line) + 1)
	l.buf = append(l.buf, now...)
	l.buf = append(l.buf, ' ')
	l.buf = append(l.buf, streamNames[stream]...)
	if line[len(line)-1] == '\n' {
		l.buf = append(append(l.buf, " F "...), line...)
	} else {
		l.buf = append(append(append(l.buf, " P "...), line...), '\n')
	}
}

// appendJSON appends a line in json-file's format.
func (l *log) appendJSON(stream int, line, now []byte) {
	start := len(l.buf)
	l.buf = appendString(append(l.buf, `{"log":`...), line)
	l.buf = append(l.buf, `,"stream":"`...)
	l.buf = append(l.buf, streamNames[stream]...)
	l.buf = append(l.buf, `","time":"`...)
	l.buf = append(append(l.buf, now...), "\"}\n"...)
	if entry := len(l.buf) - start; l.full(int64(entry), int64(start)) {
		kept := append([]byte(nil), l.buf[start:]...)
		l.buf = l.buf[:start]
		l.rotateFor(entry)
		l.buf = append(l.buf, kept...)
	}
}

// full reports whether an entry would make the file too long, after what waits to
// be written. A file has one entry at least.
func (l *log) full(entry, waiting int64) bool {
	return l.maxSize > 0 && l.size+waiting > 0 && l.size+waiting+entry > l.maxSize
}

// rotateFor begins a new file if an entry of that size does not fit in this one.
func (l *log) rotateFor(entry int) {
	if !l.full(int64(entry), int64(len(l.buf))) {
		return
	}
	l.flush()
	l.rotate()
}

// flush writes what was gathered.
func (l *log) flush() {
	n, _ := l.file.Write(l.buf)
	l.size += int64(n)
	l.buf = l.buf[:0]
}

// followTime is how long the log waits for somebody who follows it and has not opened
// what is to be removed: such a process has been stopped.
const followTime = 500 * time.Millisecond

// rotate renames log to log.1, log.1 to log.2 and so on, begins a new log and drops
// the oldest. Who follows the log finds every file under its next name, or has it
// open: the oldest is kept for one more rotation if somebody may not have opened
// what came after it.
func (l *log) rotate() {
	at, oldest := int(l.dir.Fd()), rotated(l.files)
	l.dropOver()
	for n := l.files; n > 0; n-- {
		_ = unix.Renameat(at, rotated(n-1), at, rotated(n)) // the first times there are fewer
	}
	old := l.file
	if err := l.open(); err != nil {
		return // better a long log than none
	}
	old.Close()
	if l.over = life.Followed(l.dir, oldest); !l.over {
		_ = unix.Unlinkat(at, oldest, 0)
	}
}

// dropOver removes the file that is more than there should be, when those who follow
// the log have opened a newer one.
func (l *log) dropOver() {
	if !l.over {
		return
	}
	oldest := rotated(l.files)
	for until := time.Now().Add(followTime); life.Followed(l.dir, oldest) && time.Now().Before(until); {
		time.Sleep(time.Millisecond)
	}
	_ = unix.Unlinkat(int(l.dir.Fd()), oldest, 0)
	l.over = false
}

// rotated is the name of the nth file, 0 being the present one.
func rotated(n int) string {
	if n == 0 {
		return life.LogFile
	}
	return life.LogFile + "." + strconv.Itoa(n)
}

func (l *log) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file != nil {
		l.dropOver()
		l.file.Close()
		l.file = nil
	}
}

// appendString appends text as a JSON string. What is not UTF-8 is replaced, as
// docker does.
func appendString(b, text []byte) []byte {
	plain := true
	for _, c := range text[:max(len(text)-1, 0)] {
		if c < ' ' || c == '"' || c == '\\' || c == '<' || c == '>' || c == '&' || c >= utf8.RuneSelf {
			plain = false
			break
		}
	}
	last := byte(0)
	if len(text) > 0 {
		last = text[len(text)-1]
	}
	if plain && last == '\n' {
		b = append(append(b, '"'), text[:len(text)-1]...)
		return append(b, `\n"`...)
	}
	s, err := json.Marshal(string(text))
	if err != nil {
		return append(b, `""`...) // strings can't fail
	}
	return append(b, s...)
}
