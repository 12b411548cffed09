package dockerfile_test

import (
	"bytes"
	"fmt"
	"path"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/moby/patternmatcher"
	"github.com/moby/patternmatcher/ignorefile"

	"cooper/dockerfile"
)

func TestIgnoreMatch(t *testing.T) {
	for _, tc := range []struct {
		name    string
		file    string
		ignored []string
		kept    []string
	}{
		{"empty", "# comment\n\n   \n", nil, []string{".", "a", "#x"}},
		{"literal", "a\nb/c\n", []string{"a", "a/x/y", "b/c", "b/c/d"}, []string{"b", "b/a", "x/a", "aa"}},
		{"leading and trailing slash", "/a/\n./b\n", []string{"a", "a/x", "b"}, []string{"x/a"}},
		{"star stays in one directory", "*.md\nsrc/*.o\n", []string{"README.md", "src/x.o"}, []string{"doc/README.md", "src/y/x.o"}},
		{"question mark", "temp?\n", []string{"tempa"}, []string{"temp", "tempab"}},
		{"class", "[ab].txt\n", []string{"a.txt"}, []string{"c.txt"}},
		{"double star in front", "**/node_modules\n", []string{"node_modules", "a/b/node_modules", "node_modules/x"}, []string{"node_modules2"}},
		{"double star inside", "a/**/z\n", []string{"a/z", "a/b/c/z"}, []string{"z", "b/z"}},
		{"double star at the end", "a/**\n", []string{"a/b", "a/b/c"}, []string{"a"}},
		{"everything", "*\n", []string{"a", ".git"}, []string{"."}},
		{"back in", "*\n!keep\n!dir/x\n", []string{"a", "dir", "dir/y"}, []string{"keep", "keep/a", "dir/x"}},
		{"last match wins", "!a\na\nb\n!b\n!c/d\nc\n", []string{"a", "c/d"}, []string{"b"}},
		{"hidden", ".*\n", []string{".git", ".git/config"}, []string{"a.b"}},
		{"byte order mark and CRLF", "\ufeffa\r\nb\r\n", []string{"a", "b"}, []string{"c"}},
		{"space around", "  a  \n! b \n", []string{"a"}, []string{"b"}},
		{"escaped", `\!a` + "\n" + `b\*` + "\n", []string{"!a", "b*"}, []string{"a", "bx"}},
		{"dots leave the context", "../a\n", nil, []string{"a"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			ignore, err := dockerfile.ParseIgnore([]byte(tc.file))
			if err != nil {
				t.Fatal(err)
			}
			for _, name := range tc.ignored {
				if !ignore.Match(name) {
					t.Errorf("Match(%q) = false, want true", name)
				}
			}
			for _, name := range tc.kept {
				if ignore.Match(name) {
					t.Errorf("Match(%q) = true, want false", name)
				}
			}
		})
	}
}

func TestIgnoreSkip(t *testing.T) {
	for _, tc := range []struct {
		file string
		want map[string]bool // directory -> skipped
	}{
		{"a\n", map[string]bool{"a": true, "b": false, "a/b": true}},
		{"*\n!a/b\n", map[string]bool{"a": false, "a/b": false, "a/c": true, "x": true, "b": true}},
		{"*\n!*/keep\n", map[string]bool{"x": false, "x/y": true}},
		{"*\n!**/keep\n", map[string]bool{"x": false, "x/y/z": false}},
		{"a\n!b\n", map[string]bool{"a": true, "b": false}},
		{"a\n!a[^x]b\n", map[string]bool{"a": false}},
	} {
		ignore, err := dockerfile.ParseIgnore([]byte(tc.file))
		if err != nil {
			t.Fatal(err)
		}
		got := map[string]bool{}
		for dir := range tc.want {
			got[dir] = ignore.Skip(dir, true)
		}
		if diff := cmp.Diff(tc.want, got); diff != "" {
			t.Errorf("Skip with %q (-want +got):\n%s", tc.file, diff)
		}
		if !ignore.Skip("a", false) && ignore.Match("a") {
			t.Errorf("Skip with %q keeps an ignored file", tc.file)
		}
	}
}

func TestIgnoreNil(t *testing.T) {
	var ignore *dockerfile.Ignore
	if ignore.Match("a") || ignore.Skip("a", true) {
		t.Error("nil Ignore ignores something")
	}
}

func TestParseIgnoreErrors(t *testing.T) {
	for _, file := range []string{"[\n", "a\n!\n", "a\x00b\n", "\xff\n"} {
		if _, err := dockerfile.ParseIgnore([]byte(file)); err == nil {
			t.Errorf("ParseIgnore(%q) = nil error", file)
		}
	}
}

func TestIgnoreNames(t *testing.T) {
	want := []string{"dir/Dockerfile.dev.dockerignore", ".dockerignore", ".containerignore"}
	if diff := cmp.Diff(want, dockerfile.IgnoreNames("dir/Dockerfile.dev")); diff != "" {
		t.Error(diff)
	}
}

func TestIgnoreConcurrent(t *testing.T) {
	ignore, err := dockerfile.ParseIgnore([]byte("*.o\n**/tmp\n!keep/**\n"))
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for n := range 200 {
				ignore.Skip(fmt.Sprintf("d%d/e%d/x.o", n%7, g), n%2 == 0)
			}
		})
	}
	wg.Wait()
}

// FuzzIgnore compares Match with the library's own function for lists of
// patterns, and makes sure that Skip leaves out nothing that Match keeps.
func FuzzIgnore(f *testing.F) {
	for _, file := range []string{"a\n!a/b\n", "**/x\n", "*\n!k*/[a-c]\n", "a/**/b\n!a/?/b\n", "\\*\n", "!!x\n", "a/..\n", "**\n", "^*\n", "*|\n", "a\n!a|b\n"} {
		f.Add(file, "a/b/c")
		f.Add(file, "k/b")
	}
	f.Fuzz(func(t *testing.T, file, name string) {
		if len(file) > 500 || len(name) > 200 {
			return
		}
		ignore, err := dockerfile.ParseIgnore([]byte(file))
		if err != nil {
			return
		}
		name = strings.TrimPrefix(path.Join("/", name), "/")
		got := ignore.Match(name)
		if name == "" {
			return
		}
		lines, err := ignorefile.ReadAll(bytes.NewReader([]byte(file)))
		if err != nil {
			t.Fatal(err)
		}
		matcher, err := patternmatcher.New(lines)
		if err != nil {
			t.Fatal(err)
		}
		want, err := matcher.MatchesOrParentMatches(name)
		if err == nil && got != want {
			t.Errorf("Match(%q) with %q = %t, want %t", name, file, got, want)
		}
		for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
			if ignore.Skip(dir, true) && !got {
				t.Errorf("Skip(%q) with %q loses %q", dir, file, name)
			}
		}
	})
}

func BenchmarkIgnore(b *testing.B) {
	src := []byte("# usual\n.git\n**/node_modules\n*.md\n!README.md\n**/*.log\ndist\n")
	var names []string
	for d := range 200 {
		for n := range 100 {
			names = append(names, fmt.Sprintf("src/pkg%03d/sub/file%03d.go", d, n))
		}
	}
	b.ReportAllocs()
	for b.Loop() {
		ignore, err := dockerfile.ParseIgnore(src)
		if err != nil {
			b.Fatal(err)
		}
		for _, name := range names {
			if ignore.Skip(name, false) {
				b.Fatal(name)
			}
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(len(names)), "ns/path")
}
