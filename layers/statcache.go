package layers

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"sync"
	"sync/atomic"
	"time"

	digest "github.com/opencontainers/go-digest"
)

// A stat cache is a file in Dir("stat"), named by the SHA-256 of the context's
// path in hex. It is replaced as a whole. Numbers are little endian:
//
//	magic     8 bytes  "cooperS1"
//	checksum  8 bytes  CRC64 (ISO) of all that follows
//	count     8 bytes  number of records
//	records   count times 96 bytes, sorted by path as a walk goes:
//	          end of the path (4), mode (4), uid (4), gid (4), size (8),
//	          modification time (8), change time (8) in ns since 1970,
//	          inode (8), device (8), SHA-256 of the content (32), age (8)
//	paths     one after another; a record's begins where the last one's ends
//
// The age is how often the cache was written since the record was last of use.
// A file that is not so is an empty cache.
const (
	statMagic  = "cooperS1"
	statHeader = 24 // bytes
	statRecord = 96 // bytes
	// The parts of a record.
	statStat   = 4
	statDigest = 56
	statAge    = 88
)

const (
	// maxStatAge is how many times the cache is written before a record that
	// serves nobody is dropped.
	maxStatAge = 16
	// maxStatRecords bounds the cache: about 150 bytes each.
	maxStatRecords = 1 << 20
	// A file changed less than this before the cache was opened may change
	// again without a change that stat shows, because clocks tick. File
	// systems whose times are whole seconds get the second.
	statMargin       = 100 * time.Millisecond
	statMarginCoarse = 2 * time.Second
)

// StatCache remembers the SHA-256 digests of a build context's files by what
// stat says about them, so that unchanged files are not read again. As any
// change sets a file's change time, a hit vouches for mode, owner and extended
// attributes too: a caller that Puts only files without attributes need not
// look for them after a hit. It may be used concurrently.
type StatCache struct {
	name   string
	opened time.Time
	// records and paths are the file's.
	records []byte
	paths   string
	hint    atomic.Int64    // where the next path of a walk is
	hits    []atomic.Uint32 // a bit for each record

	mu   sync.Mutex
	puts []statPut
}

// statPut is a record that is not in the file yet.
type statPut struct {
	path string
	data [statRecord]byte
}

// StatCache opens the stat cache of the build context whose absolute path is
// name. A missing or damaged one is empty. It must be opened before the context
// is walked.
func (s *Store) StatCache(name string) (*StatCache, error) {
	dir, err := s.Dir("stat")
	if err != nil {
		return nil, err
	}
	c := &StatCache{name: filepath.Join(dir, digest.FromString(name).Encoded()), opened: time.Now()}
	b, err := os.ReadFile(c.name)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("stat cache of %s: %w", name, err)
	}
	c.load(b)
	return c, nil
}

// load takes the content of a cache file, or nothing if it is damaged.
func (c *StatCache) load(b []byte) {
	if len(b) < statHeader || string(b[:8]) != statMagic || crc64ISO(0, b[16:]) != binary.LittleEndian.Uint64(b[8:]) {
		return
	}
	n := binary.LittleEndian.Uint64(b[16:])
	b = b[statHeader:]
	if n > maxStatRecords || uint64(len(b)) < n*statRecord {
		return
	}
	records, paths := b[:n*statRecord], b[n*statRecord:]
	last := uint32(0)
	for r := records; len(r) > 0; r = r[statRecord:] {
		end := binary.LittleEndian.Uint32(r)
		if end < last || int64(end) > int64(len(paths)) {
			return
		}
		last = end
	}
	c.records, c.paths = records, string(paths)
	c.hits = make([]atomic.Uint32, (n+31)/32)
}

func (c *StatCache) count() int { return len(c.records) / statRecord }

func (c *StatCache) record(i int) []byte { return c.records[i*statRecord : (i+1)*statRecord] }

func (c *StatCache) path(i int) string {
	start := uint32(0)
	if i > 0 {
		start = binary.LittleEndian.Uint32(c.record(i - 1))
	}
	return c.paths[start:binary.LittleEndian.Uint32(c.record(i))]
}

// find returns the index of a path's record. A walk asks in the order of the
// records, so the one after the last is tried first.
func (c *StatCache) find(path string) (int, bool) {
	n := c.count()
	if i := int(c.hint.Load()); i < n && c.path(i) == path {
		return i, true
	}
	i := sort.Search(n, func(i int) bool { return comparePaths(c.path(i), path) >= 0 })
	return i, i < n && c.path(i) == path
}

