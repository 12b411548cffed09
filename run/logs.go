package run

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
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
}

// LogPath returns the file that the container's output goes to at present. The
// error wraps ErrNoLog if it goes nowhere.
func (c *Container) LogPath() (string, error) {
	switch driver := c.opts.Log.Driver; {
	case driver == "none":
		return "", fmt.Errorf("log of container %s: %w: it has the log driver none", c.opts.Name, ErrNoLog)
	case c.opts.Foreground || driver == "passthrough":
		return "", fmt.Errorf("log of container %s: %w: it went to the streams of the command that started it", c.opts.Name, ErrNoLog)
	}
	return filepath.Join(c.dir, life.LogFile), nil
}

// Logs calls each with the records of the container's log, the oldest first, until
// that returns an error, which it returns. Rotation loses nothing as long as the
// monitor rotates less often than files are kept for between two looks.
func (c *Container) Logs(ctx context.Context, o LogOptions, each func(LogLine) error) error {
	if _, err := c.LogPath(); err != nil {
		return err
	}
	r := &logReader{c: c, o: o, each: each, buf: bufio.NewReaderSize(nil, 64<<10)}
	defer r.close()
	err := r.run(ctx)
	if errors.Is(err, errLogEnd) {
		return nil
	}
	return err
}

// errLogEnd ends the reading of a log before its end.
var errLogEnd = errors.New("end of what was asked for")

// logReader is one running Logs. It holds the files that it has yet to read open,
// so that it loses none by a rotation.
type logReader struct {
	c    *Container
	o    LogOptions
	each func(LogLine) error

	files []*os.File // the oldest first; the first one is being read
	buf   *bufio.Reader
	part  []byte // the beginning of a record that is not there to its end
	watch *logWatch
}

func (r *logReader) close() {
	closeAll(r.files)
	if r.watch != nil {
		r.watch.close()
	}
}

func closeAll(files []*os.File) {
	for _, f := range files {
		f.Close()
	}
}

func (r *logReader) run(ctx context.Context) (err error) {
	if r.o.Follow {
		if r.watch, err = newLogWatch(ctx, r.c.dir); err != nil {
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
	if len(r.files) > 0 {
		r.buf.Reset(r.files[0])
	}
	if r.watch == nil {
		return r.drain(ctx)
	}
	return r.follow(ctx)
}

// scan opens the log's files that are newer than those already open. It begins with
// the newest: a file that is renamed meanwhile is met twice and not missed.
func (r *logReader) scan() error {
	var newer []*os.File // the newest first
	missing := 0
	// While files are being renamed one name is free.
	for i := 0; missing < 2; i++ {
		name := filepath.Join(r.c.dir, life.LogFile)
		if i > 0 {
			name += "." + strconv.Itoa(i)
		}
		f, err := os.Open(name)
		if errors.Is(err, fs.ErrNotExist) {
			missing++
			continue
		}
		if err != nil {
			closeAll(newer)
			return r.c.fail("log", err)
		}
		missing = 0
		if sameAsAny(f, r.files) {
			f.Close()
			break
		}
		if sameAsAny(f, newer) {
			f.Close()
			continue
		}
		newer = append(newer, f)
	}
	slices.Reverse(newer)
	r.files = append(r.files, newer...)
	return nil
}

// drain reads what is there. At the end only the newest file is left.
func (r *logReader) drain(ctx context.Context) error {
	for len(r.files) > 0 {
		if err := r.readFile(ctx); err != nil {
			return err
		}
		if len(r.files) == 1 {
			return nil
		}
		r.files[0].Close()
		r.files = r.files[1:]
		r.part = r.part[:0] // its writer was killed
		r.buf.Reset(r.files[0])
	}
	return nil
}

// readFile reads the first file to its present end.
func (r *logReader) readFile(ctx context.Context) error {
	for n := 0; ; n++ {
		if n%256 == 0 && ctx.Err() != nil {
			return context.Cause(ctx)
		}
		piece, err := r.buf.ReadSlice('\n')
		if err == nil && len(r.part) == 0 {
			if err := r.record(piece); err != nil {
				return err
			}
			continue
		}
		r.part = append(r.part, piece...)
		switch {
		case err == nil:
			err := r.record(r.part)
			r.part = r.part[:0]
			if err != nil {
				return err
			}
		case errors.Is(err, bufio.ErrBufferFull):
		case errors.Is(err, io.EOF):
			return nil
		default:
			return r.c.fail("log", err)
		}
	}
}

// record hands one record on, if it is wanted. What can't be read is shown as it
// is: better than to keep it back.
func (r *logReader) record(record []byte) error {
	l, err := parseLogLine(record, r.c.opts.Log.Driver)
	if err != nil {
		l = LogLine{Text: record}
	}
	if !r.o.Since.IsZero() || !r.o.Until.IsZero() {
		t := l.Time()
		if t.Before(r.o.Since) {
			return nil
		}
		if !r.o.Until.IsZero() && t.After(r.o.Until) {
			return errLogEnd
		}
	}
	return r.each(l)
}

// follow reads until the container has ended.
func (r *logReader) follow(ctx context.Context) error {
	if err := r.watch.find(r.c); err != nil {
		return err
	}
	for {
		// A container that is seen to have ended has written all, and a file
		// that another has followed is complete: so look first, then read.
		ended := r.watch.ended
		if r.watch.renamed || ended {
			r.watch.renamed = false
			if err := r.more(); err != nil {
				return err
			}
		}
		if err := r.drain(ctx); err != nil || ended {
			return err
		}
		if r.o.Pause != nil {
			if err := r.o.Pause(); err != nil {
				return err
			}
		}
		if err := r.watch.wait(ctx, r.o.Until); err != nil {
			return err
		}
	}
}

// more scans for newer files. The container may have been removed.
func (r *logReader) more() error {
	first := len(r.files) == 0
	if err := r.scan(); err != nil && !errors.Is(err, ErrNoContainer) {
		return err
	}
	if first && len(r.files) > 0 {
		r.buf.Reset(r.files[0])
	}
	return nil
}

// seekTail drops the files and sets the offset so that reading begins with the last
// Tail lines.
func (r *logReader) seekTail() error {
	left := r.o.Tail
	for i := len(r.files) - 1; i >= 0; i-- {
		offset, found, err := r.tailOffset(r.files[i], left)
		if err != nil {
			return r.c.fail("log", err)
		}
		if left -= found; left > 0 {
			continue
		}
		if _, err := r.files[i].Seek(offset, io.SeekStart); err != nil {
			return r.c.fail("log", err)
		}
		closeAll(r.files[:i])
		r.files = r.files[i:]
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
		l, err := parseLogLine(record, r.c.opts.Log.Driver)
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

// sameAsAny reports whether f is one of files.
func sameAsAny(f *os.File, files []*os.File) bool {
	st, err := f.Stat()
	if err != nil {
		return false
	}
	return slices.ContainsFunc(files, func(g *os.File) bool {
		other, err := g.Stat()
		return err == nil && os.SameFile(st, other)
	})
}
