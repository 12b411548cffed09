package quadlet

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"
)

var update = flag.Bool("update", false, "rewrite what the golden files want")

// home is where the quadlet files of the tests pretend to be.
const home = "/etc/containers/systemd"

// TestTranslate translates the files of each archive in testdata. Those below
// want/ are the outcome: the services, and what links, warnings and errors
// there were. Files of users are in archives whose name begins with user-.
func TestTranslate(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no golden files: %v", err)
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".txtar")
		t.Run(name, func(t *testing.T) {
			archive, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			outcome := translateArchive(archive, strings.HasPrefix(name, "user-"))
			if *update {
				archive.Files = slices.DeleteFunc(archive.Files, wanted)
				archive.Files = append(archive.Files, outcome...)
				if err := os.WriteFile(file, txtar.Format(archive), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			var want []txtar.File
			for _, f := range archive.Files {
				if wanted(f) {
					want = append(want, f)
				}
			}
			if diff := cmp.Diff(asText(want), asText(outcome)); diff != "" {
				t.Errorf("Translate(%s) (-want +got):\n%s", file, diff)
			}
		})
	}
}

func wanted(f txtar.File) bool { return strings.HasPrefix(f.Name, "want/") }

func asText(files []txtar.File) string { return string(txtar.Format(&txtar.Archive{Files: files})) }

// sourcesOf are the quadlet files of an archive with their drop-ins.
func sourcesOf(archive *txtar.Archive) []Source {
	var sources []Source
	for _, f := range archive.Files {
		if wanted(f) || !IsSource(filepath.Base(f.Name)) {
			continue
		}
		s := Source{Path: filepath.Join(home, f.Name), Text: f.Data}
		for _, dir := range DropInDirs(filepath.Base(f.Name)) {
			for _, d := range archive.Files {
				if filepath.Dir(d.Name) == dir {
					s.DropIns = append(s.DropIns, DropIn{Path: filepath.Join(home, d.Name), Text: d.Data})
				}
			}
		}
		sources = append(sources, s)
	}
	return sources
}

func translateArchive(archive *txtar.Archive, user bool) []txtar.File {
	units, err := Translate(sourcesOf(archive), Options{
		Command: "/usr/bin/cooper", User: user,
		Exists: func(path string) bool { return path == "/dev/null" },
	})
	var outcome []txtar.File
	var links, warnings bytes.Buffer
	for _, u := range units {
		outcome = append(outcome, txtar.File{Name: "want/" + u.Name, Data: u.Text})
		for _, l := range u.Links {
			fmt.Fprintf(&links, "%s -> %s\n", l.Name, l.Target)
		}
		for _, w := range u.Warnings {
			fmt.Fprintln(&warnings, w)
		}
	}
	add := func(name, text string) {
		if text != "" {
			outcome = append(outcome, txtar.File{Name: "want/" + name, Data: []byte(text)})
		}
	}
	add("links", links.String())
	add("warnings", warnings.String())
	if err != nil {
		add("errors", err.Error()+"\n")
	}
	return outcome
}

// TestVerify lets systemd read every service that the golden files want.
func TestVerify(t *testing.T) {
	if _, err := exec.LookPath("systemd-analyze"); err != nil {
		t.Skip("systemd-analyze is not here")
	}
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			archive, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			dir := t.TempDir()
			var services []string
			for _, f := range archive.Files {
				if !wanted(f) || filepath.Ext(f.Name) != ".service" {
					continue
				}
				name := filepath.Join(dir, strings.ReplaceAll(filepath.Base(f.Name), "@.service", "@1.service"))
				// A program that is there: verify looks.
				text := bytes.ReplaceAll(f.Data, []byte("/usr/bin/cooper"), []byte("/bin/true"))
				// Since systemd 254.
				text = bytes.ReplaceAll(text, []byte("UpheldBy=front.target\n"), nil)
				if err := os.WriteFile(name, text, 0o644); err != nil {
					t.Fatal(err)
				}
				services = append(services, name)
			}
			if len(services) == 0 {
				return
			}
			cmd := exec.Command("systemd-analyze", append([]string{"verify", "--man=no", "--recursive-errors=no"}, services...)...)
			cmd.Env = append(os.Environ(), "SYSTEMD_UNIT_PATH="+dir+":")
			if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
				t.Errorf("%v: %v\n%s", cmd, err, out)
			}
		})
	}
}

