package registry

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"
)

// tarSink is a layout in a tar. A blob whose size is known only when it is
// written gets its header afterwards if the tar is a file, else it waits in a
// temporary file.
type tarSink struct {
	out    io.Writer
	seek   *os.File // out, if it can be written at any place
	start  int64    // where in seek  the tar begins
	at     int64    // bytes written
	spool  string   // directory for temporary files
	listed map[string]bool
}

func newTarSink(w io.Writer, spool string) *tarSink {
	s := &tarSink{out: w, spool: spool, listed: map[string]bool{}}
	f, ok := w.(*os.File)
	if !ok {
		return s
	}
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return s
	}
	// A file opened to append to (>> in a shell) writes at its end only.
	flags, err := unix.FcntlInt(f.Fd(), unix.F_GETFL, 0)
	if err != nil || flags&unix.O_APPEND != 0 {
		return s
	}
	if at, err := f.Seek(0, io.SeekCurrent); err == nil {
		s.seek, s.start = f, at
	}
	return s
}

func (s *tarSink) index() (ocispec.Index, error) { return ocispec.Index{}, nil }

// Write writes the next bytes of the tar.
func (s *tarSink) Write(p []byte) (int, error) {
	n, err := s.out.Write(p)
	s.at += int64(n)
	return n, err
}

// tarEpoch is the time of every file in the tar: the same image gives the same
// bytes.
var tarEpoch = time.Unix(0, 0)

// header makes the 512 bytes before a file or, with a slash at the end of its
// name, a directory.
func header(name string, size int64) ([]byte, error) {
	h := &tar.Header{Format: tar.FormatGNU, Typeflag: tar.TypeReg, Name: name, Size: size, Mode: 0o644, ModTime: tarEpoch}
	if name[len(name)-1] == '/' {
		h.Typeflag, h.Mode = tar.TypeDir, 0o755
	}
	var b bytes.Buffer
	if err := tar.NewWriter(&b).WriteHeader(h); err != nil {
		return nil, err
	}
	if b.Len() != tarBlock {
		return nil, fmt.Errorf("tar header of %s: %d bytes, want %d", name, b.Len(), tarBlock)
	}
	return b.Bytes(), nil
}

const tarBlock = 512 // bytes

// entry writes a header, after those of the directories that lead to name.
func (s *tarSink) entry(name string, size int64) error {
	if dir := path.Dir(name); dir != "." && !s.listed[dir] {
		if err := s.entry(dir, -1); err != nil {
			return err
		}
	}
	s.listed[name] = true
	if size < 0 {
		name, size = name+"/", 0
	}
	h, err := header(name, size)
	if err == nil {
		_, err = s.Write(h)
	}
	return err
}

// pad fills the last block of a file.
func (s *tarSink) pad() error {
	_, err := s.Write(make([]byte, -s.at&(tarBlock-1)))
	return err
}

func (s *tarSink) file(name string, content []byte) error {
	if err := s.entry(name, int64(len(content))); err != nil {
		return err
	}
	if _, err := s.Write(content); err != nil {
		return err
	}
	return s.pad()
}

func (s *tarSink) known(d digest.Digest, size int64, write func(io.Writer) error) error {
	if s.listed[blobPath(d)] {
		return nil
	}
	if err := s.entry(blobPath(d), size); err != nil {
		return err
	}
	m := newMeter(s)
	if err := write(m); err != nil {
		return err
	}
	if got := m.sum(); got != d || m.size != size {
		return fmt.Errorf("it has %d bytes and digest %s, want %d and %s", m.size, got, size, d)
	}
	return s.pad()
}

func (s *tarSink) blob(write func(io.Writer) error) (digest.Digest, int64, error) {
	if s.seek == nil {
		return s.spooled(write)
	}
	// The directories' headers, then room for this one's.
	if blobs := path.Join(ocispec.ImageBlobsDir, "sha256"); !s.listed[blobs] {
		if err := s.entry(blobs, -1); err != nil {
			return "", 0, err
		}
	}
	at := s.at
	if _, err := s.Write(make([]byte, tarBlock)); err != nil {
		return "", 0, err
	}
	m := newMeter(s)
	if err := write(m); err != nil {
		return "", 0, err
	}
	d := m.sum()
	if s.listed[blobPath(d)] {
		return d, m.size, s.rewind(at)
	}
	s.listed[blobPath(d)] = true
	h, err := header(blobPath(d), m.size)
	if err == nil {
		_, err = s.seek.WriteAt(h, s.start+at)
	}
	if err == nil {
		err = s.pad()
	}
	return d, m.size, err
}

// rewind takes back what was written from at on: the tar has it already.
func (s *tarSink) rewind(at int64) error {
	s.at = at
	if _, err := s.seek.Seek(s.start+at, io.SeekStart); err != nil {
		return err
	}
	return s.seek.Truncate(s.start + at)
}

// spooled writes a blob to a temporary file and from there into the tar.
func (s *tarSink) spooled(write func(io.Writer) error) (d digest.Digest, size int64, err error) {
	f, err := os.CreateTemp(s.spool, "blob-*")
	if err != nil {
		return "", 0, err
	}
	defer func() { err = errors.Join(err, f.Close(), os.Remove(f.Name())) }()
	m := newMeter(f)
	if err := write(m); err != nil {
		return "", 0, err
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return "", 0, err
	}
	d = m.sum()
	return d, m.size, s.known(d, m.size, func(out io.Writer) error {
		_, err := io.Copy(out, f)
		return err
	})
}

// finish ends the tar.
func (s *tarSink) finish() error {
	_, err := s.Write(make([]byte, 2*tarBlock))
	return err
}

// meter counts and digests what is written through it.
type meter struct {
	out  io.Writer
	hash hash.Hash
	size int64
}

func newMeter(w io.Writer) *meter { return &meter{out: w, hash: sha256.New()} }

// Write writes p.
func (m *meter) Write(p []byte) (int, error) {
	n, err := m.out.Write(p)
	m.hash.Write(p[:n])
	m.size += int64(n)
	return n, err
}

func (m *meter) sum() digest.Digest { return digest.NewDigest(digest.SHA256, m.hash) }
