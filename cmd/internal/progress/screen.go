package progress

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"cooper/builder"
)

// tailLines is how many lines of a running step's output are shown.
const tailLines = 6

// screen is the TTY display. Its live part, the last lines of the terminal, is
// drawn anew with each tick: a line for each vertex in the order in which they
// began, under those that run what they count and the end of their output, and
// a status line.
//
//	 => CACHED [1/3] FROM docker.io/library/debian:12
//	 => [2/3] COPY . /src                               1.23MB  0.1s
//	 => [3/3] RUN make                                          3.2s
//	 => => # cc -c main.c
//	[+] Building 3.4s (2/3)
//
// When the terminal gets too small for that, vertexes that have ended leave the
// live part, are written for the last time and scroll away.
//
// Each drawing is one write. Between drawings the cursor stands below the live
// part and the terminal is in its usual state, so nothing needs to be repaired
// if the process dies.
type screen struct {
	w     io.Writer
	size  func() (width, height int)
	title string
	paint palette
	board board
	tails map[*vertex][]string
	gone  map[*vertex]bool // no longer in the live part
	live  int              // lines of the live part on the terminal
}

// palette holds the escape sequences of the colours; all empty for none.
type palette struct{ done, failed, warned, faint, reset string }

func newScreen(w io.Writer, size func() (int, int), title string, colors bool) *screen {
	s := &screen{w: w, size: size, title: title, tails: make(map[*vertex][]string), gone: make(map[*vertex]bool)}
	if title == "" {
		s.title = "Building"
	}
	if colors {
		s.paint = palette{done: "\x1b[34m", failed: "\x1b[31m", warned: "\x1b[33m", faint: "\x1b[2m", reset: "\x1b[0m"}
	}
	return s
}

func (s *screen) event(e builder.Event) {
	v := s.board.vertex(e)
	switch e.Kind {
	case builder.Log:
		if v != nil {
			v.stream(e.Stream).write(e.Data, func(line string) { s.keep(v, line) })
		}
	case builder.Cached, builder.Done, builder.Failed:
		delete(s.tails, v)
	}
}

// keep adds a line to the end of v's output.
func (s *screen) keep(v *vertex, line string) {
	if line = clean(line, false); strings.TrimSpace(line) == "" {
		return
	}
	tail := append(s.tails[v], line)
	if len(tail) > tailLines {
		tail = append(tail[:0], tail[len(tail)-tailLines:]...)
	}
	s.tails[v] = tail
}

// tail returns the last lines of v's output, with the ones not yet ended.
func (s *screen) tail(v *vertex) []string {
	tail := append([]string(nil), s.tails[v]...)
	for i := range v.streams {
		if part := clean(string(v.streams[i].partial), false); strings.TrimSpace(part) != "" {
			tail = append(tail, part)
		}
	}
	return tail[max(0, len(tail)-tailLines):]
}

func (s *screen) tick(now time.Time) {
	if s.board.started.IsZero() {
		return
	}
	width, height := s.size()
	s.draw(s.leave(now, width, height-1), s.liveLines(now, width, height-1))
}

func (s *screen) finish(now time.Time) {
	if s.board.started.IsZero() {
		return
	}
	width, _ := s.size()
	var lines []string
	for _, v := range s.board.vertexes {
		if v.running() { // its end was not reported: the build was cut short
			v.state, v.ended, v.err = builder.Failed, now, context.Canceled
		}
		if !s.gone[v] {
			lines = append(lines, s.vertexLine(v, now, width))
		}
	}
	for _, line := range s.board.warningLines() {
		lines = append(lines, s.paint.warned+line+s.paint.reset)
	}
	s.draw(append(lines, s.summary(now)), nil)
}

// draw replaces the live part by what leaves it and what is now live, in one
// write. Lines cannot wrap while it draws, whatever the terminal makes of a
// character's width.
func (s *screen) draw(leaving, live []string) {
	var b strings.Builder
	b.WriteString("\x1b[?7l")
	if s.live > 0 {
		fmt.Fprintf(&b, "\x1b[%dA", s.live)
	}
	b.WriteString("\r")
	for _, line := range append(leaving, live...) {
		b.WriteString("\x1b[K") // at the end of a full line it would take the last character
		b.WriteString(line)
		b.WriteString("\n")
	}
	b.WriteString("\x1b[J\x1b[?7h")
	s.live = len(live)
	io.WriteString(s.w, b.String())
}

// leave takes vertexes that have ended out of the live part until the rest, a
// status line and some output fit in height lines, and returns their lines.
func (s *screen) leave(now time.Time, width, height int) []string {
	staying, running := 0, 0
	for _, v := range s.board.vertexes {
		if !s.gone[v] {
			staying++
		}
		if v.running() {
			running++
		}
	}
	room := height - 1
	if running > 0 {
		room = max(1, room-tailLines)
	}
	var lines []string
	for _, v := range s.board.vertexes {
		if staying <= room {
			break
		}
		if !s.gone[v] && !v.running() {
			s.gone[v] = true
			staying--
			lines = append(lines, s.vertexLine(v, now, width))
		}
	}
	return lines
}

