package layers

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"slices"
	"strings"

	digest "github.com/opencontainers/go-digest"
	"github.com/vbatts/tar-split/archive/tar"
	"github.com/vbatts/tar-split/tar/asm"
	tarsplit "github.com/vbatts/tar-split/tar/storage"
	"go.podman.io/storage/pkg/chrootarchive"
	"go.podman.io/storage/pkg/tarlog"
	"golang.org/x/sys/unix"
)

// Apply reads a layer's tar, plain or compressed with gzip, zstd, xz or bzip2,
// and makes it a layer on parent ("" = none). The tar may come from anyone: no
// entry of it can reach outside the layer. The tar's own bytes are what Diff
// gives back, so DiffID is its digest. A tar that has the same path twice is
// refused.
func (s *Store) Apply(ctx context.Context, parent string, r io.Reader) (Layer, error) {
	on, err := s.Layer(parent)
	if err != nil {
		return Layer{}, err
	}
	sn, err := s.prepare(ctx, on, false)
	if err != nil {
		return Layer{}, err
	}
	st, err := sn.area.extract(&contextReader{ctx, r})
	if err != nil {
		return Layer{}, errors.Join(fmt.Errorf("apply layer: %w", err), sn.Remove())
	}
	sn.stream = st
	l, err := sn.Commit(ctx).Wait(context.WithoutCancel(ctx))
	// Nobody stands on the area, even if Commit has kept it (see there).
	return l, errors.Join(err, sn.area.remove())
}

// contextReader ends a stream when the context does.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (c *contextReader) Read(p []byte) (int, error) {
	if err := context.Cause(c.ctx); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}

// extract unpacks the tar in a process that has the upper directory as its
// root, so that no link in it can lead out.
func (a *overlayArea) extract(r io.Reader) (*stream, error) {
	return record(r, func(payload io.Reader) error {
		return chrootarchive.UntarUncompressed(payload, a.upper(), &a.tar)
	})
}

// record decompresses a foreign tar, hands its bytes to use and makes the
// stream on the way.
func record(r io.Reader, use func(io.Reader) error) (st *stream, err error) {
	fd, err := unix.MemfdCreate("tar-split", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("tar-split record: %w", os.NewSyscallError("memfd_create", err))
	}
	st = &stream{split: os.NewFile(uintptr(fd), "tar-split")}
	defer func() {
		if err != nil {
			st.close()
			st = nil
		}
	}()
	plain, err := Decompress(r)
	if err != nil {
		return st, fmt.Errorf("decompress: %w", err)
	}
	defer plain.Close()
	uids, gids := make(map[uint32]struct{}), make(map[uint32]struct{})
	owners, err := tarlog.NewLogger(func(h *tar.Header) {
		if !strings.HasPrefix(path.Base(h.Name), whiteoutPrefix) {
			uids[uint32(h.Uid)], gids[uint32(h.Gid)] = struct{}{}, struct{}{}
		}
	})
	if err != nil {
		return st, err
	}
	sum := digest.SHA256.Digester()
	split := bufio.NewWriterSize(st.split, 64<<10)
	count := &countingReader{r: io.TeeReader(plain, io.MultiWriter(owners, sum.Hash()))}
	packer := &countingPacker{Packer: tarsplit.NewJSONPacker(split)}
	payload, done, err := asm.NewInputTarStreamWithDone(count, packer, tarsplit.NewDiscardFilePutter())
	if err != nil {
		owners.Close()
		return st, err
	}
	err = use(payload)
	if err == nil {
		// What follows the end of the archive belongs to its digest too.
		_, err = io.Copy(io.Discard, payload)
	}
	payload.Close()
	if doneErr := <-done; doneErr != nil && (err == nil || !errors.Is(doneErr, io.ErrClosedPipe)) {
		err = doneErr
	}
	owners.Close()
	if err == nil {
		err = split.Flush()
	}
	if err == nil && packer.n != count.n {
		err = fmt.Errorf("%w: the tar cannot be given back as it is", io.ErrUnexpectedEOF)
	}
	st.digest, st.size = sum.Digest(), count.n
	st.uids, st.gids = slices.Sorted(maps.Keys(uids)), slices.Sorted(maps.Keys(gids))
	return st, err
}

type countingReader struct {
	r io.Reader
	n int64
}

func (c *countingReader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}

// countingPacker counts the bytes that a tar-split record stands for: of a tar
// that is cut off in the padding some are missing.
type countingPacker struct {
	tarsplit.Packer
	n int64
}

func (c *countingPacker) AddEntry(e tarsplit.Entry) (int, error) {
	if e.Type == tarsplit.FileType {
		c.n += e.Size
	} else {
		c.n += int64(len(e.Payload))
	}
	return c.Packer.AddEntry(e)
}