// Lookup returns the digest that was Put for info's file, if nothing that stat
// shows has changed since.
func (c *StatCache) Lookup(info Info) (digest.Digest, bool) {
	i, ok := c.find(info.Path)
	if !ok {
		return "", false
	}
	c.hint.Store(int64(i + 1))
	var want [statRecord]byte
	packStat(&want, &info)
	r := c.record(i)
	if !bytes.Equal(r[statStat:statDigest], want[statStat:statDigest]) {
		return "", false
	}
	c.hits[i/32].Or(1 << (i % 32))
	var text [71]byte
	n := copy(text[:], "sha256:")
	hex.Encode(text[n:], r[statDigest:statAge])
	return digest.Digest(text[:]), true
}

// packStat fills the part of r that says what stat says.
func packStat(r *[statRecord]byte, info *Info) {
	le := binary.LittleEndian
	le.PutUint32(r[4:], info.Mode)
	le.PutUint32(r[8:], info.UID)
	le.PutUint32(r[12:], info.GID)
	le.PutUint64(r[16:], uint64(info.Size))
	le.PutUint64(r[24:], uint64(info.ModTime.UnixNano()))
	le.PutUint64(r[32:], uint64(info.ChangeTime.UnixNano()))
	le.PutUint64(r[40:], info.Ino)
	le.PutUint64(r[48:], info.Dev)
}

// Put remembers the digest of info's file. The info must be from before the
// file was read and from after the cache was opened. A file that changed only
// just now is not remembered, nor is a digest other than a SHA-256.
func (c *StatCache) Put(info Info, d digest.Digest) {
	if d.Algorithm() != digest.SHA256 || d.Validate() != nil || !c.settled(&info) {
		return
	}
	p := statPut{path: info.Path}
	packStat(&p.data, &info)
	if _, err := hex.Decode(p.data[statDigest:statAge], []byte(d.Encoded())); err != nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.puts = append(c.puts, p)
}

// settled reports whether any later change of the file will show.
func (c *StatCache) settled(info *Info) bool {
	margin := statMargin
	if info.ChangeTime.Nanosecond() == 0 {
		margin = statMarginCoarse
	}
	limit := c.opened.Add(-margin)
	return info.ChangeTime.Before(limit) && info.ModTime.Before(limit)
}

// Save writes the cache for the next build, if there is anything new. When
// several processes save, the last one wins.
func (c *StatCache) Save() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.puts) == 0 {
		return nil
	}
	byPath := func(a, b statPut) int { return comparePaths(a.path, b.path) }
	if !slices.IsSortedFunc(c.puts, byPath) {
		slices.SortStableFunc(c.puts, byPath)
	}
	if err := replaceFile(c.name, c.merge()); err != nil {
		return fmt.Errorf("write stat cache: %w", err)
	}
	return nil
}

// merge returns the content of the new file: the old records that are still of
// use, and the new ones.
func (c *StatCache) merge() []byte {
	var records, paths []byte
	count := 0
	add := func(path string, r []byte, age uint64) {
		if age > maxStatAge || count == maxStatRecords {
			return
		}
		paths = append(paths, path...)
		records = append(records, r...)
		r = records[count*statRecord:]
		binary.LittleEndian.PutUint32(r, uint32(len(paths)))
		binary.LittleEndian.PutUint64(r[statAge:], age)
		count++
	}
	old := 0
	keepBefore := func(path string, all bool) {
		for ; old < c.count() && (all || comparePaths(c.path(old), path) < 0); old++ {
			age := binary.LittleEndian.Uint64(c.record(old)[statAge:]) + 1
			if c.hits[old/32].Load()&(1<<(old%32)) != 0 {
				age = 0
			}
			add(c.path(old), c.record(old), age)
		}
	}
	for i := range c.puts {
		p := &c.puts[i]
		if i+1 < len(c.puts) && c.puts[i+1].path == p.path {
			continue // the last one counts
		}
		keepBefore(p.path, false)
		if old < c.count() && c.path(old) == p.path {
			old++
		}
		add(p.path, p.data[:], 0)
	}
	keepBefore("", true)
	b := make([]byte, statHeader, statHeader+len(records)+len(paths))
	copy(b, statMagic)
	binary.LittleEndian.PutUint64(b[16:], uint64(count))
	b = append(append(b, records...), paths...)
	binary.LittleEndian.PutUint64(b[8:], crc64ISO(0, b[16:]))
	return b
}
