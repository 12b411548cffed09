package quadlet

import (
	"bytes"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/tools/txtar"
)

// FuzzTranslate checks that no file makes Translate panic, and that what it
// makes of a file says nothing else when it is read and written again.
func FuzzTranslate(f *testing.F) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range files {
		archive, err := txtar.ParseFile(file)
		if err != nil {
			f.Fatal(err)
		}
		for _, s := range sourcesOf(archive) {
			f.Add(filepath.Base(s.Path), s.Text)
		}
	}
	f.Fuzz(func(t *testing.T, name string, text []byte) {
		if strings.Contains(name, "/") {
			return
		}
		units, err := Translate([]Source{{Path: "/q/" + name, Text: text}}, Options{Command: "/c"})
		if (err == nil) != (len(units) == 1) {
			t.Fatalf("Translate(%q) = %d units, %v", text, len(units), err)
		}
		for _, u := range units {
			_, body, _ := bytes.Cut(u.Text, []byte("\n"))
			var again unitFile
			if err := again.parse(u.Name, body); err != nil {
				t.Fatalf("read %s again: %v\n%s", u.Name, err, u.Text)
			}
			if got, want := again.text(), bytes.TrimSpace(body); !bytes.Equal(bytes.TrimSpace(got), want) {
				t.Fatalf("%s read and written again:\n%s\nwant\n%s", u.Name, got, want)
			}
			if n := len(again.section("Service").values("ExecStart")); n != 1 {
				t.Fatalf("%s has %d ExecStart lines:\n%s", u.Name, n, u.Text)
			}
		}
	})
}

// FuzzWords checks that words that were quoted come back as they were.
func FuzzWords(f *testing.F) {
	f.Add("a", "b c")
	f.Add(`\x41`, `"'`)
	f.Add("", "\n;%$\x01")
	f.Fuzz(func(t *testing.T, one, two string) {
		if strings.Contains(one+two, "\x00") {
			return
		}
		line := QuoteWords(one, two)
		got, err := SplitWords(line)
		if err != nil || !slices.Equal(got, []string{one, two}) {
			t.Fatalf("SplitWords(%s) = %q, %v; want %q", line, got, err, []string{one, two})
		}
		if strings.ContainsAny(line, "\n") {
			t.Fatalf("QuoteWords(%q, %q) = %q: more than one line", one, two, line)
		}
	})
}
