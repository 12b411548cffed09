package layers

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	digest "github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"
)

// settledInfo describes a file that has not changed for an hour.
func settledInfo(path string) Info {
	then := time.Now().Add(-time.Hour)
	return Info{Path: path, Mode: unix.S_IFREG | 0o644, UID: 1, GID: 2, Size: 3, ModTime: then, ChangeTime: then, Dev: 4, Ino: 5}
}

func openStatCache(t testing.TB, s *Store) *StatCache {
	t.Helper()
	c, err := s.StatCache("/some/context")
	must(t, err)
	return c
}

func TestStatCacheMissesWhatChanged(t *testing.T) {
	s := testStore(t, "vfs")
	c := openStatCache(t, s)
	info, d := settledInfo("a/b"), digest.FromString("content")
	c.Put(settledInfo("a"), digest.FromString("other"))
	c.Put(info, digest.FromString("older"))
	c.Put(info, d)
	must(t, c.Save())
	c = openStatCache(t, s)
	for name, change := range map[string]func(*Info){
		"":       func(*Info) {},
		"path":   func(i *Info) { i.Path = "a/c" },
		"mode":   func(i *Info) { i.Mode ^= 1 },
		"uid":    func(i *Info) { i.UID++ },
		"gid":    func(i *Info) { i.GID++ },
		"size":   func(i *Info) { i.Size++ },
		"mtime":  func(i *Info) { i.ModTime = i.ModTime.Add(1) },
		"ctime":  func(i *Info) { i.ChangeTime = i.ChangeTime.Add(1) },
		"inode":  func(i *Info) { i.Ino++ },
		"device": func(i *Info) { i.Dev++ },
	} {
		i := info
		change(&i)
		got, ok := c.Lookup(i)
		if ok != (name == "") || ok && got != d {
			t.Errorf("changed %q: Lookup = %q, %v", name, got, ok)
		}
	}
	other, err := s.StatCache("/other/context")
	must(t, err)
	if _, ok := other.Lookup(info); ok {
		t.Error("another context's cache hit")
	}
}

// TestStatCacheDistrustsFreshFiles changes a file twice within a tick.
func TestStatCacheDistrustsFreshFiles(t *testing.T) {
	s := testStore(t, "vfs")
	dir := testDir(t)
	name := filepath.Join(dir, "f")
	must(t, os.WriteFile(name, []byte("one"), 0o644))
	v, err := OpenView(dir)
	must(t, err)
	defer v.Close()
	c := openStatCache(t, s)
	info, err := v.Lstat("f")
	must(t, err)
	c.Put(info, digest.FromString("one"))
	must(t, c.Save())
	must(t, os.WriteFile(name, []byte("two"), 0o644))
	must(t, os.Chtimes(name, time.Time{}, info.ModTime))
	info, err = v.Lstat("f")
	must(t, err)
	if d, ok := openStatCache(t, s).Lookup(info); ok {
		t.Errorf("Lookup = %s for a file that changed at once", d)
	}
	second := settledInfo("g")
	second.ChangeTime = time.Unix(time.Now().Unix(), 0)
	c.Put(second, digest.FromString("g"))
	must(t, c.Save())
	if _, ok := openStatCache(t, s).Lookup(second); ok {
		t.Error("a file with a fresh change time in whole seconds was trusted")
	}
}

func TestStatCacheDropsWhatServesNobody(t *testing.T) {
	s := testStore(t, "vfs")
	c := openStatCache(t, s)
	d := digest.FromString("")
	c.Put(settledInfo("gone"), d)
	c.Put(settledInfo("used"), d)
	must(t, c.Save())
	for i := range maxStatAge + 1 {
		c = openStatCache(t, s)
		if _, ok := c.Lookup(settledInfoLike(c, "used")); !ok {
			t.Fatal("used record was dropped")
		}
		c.Put(settledInfo(fmt.Sprint("new", i)), d)
		must(t, c.Save())
	}
	var got []string
	c = openStatCache(t, s)
	for i := range min(c.count(), 2) {
		got = append(got, c.path(i))
	}
	if diff := cmp.Diff([]string{"new0", "new1"}, got); diff != "" {
		t.Errorf("paths (-want +got):\n%s", diff)
	}
}

