package layers

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// fillUpper fills a snapshot's upper directory with files as a package manager
// would leave them.
func fillUpper(b *testing.B, upper string) (bytes int64) {
	b.Helper()
	content := make([]byte, 4096)
	for i := range content {
		content[i] = byte(i * 7)
	}
	for i := range 20_000 {
		dir := filepath.Join(upper, fmt.Sprintf("d%d/e%d", i%40, i%7))
		if i < 280 {
			if err := os.MkdirAll(dir, 0o755); err != nil {
				b.Fatal(err)
			}
		}
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("file%d", i)), content, 0o644); err != nil {
			b.Fatal(err)
		}
	}
	return 20_000 * int64(len(content))
}

// BenchmarkDiff makes the tar and digest of 20,000 files of 4 KiB; the other
// two are what it competes with.
func BenchmarkDiff(b *testing.B) {
	s := testStore(b, "overlay")
	sn := prepare(b, s, nil)
	size := fillUpper(b, sn.area.upper())
	b.Run("upper", func(b *testing.B) {
		b.SetBytes(size)
		b.ReportAllocs()
		for b.Loop() {
			st, err := sn.area.stream(context.Background(), sn)
			if err != nil {
				b.Fatal(err)
			}
			st.close()
		}
	})
	b.Run("tar-sha256sum", func(b *testing.B) {
		b.SetBytes(size)
		for b.Loop() {
			cmd := exec.Command("sh", "-c", "tar c . | sha256sum")
			cmd.Dir = sn.area.upper()
			if err := cmd.Run(); err != nil {
				b.Fatal(err)
			}
		}
	})
	l, err := sn.Commit(context.Background()).Wait(context.Background())
	if err != nil {
		b.Fatal(err)
	}
	b.Run("layer", func(b *testing.B) {
		b.SetBytes(size)
		b.ReportAllocs()
		for b.Loop() {
			rc, err := s.Diff(context.Background(), l.ID)
			if err != nil {
				b.Fatal(err)
			}
			if _, err := io.Copy(io.Discard, rc); err != nil {
				b.Fatal(err)
			}
			rc.Close()
		}
	})
}

// BenchmarkDiffLarge makes the tar and digest of one file of 256 MiB.
func BenchmarkDiffLarge(b *testing.B) {
	s := testStore(b, "overlay")
	sn := prepare(b, s, nil)
	content := bytes.Repeat([]byte("0123456789abcdef"), 16<<20)
	if err := os.WriteFile(filepath.Join(sn.area.upper(), "large"), content, 0o644); err != nil {
		b.Fatal(err)
	}
	b.Run("upper", func(b *testing.B) {
		b.SetBytes(int64(len(content)))
		for b.Loop() {
			st, err := sn.area.stream(context.Background(), sn)
			if err != nil {
				b.Fatal(err)
			}
			st.close()
		}
	})
	b.Run("sha256sum", func(b *testing.B) {
		b.SetBytes(int64(len(content)))
		for b.Loop() {
			if err := exec.Command("sha256sum", filepath.Join(sn.area.upper(), "large")).Run(); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkApply unpacks 20,000 files of 4 KiB into a layer; the other is what
// it competes with.
func BenchmarkApply(b *testing.B) {
	s := testStore(b, "overlay")
	sn := prepare(b, s, nil)
	size := fillUpper(b, sn.area.upper())
	packed, err := exec.Command("tar", "c", "-C", sn.area.upper(), ".").Output()
	if err != nil {
		b.Fatal(err)
	}
	b.Run("layer", func(b *testing.B) {
		b.SetBytes(size)
		b.ReportAllocs()
		for b.Loop() {
			l, err := s.Apply(context.Background(), "", bytes.NewReader(packed))
			if err != nil {
				b.Fatal(err)
			}
			b.StopTimer()
			if err := s.Delete(l.ID); err != nil {
				b.Fatal(err)
			}
			b.StartTimer()
		}
	})
	b.Run("tar-x", func(b *testing.B) {
		b.SetBytes(size)
		for i := 0; b.Loop(); i++ {
			dir := filepath.Join(filepath.Dir(s.Root()), fmt.Sprint("x", i))
			if err := os.Mkdir(dir, 0o755); err != nil {
				b.Fatal(err)
			}
			cmd := exec.Command("tar", "x", "-C", dir)
			cmd.Stdin = bytes.NewReader(packed)
			if err := cmd.Run(); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkStep is what a step costs besides its process: prepare, mount, write
// one file, commit, and wait for the layer.
func BenchmarkStep(b *testing.B) {
	s := testStore(b, "overlay")
	ctx := context.Background()
	var parent Parent
	for i := 0; b.Loop(); i++ {
		if i%20 == 0 {
			parent = nil // a build has some twenty steps
		}
		sn, err := s.Prepare(ctx, parent)
		if err != nil {
			b.Fatal(err)
		}
		root, err := sn.Mount()
		if err != nil {
			b.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(root, "f"), []byte(fmt.Sprint(i)), 0o644); err != nil {
			b.Fatal(err)
		}
		l, err := sn.Commit(ctx).Wait(ctx)
		if err != nil {
			b.Fatal(err)
		}
		parent = l
	}
}