func TestDropInDirs(t *testing.T) {
	for name, want := range map[string][]string{
		"web.container":           {"container.d", "web.container.d"},
		"front-web-new.container": {"container.d", "front-.container.d", "front-web-.container.d", "front-web-new.container.d"},
		"job@.container":          {"container.d", "job@.container.d"},
		"job@night.container":     {"container.d", "job@.container.d", "job@night.container.d"},
		"a-b@c-d.container":       {"container.d", "a-.container.d", "a-b@.container.d", "a-b@c-d.container.d"},
		"data.volume":             {"volume.d", "data.volume.d"},
		"trailing-.network":       {"network.d", "trailing-.network.d"},
	} {
		if diff := cmp.Diff(want, DropInDirs(name)); diff != "" {
			t.Errorf("DropInDirs(%q) (-want +got):\n%s", name, diff)
		}
	}
}

func TestSplitWords(t *testing.T) {
	for _, c := range []struct {
		in   string
		want []string
		err  string
	}{
		{"", nil, ""},
		{"  a  b\tc ", []string{"a", "b", "c"}, ""},
		{`"a b" 'c d'`, []string{"a b", "c d"}, ""},
		{`NAME="a b" x`, []string{"NAME=a b", "x"}, ""},
		{`"" ''`, []string{"", ""}, ""},
		{`"it's" 'say "no"'`, []string{"it's", `say "no"`}, ""},
		{`a\sb \x41\102\u00e9\U0001f600`, []string{"a b", "ABé😀"}, ""},
		{`\n\t\\ \" \'`, []string{"\n\t\\", `"`, `'`}, ""},
		{`\d+ \x4 \777 \uD800`, []string{`\d+`, `\x4`, `\777`, `\uD800`}, ""},
		{"%h/$HOME ${X}", []string{"%h/$HOME", "${X}"}, ""},
		{`"a`, nil, `a closing " is missing`},
		{`a\`, nil, `nothing follows the last \`},
		{`a\x00`, nil, `\x00: no argument can hold a zero byte`},
	} {
		got, err := SplitWords(c.in)
		if diff := cmp.Diff(c.want, got); diff != "" || c.err != fmt.Sprint(err) && (err != nil || c.err != "") {
			t.Errorf("SplitWords(%q) = %q, %v; want %q, %s", c.in, got, err, c.want, c.err)
		}
	}
}

func TestQuoteWords(t *testing.T) {
	for _, c := range []struct {
		words []string
		want  string
	}{
		{[]string{"a", "b=c"}, "a b=c"},
		{[]string{"", ";", "a b"}, `"" ";" "a b"`},
		{[]string{`a"b`, `a\b`, "it's"}, `"a\"b" "a\\b" "it's"`},
		{[]string{"a\nb\tc\x01\x7f"}, `"a\nb\tc\x01\x7f"`},
		{[]string{"%h", "$X", "é"}, "%h $X é"},
		{[]string{Literal("100% of $5")}, `"100%% of $$5"`},
	} {
		if got := QuoteWords(c.words...); got != c.want {
			t.Errorf("QuoteWords(%q) = %s, want %s", c.words, got, c.want)
		}
	}
}

func TestForeign(t *testing.T) {
	for name, want := range map[string]bool{"a.pod": true, "a.kube": true, "a.container": false, "a.txt": false} {
		if Foreign(name) != want {
			t.Errorf("Foreign(%s) = %t, want %t", name, !want, want)
		}
	}
	for name, want := range map[string]bool{"a.pod": false, "a.container": true, ".container": false, "a.b.image": true} {
		if IsSource(name) != want {
			t.Errorf("IsSource(%s) = %t, want %t", name, !want, want)
		}
	}
}
