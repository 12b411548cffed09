package progress

import (
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// terminal understands what the screen writes: it scrolls, moves up, erases
// and, unless told otherwise, wraps.
type terminal struct {
	width, height int
	lines         []string // what is on it and has scrolled off
	row, col      int      // of the cursor; row in lines
	nowrap        bool
}

func (t *terminal) size() (int, int) { return t.width, t.height }

// shot is what the terminal shows.
func (t *terminal) shot(now time.Time) string {
	top := max(0, len(t.lines)-t.height)
	return fmt.Sprintf("-- %.1fs --\n%s\n", now.Sub(epoch).Seconds(), strings.TrimRight(strings.Join(t.lines[top:], "\n"), "\n"))
}

func (t *terminal) Write(p []byte) (int, error) {
	for s := string(p); len(s) > 0; {
		if s[0] == '\x1b' {
			n := escapeLen(s)
			t.escape(s[:n])
			s = s[n:]
			continue
		}
		r, n := utf8.DecodeRuneInString(s)
		s = s[n:]
		t.put(r)
	}
	return len(p), nil
}

// line makes the cursor's line exist.
func (t *terminal) line() {
	for len(t.lines) <= t.row {
		t.lines = append(t.lines, "")
	}
}

func (t *terminal) put(r rune) {
	t.line()
	switch {
	case r == '\n':
		t.row, t.col = t.row+1, 0
		t.line()
	case r == '\r':
		t.col = 0
	case t.col+runeWidth(r) > t.width && t.nowrap:
	case t.col+runeWidth(r) > t.width:
		t.row, t.col = t.row+1, 0
		t.put(r)
	default:
		line := []rune(t.lines[t.row])
		before, width := 0, 0
		for before < len(line) && width < t.col {
			width += runeWidth(line[before])
			before++
		}
		rest := line[min(len(line), before+1):]
		t.lines[t.row] = string(line[:before]) + string(r) + string(rest)
		t.col += runeWidth(r)
	}
}

func (t *terminal) escape(seq string) {
	t.line()
	switch final := seq[len(seq)-1]; {
	case final == 'A':
		n, _ := strconv.Atoi(seq[2 : len(seq)-1])
		t.row = max(t.row-n, len(t.lines)-t.height, 0)
	case final == 'K':
		// a full line leaves the cursor on its last character
		t.col = min(t.col, t.width-1)
		line, width := []rune(t.lines[t.row]), 0
		for i, r := range line {
			if width >= t.col {
				line = line[:i]
				break
			}
			width += runeWidth(r)
		}
		t.lines[t.row] = string(line)
	case final == 'J':
		t.lines = t.lines[:t.row+1]
		t.lines[t.row] = ""
	case seq == "\x1b[?7l":
		t.nowrap = true
	case seq == "\x1b[?7h":
		t.nowrap = false
	case final == 'm':
	default:
		panic(fmt.Sprintf("the screen wrote %q", seq))
	}
}
