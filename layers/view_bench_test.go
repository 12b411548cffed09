package layers

import (
	"context"
	"os/exec"
	"testing"
)

// BenchmarkWalk walks 20,000 files in 250 directories; find -printf is the
// floor to compare with.
func BenchmarkWalk(b *testing.B) {
	root := benchTree(b, 20000, 16)
	b.Run("find", func(b *testing.B) {
		for b.Loop() {
			must(b, exec.Command("find", root, "-printf", "%s%T@\n").Run())
		}
	})
	for name, dirs := range map[string][]string{"one": {root}, "three": {testDir(b), root, testDir(b)}} {
		b.Run(name, func(b *testing.B) {
			v, err := OpenView(dirs...)
			must(b, err)
			defer v.Close()
			b.ReportAllocs()
			for b.Loop() {
				n := 0
				must(b, v.Walk(context.Background(), ".", nil, func(Info) error { n++; return nil }))
				if n != 20251 {
					b.Fatalf("%d files", n)
				}
			}
		})
	}
	b.Run("entries", func(b *testing.B) {
		v, err := OpenView(root)
		must(b, err)
		defer v.Close()
		infos := walkAll(b, v)
		for b.Loop() {
			_, err := v.Entries(context.Background(), infos)
			must(b, err)
		}
	})
}

func walkAll(t testing.TB, v *View) []Info {
	t.Helper()
	var infos []Info
	must(t, v.Walk(context.Background(), ".", nil, func(i Info) error { infos = append(infos, i); return nil }))
	return infos
}
