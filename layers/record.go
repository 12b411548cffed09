package layers

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	digest "github.com/opencontainers/go-digest"
)

// Cache records are files in Dir("cache"), named like their key with "-" for
// ":" ("sha256-6c3c..."). A record is written to a file named ".new-..." and
// renamed, so that readers see all of it or nothing; whoever writes last wins.
// The first line says how long the two parts after it are, in bytes, and gives
// their CRC-32C:
//
//	cooper-record 1 RECORD-LENGTH RECORD-CRC INPUTS-LENGTH INPUTS-CRC
//
// The parts are JSON: the Record without its inputs, then the []Input, which a
// lookup does not need and does not read. The file's modification time is when
// the record last served. A file that is not so is no record.
const recordHeader = "cooper-record 1 %d %08x %d %08x\n"

// Key names a build step by the content of everything it depends on.
type Key = digest.Digest

// Input is one thing a step read, so that a miss can be explained.
type Input struct {
	// Kind is "parent", "op", "file", "arg" or whatever the builder
	// compares by.
	Kind string `json:"kind"`
	Name string `json:"name"`
	// Digest is of the input's content; Value may show a short one as it is.
	Digest digest.Digest `json:"digest,omitempty"`
	Value  string        `json:"value,omitempty"`
}

// Record is the remembered result of a step.
type Record struct {
	Key Key `json:"-"`
	// Layer and DiffID are the step's result; empty when only Value counts.
	Layer  string        `json:"layer,omitempty"`
	DiffID digest.Digest `json:"diffID,omitempty"`
	// Step is the text that the user knows the step by.
	Step string `json:"step,omitempty"`
	// Inputs are what the step read. Lookup and Records leave them out, see
	// Store.Inputs.
	Inputs []Input `json:"-"`
	// Created is when the step was executed. Used is when the record last
	// served, to the minute; PutRecord ignores it.
	Created time.Time `json:"created"`
	Used    time.Time `json:"-"`
	// Size is what the layer takes, in uncompressed bytes.
	Size int64 `json:"size,omitempty"`
	// Value is a remembered result that is no layer.
	Value []byte `json:"value,omitempty"`
}

const (
	newRecordPrefix = ".new-"
	// recordRead is how much of a file a lookup reads at once; few records
	// are longer without their inputs.
	recordRead = 4 << 10 // bytes
	// maxRecord bounds each part of a record, in bytes.
	maxRecord = 1 << 30
	// usedAfter is how stale Used may be.
	usedAfter = time.Minute
	// abandonedAfter is when a half-written file is nobody's any more.
	abandonedAfter = time.Hour
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// errNoRecord says that a file does not have the form of a record.
var errNoRecord = errors.New("damaged cache record")

// Lookup returns the record for k, without its inputs. A record whose layer is
// gone is no hit, nor is a damaged one. It may be called concurrently, by other
// processes too, as all the functions for records.
func (s *Store) Lookup(k Key) (Record, bool) {
	name, err := s.recordPath(k)
	if err != nil {
		return Record{}, false
	}
	r, err := readRecord(name)
	if err != nil {
		return Record{}, false
	}
	r.Key = k
	if r.Layer != "" {
		if _, err := s.Layer(r.Layer); err != nil {
			return Record{}, false
		}
	}
	if now := time.Now(); now.Sub(r.Used) > usedAfter {
		// For whoever prunes. That it cannot be written, perhaps in a
		// read-only store, does not make it less of a hit.
		_ = os.Chtimes(name, time.Time{}, now)
		r.Used = now
	}
	return r, true
}

// Inputs returns what the step recorded under k had read. Without such a record
// the error wraps ErrNotFound.
func (s *Store) Inputs(k Key) ([]Input, error) {
	name, err := s.recordPath(k)
	if err != nil {
		return nil, err
	}
	b, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		err = ErrNotFound
	}
	var inputs []Input
	if err == nil {
		inputs, err = parseInputs(b)
	}
	if err != nil {
		return nil, fmt.Errorf("inputs of cache record %s: %w", k, err)
	}
	return inputs, nil
}

// PutRecord remembers r with its inputs, in place of an earlier record with its
// key.
func (s *Store) PutRecord(r Record) (err error) {
	name, err := s.recordPath(r.Key)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("write cache record %s: %w", r.Key, err)
		}
	}()
	meta, err := json.Marshal(&r)
	if err != nil {
		return err
	}
	inputs, err := json.Marshal(r.Inputs)
	if err != nil {
		return err
	}
	b := fmt.Appendf(nil, recordHeader, len(meta), checksum(meta), len(inputs), checksum(inputs))
	return replaceFile(name, append(append(b, meta...), inputs...))
}

