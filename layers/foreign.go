package layers

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"strings"

	tarsplit "github.com/vbatts/tar-split/tar/storage"

	"cooper/layers/internal/unpack"
)

// foreignTar reads a tar that somebody else has made, and makes its stream on the
// way: every byte is read and digested once. Whatever is no file's content goes
// into the tar-split record as it is, so that no tar is too strange to be given
// back.
type foreignTar struct {
	*splitRecord
	plain   io.ReadCloser // decompressed
	spool   io.Writer     // gets a copy; nil = nowhere
	digest  *asyncDigest
	size    int64
	content bool // what is read now is the content of a regular file

	seen       map[string]struct{}
	uids, gids map[uint32]struct{}
	buf        []byte
}

// foreignBuffer is the size of the pieces in which a tar is read where it is not
// unpacked, and bounds those of the record.
const foreignBuffer = 256 << 10 // bytes

// newForeignTar returns a reader of r, plain or compressed. The caller closes it.
func newForeignTar(r io.Reader, spool io.Writer) (*foreignTar, error) {
	plain, err := Decompress(r)
	if err != nil {
		return nil, fmt.Errorf("decompress: %w", err)
	}
	split, err := newSplitRecord()
	if err != nil {
		return nil, errors.Join(err, plain.Close())
	}
	return &foreignTar{
		splitRecord: split, plain: plain, spool: spool, digest: newAsyncDigest(),
		seen: map[string]struct{}{}, uids: map[uint32]struct{}{}, gids: map[uint32]struct{}{},
	}, nil
}

func (f *foreignTar) Close() error {
	if f.digest != nil {
		f.digest.sum()
		f.digest = nil
	}
	return errors.Join(f.splitRecord.close(), f.plain.Close())
}

// Read is for the tar reader.
func (f *foreignTar) Read(p []byte) (int, error) {
	n, err := f.plain.Read(p)
	p = p[:n]
	f.size += int64(n)
	f.digest.write(p)
	if !f.content {
		f.segment = append(f.segment, p...)
		if len(f.segment) >= foreignBuffer {
			if err := f.recordSegment(); err != nil {
				return n, err
			}
		}
	}
	if f.spool != nil {
		if _, err := f.spool.Write(p); err != nil {
			return n, err
		}
	}
	return n, err
}

// each calls add for the entries of the tar; nil only reads them. Add need not read
// the content.
func (f *foreignTar) each(add func(*tar.Header, io.Reader) error) (*stream, error) {
	tr := tar.NewReader(f)
	for {
		h, err := tr.Next()
		if err == io.EOF {
			break
		}
		if err == nil {
			err = f.entry(h, tr, add)
		}
		if err != nil {
			return nil, err
		}
	}
	if f.size%tarBlock != 0 {
		return nil, fmt.Errorf("the tar is cut off: %w", io.ErrUnexpectedEOF)
	}
	// What follows the end of the archive belongs to its digest too.
	if err := f.discard(f); err != nil {
		return nil, err
	}
	split, err := f.splitRecord.finish()
	if err != nil {
		return nil, err
	}
	st := &stream{
		digest: f.digest.sum(), size: f.size, split: split,
		uids: slices.Sorted(maps.Keys(f.uids)), gids: slices.Sorted(maps.Keys(f.gids)),
	}
	f.digest = nil
	return st, nil
}

const tarBlock = 512 // bytes

func (f *foreignTar) entry(h *tar.Header, tr io.Reader, add func(*tar.Header, io.Reader) error) error {
	if err := f.note(h); err != nil {
		return err
	}
	if h.Typeflag != tar.TypeReg || h.Size == 0 || unpack.Sparse(h) {
		if add == nil {
			return nil
		}
		return add(h, tr)
	}
	if err := f.recordSegment(); err != nil {
		return err
	}
	content := &crcReader{r: tr}
	from := f.size
	f.content = true
	if add != nil {
		if err := add(h, content); err != nil {
			return err
		}
	}
	if err := f.discard(content); err != nil {
		return err
	}
	f.content = false
	if f.size-from != h.Size {
		return fmt.Errorf("%q: the tar does not have the file as it is", h.Name)
	}
	return f.recordFile(h.Name, h.Size, content.crc)
}

// note remembers an entry's name and owner. A name that comes again is refused, as
// by every tool that keeps tar-split records.
func (f *foreignTar) note(h *tar.Header) error {
	if h.Typeflag == tar.TypeXGlobalHeader {
		return nil
	}
	name := path.Clean(h.Name)
	if _, ok := f.seen[name]; ok {
		return fmt.Errorf("%q: %w", h.Name, tarsplit.ErrDuplicatePath)
	}
	f.seen[name] = struct{}{}
	if !strings.HasPrefix(path.Base(name), whiteoutPrefix) {
		f.uids[uint32(h.Uid)], f.gids[uint32(h.Gid)] = struct{}{}, struct{}{}
	}
	return nil
}

// discard reads r to its end.
func (f *foreignTar) discard(r io.Reader) error {
	if f.buf == nil {
		f.buf = make([]byte, foreignBuffer)
	}
	for {
		_, err := r.Read(f.buf)
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// crcReader makes the CRC of what is read.
type crcReader struct {
	r   io.Reader
	crc uint64
}

func (c *crcReader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.crc = crc64ISO(c.crc, p[:n])
	return n, err
}