// settledInfoLike returns the info that c has for path.
func settledInfoLike(c *StatCache, path string) Info {
	i, ok := c.find(path)
	if !ok {
		return Info{}
	}
	var at [2]int64
	for n, from := range []int{24, 32} {
		for b := range 8 {
			at[n] |= int64(c.record(i)[from+b]) << (8 * b)
		}
	}
	info := settledInfo(path)
	info.ModTime, info.ChangeTime = time.Unix(0, at[0]), time.Unix(0, at[1])
	return info
}

func TestDamagedStatCacheIsEmpty(t *testing.T) {
	s := testStore(t, "vfs")
	c := openStatCache(t, s)
	for i := range 3 {
		c.Put(settledInfo(fmt.Sprint(i)), digest.FromString(""))
	}
	must(t, c.Save())
	good, err := os.ReadFile(c.name)
	must(t, err)
	for i := range good {
		bad := bytes.Clone(good)
		bad[i] ^= 0x40
		for _, b := range [][]byte{good[:i], bad} {
			must(t, os.WriteFile(c.name, b, 0o600))
			if c := openStatCache(t, s); c.count() != 0 {
				t.Errorf("damaged at byte %d: %d records", i, c.count())
			}
		}
	}
}

func FuzzStatCacheLoad(f *testing.F) {
	c := &StatCache{}
	c.puts = []statPut{{path: "a"}, {path: "a/b"}}
	f.Add(c.merge()[16:])
	f.Fuzz(func(t *testing.T, b []byte) {
		b = append(make([]byte, 16), b...)
		copy(b, statMagic)
		sum := crc64ISO(0, b[16:])
		for i := range 8 {
			b[8+i] = byte(sum >> (8 * i))
		}
		var c StatCache
		c.load(b)
		c.Lookup(Info{Path: "a"})
		c.Lookup(Info{Path: "a/b"})
		c.puts = []statPut{{path: "a"}}
		c.merge()
	})
}

// benchTree makes files small files in directories of 100, and returns the
// root.
func benchTree(b testing.TB, files, size int) string {
	b.Helper()
	root := filepath.Join(testDir(b), "tree")
	content := bytes.Repeat([]byte("x"), size)
	for i := range files {
		dir := filepath.Join(root, fmt.Sprintf("d%03d/e%d", i/400, i/100%4))
		if i%100 == 0 {
			must(b, os.MkdirAll(dir, 0o755))
		}
		copy(content, fmt.Sprint(i, " "))
		must(b, os.WriteFile(filepath.Join(dir, fmt.Sprintf("file%05d.txt", i)), content, 0o644))
	}
	return root
}

// BenchmarkStatCache opens a cache of 50,000 files and looks all up.
func BenchmarkStatCache(b *testing.B) {
	s := testStore(b, "vfs")
	c := openStatCache(b, s)
	var infos []Info
	for i := range 50000 {
		info := settledInfo(fmt.Sprintf("src/package%03d/file%06d.go", i/100, i))
		info.Ino = uint64(i)
		infos = append(infos, info)
		c.Put(info, digest.FromString(info.Path))
	}
	b.Run("save", func(b *testing.B) {
		for b.Loop() {
			must(b, c.Save())
		}
	})
	b.Run("open", func(b *testing.B) {
		for b.Loop() {
			openStatCache(b, s)
		}
	})
	b.Run("lookup", func(b *testing.B) {
		c := openStatCache(b, s)
		for b.Loop() {
			for i := range infos {
				if _, ok := c.Lookup(infos[i]); !ok {
					b.Fatal("miss")
				}
			}
		}
	})
}

// BenchmarkUnchanged is what an unchanged context costs: a walk and a lookup
// for each of 20,000 files.
func BenchmarkUnchanged(b *testing.B) {
	s := testStore(b, "vfs")
	v, err := OpenView(benchTree(b, 20000, 16))
	must(b, err)
	defer v.Close()
	time.Sleep(2 * statMargin)
	for i := 0; b.Loop(); i++ {
		c := openStatCache(b, s)
		misses := 0
		must(b, v.Walk(context.Background(), ".", nil, func(info Info) error {
			if !info.IsRegular() {
				return nil
			}
			if _, ok := c.Lookup(info); !ok {
				misses++
				c.Put(info, digest.FromString(""))
			}
			return nil
		}))
		must(b, c.Save())
		if i > 0 && misses > 0 {
			b.Fatalf("%d misses", misses)
		}
	}
}
