package run

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"time"

	"cooper/run/internal/life"
)

// errRecordsEnd ends the reading of records before their end.
var errRecordsEnd = errors.New("end of what was asked for")

// recordReader reads the lines of a file that others append to and rotate: name is
// the newest, name.1 the one before, and so on. It holds the files that it has yet
// to read open, so that it loses none by a rotation.
type recordReader struct {
	dir, name string
	record    func([]byte) error // gets each line, with its newline

	mu    sync.Mutex
	files []*os.File // the oldest first; the first one is being read
	lost  bool       // files were gone before they could be opened

	reading *os.File
	buf     *bufio.Reader
	part    []byte // the beginning of a line that is not there to its end
	watch   *watch // nil does not follow
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
	r.mu.Lock()
	defer r.mu.Unlock()
	var newer []*os.File // the newest first
	missing, met := 0, len(r.files) == 0
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
			met = true
			break
		}
		if sameAsAny(f, newer) {
			f.Close()
			continue
		}
		newer = append(newer, f)
	}
	slices.Reverse(newer)
	r.lost = r.lost || !met && len(newer) > 0
	r.hold(newer)
	r.files = append(r.files, newer...)
	return nil
}

// hold marks the newest file of those that are open, for a writer that keeps it by
// its name until there is a newer one open: see life.Followed.
func (r *recordReader) hold(newer []*os.File) {
	if r.watch == nil || len(newer) == 0 {
		return
	}
	_ = life.Follow(newer[len(newer)-1]) // without it the writer may be too fast
	if len(r.files) > 0 {
		life.Unfollow(r.files[len(r.files)-1])
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

// first returns the oldest file that is open, and whether there is a newer one.
func (r *recordReader) first() (f *os.File, more bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.files) == 0 {
		return nil, false
	}
	return r.files[0], len(r.files) > 1
}

// drain reads what is there. At the end only the newest file is left.
func (r *recordReader) drain(ctx context.Context) error {
	for {
		// A file that another has followed is complete: so look first, then read.
		f, more := r.first()
		if f == nil {
			return nil
		}
		if f != r.reading {
			r.reading, r.part = f, r.part[:0] // the writer of half a line was killed
			r.buf.Reset(f)
		}
		if err := r.readFile(ctx); err != nil {
			return err
		}
		if !more {
			if _, more = r.first(); more {
				continue
			}
			return nil
		}
		r.mu.Lock()
		r.files[0].Close()
		r.files = r.files[1:]
		r.mu.Unlock()
	}
}

// readFile reads the first file to its present end.
func (r *recordReader) readFile(ctx context.Context) error {
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
			return err
		}
	}
}

// follow reads until the watched process has ended or the time until has come. It
// calls pause, if not nil, before it waits.
func (r *recordReader) follow(ctx context.Context, until time.Time, pause func() error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	more, looked := make(chan struct{}, 1), make(chan error, 1)
	looking := make(chan struct{})
	go func() {
		defer close(looking)
		looked <- r.look(ctx, until, more)
	}()
	defer func() {
		cancel(nil)
		r.watch.interrupt()
		<-looking
	}()
	for {
		// What is there now was written before it ended.
		var last error
		ended := false
		select {
		case last = <-looked:
			ended = true
		default:
		}
		if err := r.drain(ctx); err != nil || ended {
			return cmp.Or(err, last)
		}
		if pause != nil {
			if err := pause(); err != nil {
				return err
			}
		}
		select {
		case <-more:
		case last := <-looked:
			looked <- last
		}
	}
}

// look opens what is rotated and says in more that there is something to read, as
// long as follow goes on: also while that stands still, as its output may.
func (r *recordReader) look(ctx context.Context, until time.Time, more chan<- struct{}) error {
	for {
		// A process that is seen to have ended has written all: so look first.
		ended := r.watch.ended
		if r.watch.renamed || ended {
			r.watch.renamed = false
			if err := r.scan(); err != nil {
				return err
			}
		}
		if ended {
			return nil
		}
		select {
		case more <- struct{}{}:
		default:
		}
		if err := r.watch.wait(ctx, until); err != nil {
			return err
		}
	}
}
