package run

import (
	"bufio"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"
)

// errRecordsEnd ends the reading of records before their end.
var errRecordsEnd = errors.New("end of what was asked for")

// recordReader reads the lines of a file that others append to and rotate: name is
// the newest, name.1 the one before, and so on. It holds the files that it has yet
// to read open, so that it loses none by a rotation.
type recordReader struct {
	dir, name string
	record    func([]byte) error // gets each line, with its newline

	files []*os.File // the oldest first; the first one is being read
	buf   *bufio.Reader
	part  []byte // the beginning of a line that is not there to its end
	watch *watch // nil does not follow
}

func newRecordReader(dir, name string, record func([]byte) error) *recordReader {
	return &recordReader{dir: dir, name: name, record: record, buf: bufio.NewReaderSize(nil, 64<<10)}
}

func (r *recordReader) close() {
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

// scan opens the files that are newer than those already open. It begins with the
// newest: a file that is renamed meanwhile is met twice and not missed.
func (r *recordReader) scan() error {
	var newer []*os.File // the newest first
	missing := 0
	// While files are being renamed one name is free.
	for i := 0; missing < 2; i++ {
		name := filepath.Join(r.dir, r.name)
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
			return err
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
	first := len(r.files) == 0
	r.files = append(r.files, newer...)
	if first && len(r.files) > 0 {
		r.buf.Reset(r.files[0])
	}
	return nil
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

// drain reads what is there. At the end only the newest file is left.
func (r *recordReader) drain(ctx context.Context) error {
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
func (r *recordReader) readFile(ctx context.Context) error {
	for n := 0; ; n++ {
		if n%256 == 0 {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			if err := r.catchUp(); err != nil {
				return err
			}
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
			return err
		}
	}
}

// catchUp opens what was rotated meanwhile: a reader that is slower than the writer
// would else come when the oldest file is gone.
func (r *recordReader) catchUp() error {
	if r.watch == nil {
		return nil
	}
	if err := r.watch.read(); err != nil || !r.watch.renamed {
		return err
	}
	r.watch.renamed = false
	return r.scan()
}

// follow reads until the watched process has ended or the time until has come. It
// calls pause, if not nil, before it waits.
func (r *recordReader) follow(ctx context.Context, until time.Time, pause func() error) error {
	for {
		// A process that is seen to have ended has written all, and a file that
		// another has followed is complete: so look first, then read.
		ended := r.watch.ended
		if r.watch.renamed || ended {
			r.watch.renamed = false
			if err := r.scan(); err != nil {
				return err
			}
		}
		if err := r.drain(ctx); err != nil || ended {
			return err
		}
		if pause != nil {
			if err := pause(); err != nil {
				return err
			}
		}
		if err := r.watch.wait(ctx, until); err != nil {
			return err
		}
	}
}
