package layers

import (
	"bufio"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"unicode/utf8"

	"golang.org/x/sys/unix"
)

// splitRecord makes a tar-split record, from which Diff makes a layer's tar
// again. It has one JSON object per line: headers and padding as they are, files
// by name, size and CRC64.
type splitRecord struct {
	split   *os.File
	record  *bufio.Writer
	entries int
	segment []byte // headers and padding not yet recorded
	line    []byte
}

func newSplitRecord() (*splitRecord, error) {
	fd, err := unix.MemfdCreate("tar-split", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("tar-split record: %w", os.NewSyscallError("memfd_create", err))
	}
	w := &splitRecord{split: os.NewFile(uintptr(fd), "tar-split")}
	w.record = bufio.NewWriterSize(w.split, 64<<10)
	return w, nil
}

// recordSegment records the headers and padding gathered so far.
func (w *splitRecord) recordSegment() error {
	if len(w.segment) == 0 {
		return nil
	}
	w.line = append(w.line[:0], `{"type":2,"payload":"`...)
	w.line = base64.StdEncoding.AppendEncode(w.line, w.segment)
	w.segment = w.segment[:0]
	return w.endLine()
}

// recordFile records the content of a regular file, which is not empty.
func (w *splitRecord) recordFile(name string, size int64, sum uint64) error {
	w.line = append(w.line[:0], `{"type":1,`...)
	if utf8.ValidString(name) {
		quoted, err := json.Marshal(name)
		if err != nil {
			return err
		}
		w.line = append(append(w.line, `"name":`...), quoted...)
	} else {
		w.line = append(w.line, `"name_raw":"`...)
		w.line = append(base64.StdEncoding.AppendEncode(w.line, []byte(name)), '"')
	}
	w.line = append(w.line, `,"size":`...)
	w.line = strconv.AppendInt(w.line, size, 10)
	w.line = append(w.line, `,"payload":"`...)
	var crc [8]byte
	for i := range crc {
		crc[i] = byte(sum >> (56 - 8*i))
	}
	w.line = base64.StdEncoding.AppendEncode(w.line, crc[:])
	return w.endLine()
}

func (w *splitRecord) endLine() error {
	w.line = append(w.line, `","position":`...)
	w.line = strconv.AppendInt(w.line, int64(w.entries), 10)
	w.line = append(w.line, '}', '\n')
	w.entries++
	_, err := w.record.Write(w.line)
	return err
}

// finish records what is left and returns the record, which is the caller's.
func (w *splitRecord) finish() (*os.File, error) {
	if err := w.recordSegment(); err != nil {
		return nil, err
	}
	if err := w.record.Flush(); err != nil {
		return nil, err
	}
	split := w.split
	w.split = nil
	return split, nil
}

// close releases an unfinished record; after finish it does nothing.
func (w *splitRecord) close() error {
	if w.split == nil {
		return nil
	}
	split := w.split
	w.split = nil
	return split.Close()
}