// replaceFile puts content into the file name, at once for all who look.
func replaceFile(name string, content []byte) (err error) {
	f, err := os.CreateTemp(filepath.Dir(name), newRecordPrefix)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			os.Remove(f.Name())
		}
	}()
	_, err = f.Write(content)
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), name)
}

// Records returns all records, the most recently used first, without their
// inputs. It does not ask whether their layers still exist.
func (s *Store) Records() ([]Record, error) {
	dir, err := s.Dir("cache")
	if err != nil {
		return nil, err
	}
	files, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("list cache records: %w", err)
	}
	var records []Record
	for _, f := range files {
		name := filepath.Join(dir, f.Name())
		if strings.HasPrefix(f.Name(), newRecordPrefix) {
			removeAbandoned(name)
			continue
		}
		r, err := readRecord(name)
		if err != nil {
			continue
		}
		r.Key = Key(strings.Replace(f.Name(), "-", ":", 1))
		if r.Key.Validate() == nil {
			records = append(records, r)
		}
	}
	slices.SortFunc(records, func(a, b Record) int {
		return cmp.Or(b.Used.Compare(a.Used), cmp.Compare(a.Key, b.Key))
	})
	return records, nil
}

// removeAbandoned removes what a killed process left half-written.
func removeAbandoned(name string) {
	if fi, err := os.Lstat(name); err == nil && time.Since(fi.ModTime()) > abandonedAfter {
		os.Remove(name)
	}
}

// DeleteRecord forgets the record for k. It is no error if there is none.
func (s *Store) DeleteRecord(k Key) error {
	name, err := s.recordPath(k)
	if err != nil {
		return err
	}
	if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("delete cache record: %w", err)
	}
	return nil
}

func (s *Store) recordPath(k Key) (string, error) {
	if err := k.Validate(); err != nil {
		return "", fmt.Errorf("cache key %q: %w", k, err)
	}
	dir, err := s.Dir("cache")
	if err != nil {
		return "", err
	}
	return filepath.Join(dir, strings.Replace(string(k), ":", "-", 1)), nil
}

// readRecord reads all but the inputs of the record in the file name.
func readRecord(name string) (Record, error) {
	f, err := os.Open(name)
	if err != nil {
		return Record{}, err
	}
	defer f.Close()
	buf := make([]byte, recordRead)
	n, err := io.ReadFull(f, buf)
	if err != nil && err != io.ErrUnexpectedEOF {
		return Record{}, err
	}
	h, rest, err := parseRecordHeader(buf[:n])
	if err != nil {
		return Record{}, err
	}
	if missing := h.meta - len(rest); missing > 0 {
		more := make([]byte, missing)
		if _, err := io.ReadFull(f, more); err != nil {
			return Record{}, errNoRecord
		}
		rest = append(rest, more...)
	}
	if checksum(rest[:h.meta]) != h.metaSum {
		return Record{}, errNoRecord
	}
	var r Record
	if err := json.Unmarshal(rest[:h.meta], &r); err != nil {
		return Record{}, err
	}
	fi, err := f.Stat()
	if err != nil {
		return Record{}, err
	}
	if fi.Size() != int64(h.length+h.meta+h.inputs) {
		return Record{}, errNoRecord // cut short
	}
	r.Used = fi.ModTime()
	return r, nil
}

func parseInputs(b []byte) ([]Input, error) {
	h, rest, err := parseRecordHeader(b)
	if err != nil {
		return nil, err
	}
	if len(rest) != h.meta+h.inputs || checksum(rest[h.meta:]) != h.inputsSum {
		return nil, errNoRecord
	}
	var inputs []Input
	return inputs, json.Unmarshal(rest[h.meta:], &inputs)
}

// recordParts is what a record's first line says.
type recordParts struct {
	length             int // of the line
	meta, inputs       int
	metaSum, inputsSum uint32
}

// parseRecordHeader reads the first line and returns what follows it.
func parseRecordHeader(b []byte) (h recordParts, rest []byte, err error) {
	end := slices.Index(b, '\n')
	if end < 0 {
		return h, nil, errNoRecord
	}
	n, err := fmt.Sscanf(string(b[:end+1]), recordHeader, &h.meta, &h.metaSum, &h.inputs, &h.inputsSum)
	if err != nil || n != 4 || h.meta < 0 || h.meta > maxRecord || h.inputs < 0 || h.inputs > maxRecord {
		return h, nil, errNoRecord
	}
	h.length = end + 1
	return h, b[end+1:], nil
}

func checksum(b []byte) uint32 { return crc32.Checksum(b, castagnoli) }
