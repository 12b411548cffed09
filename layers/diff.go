package layers

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
	"strings"

	"github.com/klauspost/compress/gzip"
	tarsplit "github.com/vbatts/tar-split/tar/storage"
	"go.podman.io/storage"
	"go.podman.io/storage/pkg/archive"
	"golang.org/x/sys/unix"
)

// Diff returns the uncompressed tar of a layer; its digest is the DiffID. The
// caller closes it. Reading holds no lock of the store, so that a slow reader
// keeps nobody waiting; a layer that is deleted meanwhile is an error.
func (s *Store) Diff(ctx context.Context, id string) (io.ReadCloser, error) {
	dirs, err := s.layerDirs(id)
	if err != nil {
		return nil, err
	}
	if len(dirs) == 0 {
		return nil, fmt.Errorf("layer %q: %w", id, ErrNotFound)
	}
	record, err := os.Open(filepath.Join(s.Root(), s.DriverName()+"-layers", id+".tar-split.gz"))
	if errors.Is(err, fs.ErrNotExist) {
		// In an additional store, or a layer that was never a tar.
		return s.libraryDiff(id)
	}
	if err != nil {
		return nil, fmt.Errorf("diff of layer %s: %w", id, err)
	}
	files, err := openDirs(dirs[:1])
	if err != nil {
		record.Close()
		return nil, fmt.Errorf("diff of layer %s: %w", id, err)
	}
	read, write := io.Pipe()
	go func() {
		defer record.Close()
		defer closeFiles(files)
		err := assemble(ctx, record, files[0], write)
		if err != nil {
			err = fmt.Errorf("diff of layer %s: %w", id, err)
		}
		write.CloseWithError(err)
	}()
	return &bufferedPipe{Reader: bufio.NewReaderSize(read, 64<<10), pipe: read}, nil
}

// bufferedPipe makes small reads from a pipe cheap.
type bufferedPipe struct {
	*bufio.Reader
	pipe *io.PipeReader
}

func (b *bufferedPipe) Close() error { return b.pipe.Close() }

// libraryDiff lets the storage library make the tar, with the layer store
// locked until it is closed.
func (s *Store) libraryDiff(id string) (io.ReadCloser, error) {
	plain := archive.Uncompressed
	rc, err := s.store.Diff("", id, &storage.DiffOptions{Compression: &plain})
	if err != nil {
		return nil, fmt.Errorf("diff of layer %s: %w", id, err)
	}
	return rc, nil
}

// assemble writes the tar that a tar-split record describes, with file content
// from dir.
func assemble(ctx context.Context, record io.Reader, dir *os.File, w io.Writer) error {
	unzip, err := gzip.NewReader(bufio.NewReaderSize(record, 64<<10))
	if err != nil {
		return fmt.Errorf("tar-split record: %w", err)
	}
	out := bufio.NewWriterSize(w, digestBlock)
	entries := tarsplit.NewJSONUnpacker(bufio.NewReaderSize(unzip, 64<<10))
	buf := make([]byte, 64<<10)
	for {
		e, err := entries.Next()
		if err == io.EOF {
			return out.Flush()
		}
		if err != nil {
			return fmt.Errorf("tar-split record: %w", err)
		}
		if err := context.Cause(ctx); err != nil {
			return err
		}
		switch {
		case e.Type == tarsplit.SegmentType:
			_, err = out.Write(e.Payload)
		case e.Type == tarsplit.FileType && e.Size > 0:
			err = assembleFile(e, dir, out, buf)
		}
		if err != nil {
			return err
		}
	}
}

// errChanged says that a file is not what the layer's tar had.
var errChanged = errors.New("the file in the layer has changed")

func assembleFile(e *tarsplit.Entry, dir *os.File, w io.Writer, buf []byte) error {
	name := strings.Trim(filepath.Clean("/"+e.GetName()), "/")
	fd, err := openInRoot(int(dir.Fd()), name)
	if err != nil {
		return fmt.Errorf("open /%s: %w", name, err)
	}
	defer unix.Close(fd)
	crc := uint64(0)
	for left := e.Size; left > 0; {
		n, err := read(fd, buf[:min(left, int64(len(buf)))])
		if err != nil {
			return fmt.Errorf("read /%s: %w", name, err)
		}
		if n == 0 {
			return fmt.Errorf("read /%s: %w", name, errChanged)
		}
		crc = crc64ISO(crc, buf[:n])
		left -= int64(n)
		if _, err := w.Write(buf[:n]); err != nil {
			return err
		}
	}
	var sum [8]byte
	for i := range sum {
		sum[i] = byte(crc >> (56 - 8*i))
	}
	if !bytes.Equal(sum[:], e.Payload) {
		return fmt.Errorf("read /%s: %w", name, errChanged)
	}
	return nil
}

// openInRoot opens a file of a layer for reading. A foreign tar may have put a
// symbolic link on the way; it leads nowhere but within the layer.
func openInRoot(dir int, name string) (int, error) {
	fd, err := openBeneath(dir, name, unix.O_RDONLY)
	if err != unix.ELOOP && err != unix.ENOTDIR && err != unix.EXDEV {
		return fd, err
	}
	how := unix.OpenHow{Flags: unix.O_RDONLY | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS}
	for {
		fd, err := unix.Openat2(dir, name, &how)
		if err != unix.EINTR && err != unix.EAGAIN {
			return fd, err
		}
	}
}
