package quadlet

import (
	"bytes"
	"fmt"
	"strings"
)

// entry is one KEY=VALUE line and where it stands.
type entry struct {
	key, value string
	path       string
	line       int
}

// errorf makes an error about the entry.
func (e entry) errorf(format string, args ...any) error {
	return fmt.Errorf("%s:%d: %w", e.path, e.line, fmt.Errorf(format, args...))
}

// section is a section of a unit file with its entries in order.
type section struct {
	name    string
	entries []entry
}

// unitFile is the content of a unit file: sections in the order in which they
// appear first, those of the same name made one.
type unitFile struct {
	sections []*section
}

// section returns the section of that name, adding it when it is missing.
func (f *unitFile) section(name string) *section {
	for _, s := range f.sections {
		if s.name == name {
			return s
		}
	}
	s := &section{name: name}
	f.sections = append(f.sections, s)
	return s
}

// has reports whether f has a section of that name.
func (f *unitFile) has(name string) bool {
	for _, s := range f.sections {
		if s.name == name {
			return true
		}
	}
	return false
}

// add appends an entry.
func (s *section) add(key, value string) {
	s.entries = append(s.entries, entry{key: key, value: value})
}

// values are the entries of a key that count: an empty value forgets those
// before it.
func (s *section) values(key string) []entry {
	var found []entry
	for _, e := range s.entries {
		switch {
		case e.key != key:
		case e.value == "":
			found = nil
		default:
			found = append(found, e)
		}
	}
	return found
}

// last is the entry of a key that counts when there can be one only.
func (s *section) last(key string) (entry, bool) {
	all := s.values(key)
	if len(all) == 0 {
		return entry{}, false
	}
	return all[len(all)-1], true
}

// cleared reports whether the key is there and its last value is empty.
func (s *section) cleared(key string) bool {
	empty := false
	for _, e := range s.entries {
		if e.key == key {
			empty = e.value == ""
		}
	}
	return empty
}

// parse adds the content of the file at path to f, as a drop-in is added to the
// file that it is for.
func (f *unitFile) parse(path string, text []byte) error {
	if bytes.IndexByte(text, 0) >= 0 {
		return fmt.Errorf("%s: not a text file", path)
	}
	var in *section
	lines := logicalLines(string(bytes.TrimPrefix(text, []byte("\xef\xbb\xbf"))))
	for _, l := range lines {
		at := entry{path: path, line: l.number}
		if strings.HasPrefix(l.text, "[") {
			name, found := strings.CutSuffix(l.text[1:], "]")
			if !found || name == "" || strings.ContainsAny(name, "[]") {
				return at.errorf("invalid section %q: want [NAME]", l.text)
			}
			in = f.section(name)
			continue
		}
		key, value, found := strings.Cut(l.text, "=")
		if at.key, at.value = strings.TrimSpace(key), strings.TrimSpace(value); !found || at.key == "" {
			return at.errorf("invalid line %q: want KEY=VALUE", l.text)
		}
		if in == nil {
			return at.errorf("%s= stands before the first section", at.key)
		}
		in.entries = append(in.entries, at)
	}
	return nil
}

// line is a line without what continues it on the next ones.
type line struct {
	text   string
	number int
}

// logicalLines joins lines that end with a backslash with those that follow,
// and leaves out empty lines and comments, among continued ones too.
func logicalLines(text string) []line {
	var lines []line
	var pending *line
	for i, raw := range strings.Split(text, "\n") {
		trimmed := strings.TrimSpace(raw)
		if strings.HasPrefix(trimmed, "#") || strings.HasPrefix(trimmed, ";") {
			continue
		}
		// An even number of them are escaped ones.
		backslashes := len(trimmed) - len(strings.TrimRight(trimmed, `\`))
		continued := backslashes%2 == 1
		part := trimmed
		if continued {
			part = trimmed[:len(trimmed)-1]
		}
		if pending == nil {
			pending = &line{number: i + 1}
		} else if part != "" {
			pending.text += " "
		}
		pending.text += strings.TrimSpace(part)
		if continued {
			continue
		}
		lines = keepLine(lines, pending)
		pending = nil
	}
	return keepLine(lines, pending)
}

// keepLine appends l unless it is empty.
func keepLine(lines []line, l *line) []line {
	if l == nil || strings.TrimSpace(l.text) == "" {
		return lines
	}
	return append(lines, line{text: strings.TrimSpace(l.text), number: l.number})
}

// text writes f out.
func (f *unitFile) text() []byte {
	var b bytes.Buffer
	for i, s := range f.sections {
		if i > 0 {
			b.WriteByte('\n')
		}
		fmt.Fprintf(&b, "[%s]\n", s.name)
		for _, e := range s.entries {
			fmt.Fprintf(&b, "%s=%s\n", e.key, e.value)
		}
	}
	return b.Bytes()
}
