package layers

import (
	"archive/tar"
	"cmp"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"

	digest "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// stream is what the store keeps of a layer's finished tar.
type stream struct {
	digest     digest.Digest
	size       int64    // bytes
	split      *os.File // tar-split record, JSON, not compressed
	uids, gids []uint32 // owners that occur, sorted
	// blob is what the tar came in, if its digest is not "".
	blob ocispec.Descriptor
}

// close releases the tar-split record.
func (st *stream) close() error {
	if st == nil || st.split == nil {
		return nil
	}
	return st.split.Close()
}

// streamWriter writes a layer's tar and makes its stream on the way: every byte
// is digested once, and file content is not kept. Entries must come in the
// order of comparePaths, each header followed by exactly its Size bytes of
// Write. It is used by one goroutine; digesting runs in another.
type streamWriter struct {
	*splitRecord
	tar    *tar.Writer
	out    io.Writer // nil = nowhere
	digest *asyncDigest
	size   int64

	file       tar.Header // the file being written, with left bytes to come
	left       int64
	crc        uint64
	haveCRC    bool
	uids, gids map[uint32]struct{}
}

// newStreamWriter returns a streamWriter that also sends the tar to out, unless
// that is nil.
func newStreamWriter(out io.Writer) (*streamWriter, error) {
	split, err := newSplitRecord()
	if err != nil {
		return nil, err
	}
	w := &streamWriter{
		splitRecord: split,
		out:         out,
		digest:      newAsyncDigest(),
		uids:        make(map[uint32]struct{}),
		gids:        make(map[uint32]struct{}),
	}
	w.tar = tar.NewWriter((*streamSink)(w))
	return w, nil
}

// entry writes the header of e.
func (w *streamWriter) entry(e *Entry) error {
	w.uids[e.UID] = struct{}{}
	w.gids[e.GID] = struct{}{}
	return w.header(e.header())
}

// header writes a header as it is.
func (w *streamWriter) header(h *tar.Header) error {
	if err := w.endFile(); err != nil {
		return err
	}
	if err := w.tar.WriteHeader(h); err != nil {
		return fmt.Errorf("tar header of %q: %w", h.Name, err)
	}
	w.file, w.left, w.crc = *h, 0, 0
	if h.Typeflag == tar.TypeReg {
		w.left = h.Size
	}
	if w.left > 0 {
		return w.recordSegment()
	}
	return nil
}

// Write writes content of the regular file whose header came last.
func (w *streamWriter) Write(p []byte) (int, error) {
	n, err := w.tar.Write(p)
	w.left -= int64(n)
	if err == nil && w.left == 0 && n > 0 {
		err = w.recordFile(w.file.Name, w.file.Size, w.crc)
	}
	return n, err
}

// content writes the whole content of a file; crc is its CRC64 as crc64ISO
// makes it, for callers that have it already.
func (w *streamWriter) content(p []byte, crc uint64) error {
	w.haveCRC = true
	defer func() { w.haveCRC = false }()
	w.crc = crc
	_, err := w.Write(p)
	return err
}

func (w *streamWriter) endFile() error {
	if w.left > 0 {
		return fmt.Errorf("tar content of %q: %d bytes are missing: %w", w.file.Name, w.left, io.ErrUnexpectedEOF)
	}
	return nil
}

// finish ends the tar.
func (w *streamWriter) finish() (*stream, error) {
	if err := w.endFile(); err != nil {
		return nil, err
	}
	if err := w.tar.Close(); err != nil {
		return nil, err
	}
	split, err := w.splitRecord.finish()
	if err != nil {
		return nil, err
	}
	st := &stream{
		digest: w.digest.sum(),
		size:   w.size,
		split:  split,
		uids:   slices.Sorted(maps.Keys(w.uids)),
		gids:   slices.Sorted(maps.Keys(w.gids)),
	}
	w.digest = nil
	return st, nil
}

// close releases what an unfinished stream holds; after finish it does nothing.
func (w *streamWriter) close() error {
	if w.digest != nil {
		w.digest.sum()
		w.digest = nil
	}
	return w.splitRecord.close()
}

// streamSink is where the tar's bytes go.
type streamSink streamWriter

func (s *streamSink) Write(p []byte) (int, error) {
	if s.left > 0 {
		// tar.Writer passes content through and pads only before the
		// next header, so these are the file's bytes.
		if !s.haveCRC {
			s.crc = crc64ISO(s.crc, p)
		}
	} else {
		s.segment = append(s.segment, p...)
	}
	s.digest.write(p)
	s.size += int64(len(p))
	if s.out != nil {
		return s.out.Write(p)
	}
	return len(p), nil
}

// asyncDigest digests in its own goroutine, a few blocks behind the writer.
type asyncDigest struct {
	block  []byte
	full   chan []byte
	free   chan []byte
	result chan digest.Digest
}

const (
	digestBlock  = 256 << 10 // bytes
	digestBlocks = 4
)

func newAsyncDigest() *asyncDigest {
	return &asyncDigest{}
}

// start begins the goroutine, once there is more than one block: small layers
// are digested by whoever writes them.
func (d *asyncDigest) start() {
	d.full = make(chan []byte, digestBlocks)
	d.free = make(chan []byte, digestBlocks)
	d.result = make(chan digest.Digest, 1)
	for range digestBlocks - 1 {
		d.free <- make([]byte, 0, digestBlock)
	}
	go func() {
		sum := digest.SHA256.Digester()
		for block := range d.full {
			sum.Hash().Write(block)
			d.free <- block[:0]
		}
		d.result <- sum.Digest()
	}()
}

func (d *asyncDigest) write(p []byte) {
	for len(p) > 0 {
		if len(d.block) == digestBlock {
			if d.full == nil {
				d.start()
			}
			d.full <- d.block
			d.block = <-d.free
		}
		n := min(len(p), digestBlock-len(d.block))
		d.block = append(d.block, p[:n]...)
		p = p[n:]
	}
}

// sum ends the goroutine and returns the digest of all that was written.
func (d *asyncDigest) sum() digest.Digest {
	if d.full == nil {
		return digest.FromBytes(d.block)
	}
	d.full <- d.block
	close(d.full)
	return <-d.result
}

// errPath says that a path cannot be put into a layer's tar.
var errPath = errors.New("names that begin with .wh. cannot be stored in an image layer")

// comparePaths orders the paths of a layer: a directory before what is in it,
// the names within a directory bytewise.
func comparePaths(a, b string) int {
	n := min(len(a), len(b))
	for i := range n {
		switch {
		case a[i] == b[i]:
		case a[i] == '/':
			return -1
		case b[i] == '/':
			return 1
		default:
			return cmp.Compare(a[i], b[i])
		}
	}
	return cmp.Compare(len(a), len(b))
}