// liveLines draws what has not left and the status line in at most height
// lines. Each vertex gets a line first; what room is left goes to what running
// ones count and say, shared evenly.
func (s *screen) liveLines(now time.Time, width, height int) []string {
	var shown []*vertex
	running := 0
	for _, v := range s.board.vertexes {
		if !s.gone[v] {
			shown = append(shown, v)
		}
		if v.running() {
			running++
		}
	}
	hidden := 0
	if most := max(1, height-2); len(shown) > height-1 { // all of them run
		hidden = len(shown) - most
		shown = shown[:most]
	}
	room := max(0, height-1-len(shown))
	if hidden > 0 {
		room = 0
	}
	var out []string
	for _, v := range shown {
		out = append(out, s.vertexLine(v, now, width))
		if v.running() && room > 0 {
			below := s.below(v, now, width, min(room/running, tailLines))
			room -= len(below)
			running--
			out = append(out, below...)
		}
	}
	if hidden > 0 {
		out = append(out, fit(fmt.Sprintf(" => ... and %d more running", hidden), width))
	}
	return append(out, s.progress(now))
}

// below draws at most n lines under a running vertex: what it counts, then its
// output.
func (s *screen) below(v *vertex, now time.Time, width, n int) []string {
	var out []string
	for _, st := range v.statuses {
		if !st.done && len(out) < n {
			out = append(out, s.statusLine(st, now, width))
		}
	}
	tail := s.tail(v)
	tail = tail[max(0, len(tail)-(n-len(out))):]
	for _, text := range tail {
		out = append(out, s.paint.faint+fit(" => => # "+text, width)+s.paint.reset)
	}
	return out
}

// vertexLine draws v with its time, and its layer's size once it has one, at
// the right.
func (s *screen) vertexLine(v *vertex, now time.Time, width int) string {
	mark, color := "", ""
	switch {
	case v.state == builder.Cached:
		mark, color = "CACHED ", s.paint.done
	case v.state == builder.Done:
		color = s.paint.done
	case v.state == builder.Failed && errors.Is(v.err, context.Canceled):
		mark, color = "CANCELED ", s.paint.warned
	case v.state == builder.Failed:
		mark, color = "ERROR ", s.paint.failed
	}
	right := fmt.Sprintf("%.1fs", v.elapsed(now).Seconds())
	if v.state == builder.Done && v.bytes > 0 {
		right = size(v.bytes) + "  " + right
	}
	return s.row(" => "+mark+v.name, right, width, color)
}

// row puts left at the left and right at the right.
func (s *screen) row(left, right string, width int, color string) string {
	left = fit(left, width-len(right)-2)
	gap := max(1, width-textWidth(left)-len(right))
	reset := s.paint.reset
	if color == "" {
		reset = ""
	}
	return color + left + strings.Repeat(" ", gap) + right + reset
}

// barWidth is the columns of a bar.
const barWidth = 24

// statusLine draws a bar where the total is known, else the bytes so far.
func (s *screen) statusLine(st *status, now time.Time, width int) string {
	right := fmt.Sprintf("%.1fs", max(0, now.Sub(st.started)).Seconds())
	left := " => => " + oneLine(st.id)
	if hex, ok := strings.CutPrefix(st.id, "sha256:"); ok && len(hex) == 64 {
		left = " => => " + oneLine(hex[:12])
	}
	switch {
	case st.total > 0:
		full := int(min(st.current, st.total) * barWidth / st.total)
		bar := strings.Repeat("=", full)
		if full < barWidth {
			bar += ">" + strings.Repeat(" ", barWidth-full-1)
		}
		right = fmt.Sprintf("[%s] %7s / %-7s %s", bar, size(st.current), size(st.total), right)
	case st.current > 0:
		right = size(st.current) + " " + right
	}
	if len(right) > width/2+20 {
		right = size(st.current)
	}
	return s.row(left, right, width, "")
}

// progress is the status line of a running build. What was planned counts from
// the start.
func (s *screen) progress(now time.Time) string {
	ended, _, all, _ := s.count()
	return fmt.Sprintf("[+] %s %.1fs (%d/%d)", s.title, max(0, now.Sub(s.board.started)).Seconds(), ended, all+len(s.board.ahead))
}

// summary is the status line of a finished build.
func (s *screen) summary(now time.Time) string {
	ended, cached, all, bytes := s.count()
	text := fmt.Sprintf("[+] %s %.1fs (%d/%d) FINISHED", s.title, max(0, now.Sub(s.board.started)).Seconds(), ended, all)
	for _, v := range s.board.vertexes {
		if v.state == builder.Failed {
			return strings.TrimSuffix(text, " FINISHED")
		}
	}
	if cached > 0 {
		text += fmt.Sprintf(", %d cached", cached)
	}
	if bytes > 0 {
		text += ", " + size(bytes) + " of new layers"
	}
	return text
}

// count counts the vertexes that ended well and the bytes of the layers they
// made.
func (s *screen) count() (ended, cached, all int, bytes int64) {
	for _, v := range s.board.vertexes {
		switch v.state {
		case builder.Cached:
			ended, cached = ended+1, cached+1
		case builder.Done:
			ended++
			bytes += v.bytes
		}
	}
	return ended, cached, len(s.board.vertexes), bytes
}
