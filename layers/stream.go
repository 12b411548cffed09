package layers

import (
	"archive/tar"
	"errors"
	"io"
	"os"
	"strings"

	digest "github.com/opencontainers/go-digest"
)

// stream is what the store keeps of a layer's finished tar.
type stream struct {
	digest     digest.Digest
	size       int64    // bytes
	split      *os.File // tar-split record, JSON, not compressed
	uids, gids []uint32 // owners that occur, sorted
}

// streamWriter writes a layer's tar and makes its stream on the way: every byte
// is digested once, and file content is not kept. Entries must come in the
// order of comparePaths, each header followed by exactly its Size bytes of
// Write. It is used by one goroutine.
type streamWriter struct{}

// newStreamWriter returns a streamWriter that also sends the tar to out, unless
// that is nil.
func newStreamWriter(out io.Writer) (*streamWriter, error) { return nil, errors.ErrUnsupported }

// entry writes the header of e. Whiteouts are entries too, see whiteout.
func (w *streamWriter) entry(e *Entry) error { return w.header(e.header()) }

func (w *streamWriter) header(h *tar.Header) error { return errors.ErrUnsupported }

// Write writes content of the regular file whose header came last.
func (w *streamWriter) Write(p []byte) (int, error) { return 0, errors.ErrUnsupported }

// finish ends the tar.
func (w *streamWriter) finish() (*stream, error) { return nil, errors.ErrUnsupported }

// close releases what an unfinished stream holds; after finish it does nothing.
func (w *streamWriter) close() error { return nil }

// close releases the tar-split record.
func (st *stream) close() error {
	if st == nil || st.split == nil {
		return nil
	}
	return st.split.Close()
}

// comparePaths orders the paths of a layer: a directory before what is in it,
// the names within a directory bytewise.
func comparePaths(a, b string) int {
	for {
		x, arest, amore := strings.Cut(a, "/")
		y, brest, bmore := strings.Cut(b, "/")
		if x != y {
			return strings.Compare(x, y)
		}
		switch {
		case !amore && !bmore:
			return 0
		case !amore:
			return -1
		case !bmore:
			return 1
		}
		a, b = arest, brest
	}
}
