package layers

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	digest "github.com/opencontainers/go-digest"
)

// benchWrite times cp -a (the floor), Write, and Write with its Commit, of the
// tree at root.
func benchWrite(b *testing.B, root string, bytes int64) {
	ctx := context.Background()
	s := testStore(b, "overlay")
	v, err := OpenView(root)
	must(b, err)
	defer v.Close()
	b.Run("cp", func(b *testing.B) {
		to := filepath.Join(testDir(b), "copy")
		b.SetBytes(bytes)
		for b.Loop() {
			must(b, exec.Command("cp", "-a", root, to).Run())
			b.StopTimer()
			must(b, os.RemoveAll(to))
			b.StartTimer()
		}
	})
	write := func(b *testing.B, o WriteOptions, commit bool) {
		b.SetBytes(bytes)
		b.ReportAllocs()
		for b.Loop() {
			sn, err := s.Prepare(ctx, nil)
			must(b, err)
			entries, err := v.Entries(ctx, walkAll(b, v))
			must(b, err)
			must(b, sn.Write(ctx, entries, o))
			b.StopTimer()
			if !commit {
				must(b, sn.Remove())
				b.StartTimer()
				continue
			}
			b.StartTimer()
			l, err := sn.Commit(ctx).Wait(ctx)
			must(b, err)
			b.StopTimer()
			must(b, s.Delete(l.ID))
			b.StartTimer()
		}
	}
	b.Run("write", func(b *testing.B) { write(b, WriteOptions{}, false) })
	b.Run("write+digests", func(b *testing.B) { write(b, WriteOptions{Digests: func(int, digest.Digest) {}}, false) })
	b.Run("write+commit", func(b *testing.B) { write(b, WriteOptions{}, true) })
}

// BenchmarkWrite20k copies 20,000 files of 4 KiB.
func BenchmarkWrite20k(b *testing.B) {
	benchWrite(b, benchTree(b, 20000, 4096), 20000*4096)
}

// BenchmarkWriteLarge copies one file of 512 MiB.
func BenchmarkWriteLarge(b *testing.B) {
	benchWrite(b, benchTree(b, 1, 512<<20), 512<<20)
}
