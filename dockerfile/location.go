package dockerfile

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/parser"
)

// Location is a range of lines in a Dockerfile, counted from 1, both ends
// included. The zero Location means that no line is known.
type Location struct {
	Start, End int
}

// IsZero reports whether no line is known.
func (l Location) IsZero() bool { return l.Start < 1 }

// String returns "3" or "3-5", and "" for the zero Location.
func (l Location) String() string {
	switch {
	case l.IsZero():
		return ""
	case l.End <= l.Start:
		return fmt.Sprint(l.Start)
	default:
		return fmt.Sprintf("%d-%d", l.Start, l.End)
	}
}

func (l Location) contains(line int) bool {
	return line >= l.Start && line <= max(l.Start, l.End)
}

// locationOf returns the smallest Location that holds all of the ranges.
func locationOf(ranges []parser.Range) Location {
	var l Location
	for i, r := range ranges {
		end := max(r.Start.Line, r.End.Line)
		if i == 0 || r.Start.Line < l.Start {
			l.Start = r.Start.Line
		}
		l.End = max(l.End, end)
	}
	return l
}

// Excerpt returns the lines around loc in the form that BuildKit prints, with
// ">>>" before those of loc: four lines of surroundings in all for one line,
// two for several. It returns "" when loc lies outside of src.
func Excerpt(name string, src []byte, loc Location) string {
	lines := bytes.Split(src, []byte("\n"))
	start, end := loc.Start, max(loc.Start, loc.End)
	if start < 1 || start > len(lines) {
		return ""
	}
	end = min(end, len(lines))
	pad := 2
	if start == end {
		pad = 4
	}
	first, last := widen(start, end, pad, len(lines))

	const rule = "--------------------\n"
	var b strings.Builder
	fmt.Fprintf(&b, "%s:%d\n%s", name, start, rule)
	for i := first; i <= last; i++ {
		mark := "   "
		if loc.contains(i) {
			mark = ">>>"
		}
		fmt.Fprintf(&b, " %3d | %s %s\n", i, mark, lines[i-1])
	}
	b.WriteString(rule)
	return b.String()
}

// widen extends start..end by lines on both sides in turn. Each turn costs one
// of pad and each line added another, which is BuildKit's arithmetic and not
// quite what one would expect: a single line gets two above and two below.
func widen(start, end, pad, lines int) (first, last int) {
	for p := 0; p < pad; p++ {
		if start > 1 {
			start--
			p++
		}
		if end != lines {
			end++
			p++
		}
	}
	return start, end
}
