package run

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"cooper/run/internal/life"
)

// ErrNoLog is wrapped by the error of Logs for a container whose output is not
// kept.
var ErrNoLog = errors.New("its output is not kept")

// LogOptions say which part of a log is read.
type LogOptions struct {
	// Tail is how many lines at the end are read, or all if it is negative.
	Tail int
	// Since and Until bound the time; the zero Time does not.
	Since, Until time.Time
	// Follow waits for more until the container has ended or Until is past.
	Follow bool
	// Pause is called before Logs waits; an error ends it. It may be nil.
	Pause func() error
	// Lost is called at the end if records were gone before this process, stopped
	// while it followed the log, could open them. It may be nil.
	Lost func()
}

// LogPath returns the file that the container's output goes to at present. The
// error wraps ErrNoLog if it goes nowhere.
func (c *Container) LogPath() (string, error) {
	switch driver := c.opts().Log.Driver; {
	case driver == "none":
		return "", fmt.Errorf("log of container %s: %w: it has the log driver none", c.opts().Name, ErrNoLog)
	case c.opts().Foreground || driver == "passthrough":
		return "", fmt.Errorf("log of container %s: %w: it went to the streams of the command that started it", c.opts().Name, ErrNoLog)
	}
	return filepath.Join(c.dir, life.LogFile), nil
}

// Logs calls each with the records of the container's log, the oldest first, until
// that returns an error, which it returns. Rotation loses nothing of a log
// that is followed, however long each takes: what is yet to be read is held open.
func (c *Container) Logs(ctx context.Context, o LogOptions, each func(LogLine) error) error {
	if _, err := c.LogPath(); err != nil {
		return err
	}
	r := &logReader{c: c, o: o, each: each}
	r.recordReader = newRecordReader(c.dir, life.LogFile, r.line)
	defer r.close()
	err := r.run(ctx)
	if r.lost && o.Lost != nil {
		o.Lost()
	}
	if errors.Is(err, errRecordsEnd) {
		return nil
	}
	return c.fail("log", err)
}

// logReader is one running Logs.
type logReader struct {
	*recordReader
	c    *Container
	o    LogOptions
	each func(LogLine) error
}

func (r *logReader) run(ctx context.Context) (err error) {
	if r.o.Follow {
		if err := r.startWatch(ctx); err != nil {
			return err
		}
	}
	if err := r.scan(); err != nil {
		return err
	}
	if r.o.Tail >= 0 {
		if err := r.seekTail(); err != nil {
			return err
		}
	}
	if r.watch == nil {
		return r.drain(ctx)
	}
	return r.follow(ctx, r.o.Until, r.o.Pause)
}

// startWatch watches the log and the container's monitor, whose end is that of the
// log. The state is no sign of it: it may be written before the last of the output.
func (r *logReader) startWatch(ctx context.Context) (err error) {
	if r.watch, err = newWatch(ctx, r.dir, r.name); err != nil {
		return err
	}
	st, err := r.c.State()
	if errors.Is(err, ErrNoContainer) || err == nil && !st.Alive() {
		r.watch.ended = true
		return nil
	}
	if err != nil {
		return err
	}
	return r.watch.attend(st.MonitorPID)
}

// line hands one record on, if it is wanted. What can't be read is shown as it is:
// better than to keep it back.
func (r *logReader) line(record []byte) error {
	l, err := parseLogLine(record, r.c.opts().Log.Driver)
	if err != nil {
		l = LogLine{Text: record}
	}
	if !r.o.Since.IsZero() || !r.o.Until.IsZero() {
		t := l.Time()
		if t.Before(r.o.Since) {
			return nil
		}
		if !r.o.Until.IsZero() && t.After(r.o.Until) {
			return errRecordsEnd
		}
	}
	return r.each(l)
}

// seekTail drops the files and sets the offset so that reading begins with the last
// Tail lines.
func (r *logReader) seekTail() error {
	left := r.o.Tail
	for i := len(r.files) - 1; i >= 0; i-- {
		offset, found, err := r.tailOffset(r.files[i], left)
		if err != nil {
			return err
		}
		if left -= found; left > 0 {
			continue
		}
		if _, err := r.files[i].Seek(offset, io.SeekStart); err != nil {
			return err
		}
		closeAll(r.files[:i])
		r.files = r.files[i:]
		r.buf.Reset(r.files[0])
		return nil
	}
	return nil
}

// tailOffset returns where the last n lines of a file begin, or how many lines it
// has if those are fewer: 0 is as good an offset then. A line that goes on in
// several records begins with the first of them.
func (r *logReader) tailOffset(f *os.File, n int) (offset int64, found int, err error) {
	st, err := f.Stat()
	if err != nil {
		return 0, 0, err
	}
	if n == 0 {
		return st.Size(), 0, nil
	}
	back := backwards{f: f, start: st.Size()}
	for {
		at, record, err := back.previous()
		if err == io.EOF {
			return 0, found, nil
		}
		if err != nil {
			return 0, 0, err
		}
		l, err := parseLogLine(record, r.c.opts().Log.Driver)
		if err == nil && l.Partial() {
			continue // of the line that was counted already
		}
		if found == n {
			return at + int64(len(record)), found, nil
		}
		found++
	}
}

// backwards reads the lines of a file from its end.
type backwards struct {
	f     *os.File
	start int64  // of block in the file
	block []byte // what is read and not handed out yet
}

// previous returns the line before and its offset; io.EOF is the beginning. What
// follows the last newline is left out.
func (b *backwards) previous() (int64, []byte, error) {
	for {
		if end := bytes.LastIndexByte(b.block, '\n'); end >= 0 {
			if begin := bytes.LastIndexByte(b.block[:end], '\n'); begin >= 0 || b.start == 0 {
				line := b.block[begin+1 : end+1]
				b.block = b.block[:begin+1]
				return b.start + int64(begin) + 1, line, nil
			}
		} else if b.start == 0 {
			return 0, nil, io.EOF
		}
		size := min(b.start, 64<<10)
		more := make([]byte, size, int(size)+len(b.block))
		if _, err := b.f.ReadAt(more, b.start-size); err != nil {
			return 0, nil, err
		}
		b.start -= size
		b.block = append(more, b.block...)
	}
}
