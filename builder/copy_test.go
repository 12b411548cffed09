package builder

import (
	"archive/tar"
	"bytes"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// TestCopyTimes: a directory that others are copied into gets the time of the
// last of them, wherever it comes from, and any other that is made the time of
// the build.
func TestCopyTimes(t *testing.T) {
	bn := newBench(t)
	for i, name := range []string{"one/sub/file", "two/file", "file"} {
		bn.write(name, name)
		for p := name; p != "."; p = filepath.Dir(p) {
			if err := os.Chtimes(filepath.Join(bn.context, p), time.Time{}, time.Unix(int64(i+1), 0)); err != nil {
				t.Fatal(err)
			}
		}
	}
	var archive bytes.Buffer
	w := tar.NewWriter(&archive)
	w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "packed", Mode: 0o644, ModTime: time.Unix(9, 0)})
	w.Close()
	bn.write("archive.tar", archive.String())
	now := time.Unix(1000, 0)
	r := bn.mustBuild("FROM localhost/base\n"+
		"RUN mkdir -m 700 /there && chown 5:6 /there\n"+
		"COPY one /new\nCOPY one /made/slash/\nCOPY one two /both/\nCOPY one /again/\nCOPY two /again/\n"+
		"COPY one /there/\nCOPY file /plain/\nCOPY one file /last/\nADD archive.tar /unpacked/here/\n",
		func(o *Options) { o.Timestamp = &now })
	for name, want := range map[string]int64{
		"new": 1, "new/sub": 1, "made": 1000, "made/slash": 1, "both": 2, "again": 2, "there": 1,
		"plain": 1000, "plain/file": 3, "last": 1000, "unpacked": 1000, "unpacked/here": 1000, "unpacked/here/packed": 9,
	} {
		v, err := bn.b.Store.View(r.Image.Layer)
		if err != nil {
			t.Fatal(err)
		}
		info, err := v.Lstat(name)
		if err != nil || info.ModTime.Unix() != want {
			t.Errorf("time of %s = %d, %v, want %d", name, info.ModTime.Unix(), err, want)
		}
		v.Close()
	}
	if got := bn.stat(r, "there"); got != "40700 5:6" {
		t.Errorf("the directory that was there is now %s, want 40700 5:6", got)
	}
}
