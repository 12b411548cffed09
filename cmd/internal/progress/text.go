package progress

import (
	"bytes"
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxLine bounds, in bytes, how much of a line without an end is kept back.
// A longer line is shown in pieces.
const maxLine = 32 << 10

// lines cuts a stream into lines.
type lines struct {
	partial []byte
}

// write calls emit for each line that p ends, without its "\n" or "\r\n".
func (l *lines) write(p []byte, emit func(line string)) {
	for len(p) > 0 {
		i := bytes.IndexByte(p, '\n')
		if i < 0 {
			l.partial = append(l.partial, p...)
			if len(l.partial) > maxLine {
				l.flush(emit)
			}
			return
		}
		l.partial = append(l.partial, p[:i]...)
		emit(string(bytes.TrimSuffix(l.partial, []byte("\r"))))
		l.partial = l.partial[:0]
		p = p[i+1:]
	}
}

// flush emits what is left as a line.
func (l *lines) flush(emit func(line string)) {
	if len(l.partial) > 0 {
		emit(string(bytes.TrimSuffix(l.partial, []byte("\r"))))
		l.partial = l.partial[:0]
	}
}

// clean makes a line of foreign text harmless on a terminal. Of text that
// returns to the start of the line, the last version stays, as a terminal
// would show it. Tabs become spaces; escape sequences, other control and
// invisible formatting characters go, except, with colors, sequences that only
// set colours, which are ended before the end of the line.
func clean(line string, colors bool) string {
	if plainASCII(line) {
		return line
	}
	line = strings.TrimRight(line, "\r")
	if i := strings.LastIndexByte(line, '\r'); i >= 0 {
		line = line[i+1:]
	}
	var b strings.Builder
	column, colored := 0, false
	for len(line) > 0 {
		if n := escapeLen(line); n > 0 {
			if seq := line[:n]; colors && isColor(seq) {
				b.WriteString(seq)
				colored = true
			}
			line = line[n:]
			continue
		}
		r, n := utf8.DecodeRuneInString(line)
		line = line[n:]
		switch {
		case r == '\t':
			spaces := 8 - column%8
			b.WriteString("        "[:spaces])
			column += spaces
		case unicode.IsControl(r), unicode.Is(unicode.Cf, r), r == '\u2028', r == '\u2029':
		default:
			b.WriteRune(r)
			column += runeWidth(r)
		}
	}
	if colored {
		b.WriteString("\x1b[0m")
	}
	return b.String()
}

// plainASCII reports whether s is printable ASCII only.
func plainASCII(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

// escapeLen is the length of the escape sequence that s begins with, 0 when
// there is none. A sequence that does not end takes the rest of s.
func escapeLen(s string) int {
	if s[0] != '\x1b' {
		return 0
	}
	if len(s) == 1 {
		return 1
	}
	switch s[1] {
	case '[': // CSI: parameters and intermediates, then a final byte
		for i := 2; i < len(s); i++ {
			if s[i] < 0x20 || s[i] > 0x3f {
				return i + 1
			}
		}
		return len(s)
	case ']', 'P', 'X', '^', '_': // strings, ended by BEL or ESC \
		for i := 2; i < len(s); i++ {
			if s[i] == '\a' {
				return i + 1
			}
			if s[i] == '\x1b' {
				return min(i+2, len(s))
			}
		}
		return len(s)
	}
	for i := 1; i < len(s); i++ { // intermediates, then a final byte
		if s[i] < 0x20 || s[i] > 0x2f {
			return i + 1
		}
	}
	return len(s)
}

// isColor reports whether the escape sequence seq only sets colours and type.
func isColor(seq string) bool {
	return strings.HasPrefix(seq, "\x1b[") && seq[len(seq)-1] == 'm' &&
		strings.Trim(seq[2:len(seq)-1], "0123456789;:") == ""
}

// oneLine is clean text on one line: what is on further lines is joined by
// single spaces.
func oneLine(s string) string {
	if !strings.ContainsAny(s, "\n\t\r") {
		return clean(s, false)
	}
	return clean(strings.Join(strings.Fields(s), " "), false)
}

// fit cuts s, clean text without colours, to at most width columns; what is cut
// is shown by "...".
func fit(s string, width int) string {
	if len(s) <= width && plainASCII(s) || textWidth(s) <= width {
		return s
	}
	const dots = "..."
	if width <= len(dots) {
		return dots[:max(0, width)]
	}
	w := 0
	for i, r := range s {
		w += runeWidth(r)
		if w > width-len(dots) {
			return s[:i] + dots
		}
	}
	return s
}

// textWidth is the number of columns of s.
func textWidth(s string) int {
	w := 0
	for _, r := range s {
		w += runeWidth(r)
	}
	return w
}

// wide holds the ranges of characters that take two columns: East Asian wide
// and full-width ones and pictographs.
var wide = [...][2]rune{
	{0x1100, 0x115f}, {0x2e80, 0x303e}, {0x3041, 0xa4cf}, {0xa960, 0xa97f},
	{0xac00, 0xd7a3}, {0xf900, 0xfaff}, {0xfe30, 0xfe6f}, {0xff00, 0xff60},
	{0xffe0, 0xffe6}, {0x1f000, 0x1faff}, {0x20000, 0x3fffd},
}

// runeWidth is the number of columns of r.
func runeWidth(r rune) int {
	if r < 0x300 {
		return 1
	}
	if unicode.In(r, unicode.Mn, unicode.Me) {
		return 0
	}
	for _, span := range wide {
		if r < span[0] {
			break
		}
		if r <= span[1] {
			return 2
		}
	}
	return 1
}
