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

// screen is the TTY display. Vertexes that have ended are written once and
// scroll away with the terminal; below them the last lines of the terminal,
// the live part, are drawn anew with each tick:
//
//	 => CACHED [1/3] FROM docker.io/library/debian:12
//	 => [2/3] COPY . /src                               0.1s  1.23MB
//	 => [3/3] RUN make                                  3.2s
//	 => => # cc -c main.c
//	[+] Building 3.4s (2/3)
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
	ended []*vertex // not yet written
	notes []string  // further lines to write above the live part
	live  int       // lines of the live part on the terminal
}

// palette holds the escape sequences of the colours; all empty for none.
type palette struct{ done, failed, warned, faint, reset string }

func newScreen(w io.Writer, size func() (int, int), title string, colors bool) *screen {
	s := &screen{w: w, size: size, title: title, tails: make(map[*vertex][]string)}
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
	case builder.Warning:
		s.notes = append(s.notes, "WARN: "+oneLine(e.Message))
	case builder.Cached, builder.Done, builder.Failed:
		if v != nil {
			s.ended = append(s.ended, v)
			delete(s.tails, v)
		}
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
	s.draw(now, width, s.liveLines(now, width, height-1))
}

func (s *screen) finish(now time.Time) {
	if s.board.started.IsZero() {
		return
	}
	for _, v := range s.board.vertexes {
		if v.running() { // its end was not reported: the build was cut short
			v.state, v.ended, v.err = builder.Failed, now, context.Canceled
			s.ended = append(s.ended, v)
		}
	}
	width, _ := s.size()
	s.draw(now, width, []string{s.summary(now)})
}

// draw replaces the live part by what has ended and by live, in one write.
// Lines cannot wrap while it draws, whatever the terminal makes of a
// character's width.
func (s *screen) draw(now time.Time, width int, live []string) {
	var b strings.Builder
	b.WriteString("\x1b[?7l")
	if s.live > 0 {
		fmt.Fprintf(&b, "\x1b[%dA", s.live)
	}
	b.WriteString("\r")
	line := func(text string) {
		b.WriteString(text)
		b.WriteString("\x1b[K\n")
	}
	for _, v := range s.ended {
		line(s.vertexLine(v, now, width))
	}
	for _, note := range s.notes {
		line(s.paint.warned + fit(note, width) + s.paint.reset)
	}
	for _, text := range live {
		line(text)
	}
	b.WriteString("\x1b[J\x1b[?7h")
	s.ended, s.notes, s.live = s.ended[:0], s.notes[:0], len(live)
	io.WriteString(s.w, b.String())
}

// liveLines draws the running vertexes and the status line in at most height
// lines. Each running vertex gets a line first; what room is left goes to
// their statuses and output, shared evenly.
func (s *screen) liveLines(now time.Time, width, height int) []string {
	var running []*vertex
	for _, v := range s.board.vertexes {
		if v.running() {
			running = append(running, v)
		}
	}
	shown := running[:min(len(running), max(1, height-2))]
	room := height - 1 - len(shown)
	if len(shown) < len(running) {
		room = 0
	}
	var out []string
	for i, v := range shown {
		out = append(out, s.vertexLine(v, now, width))
		share := room / (len(shown) - i)
		below := s.below(v, now, width, min(share, tailLines))
		room -= len(below)
		out = append(out, below...)
	}
	if hidden := len(running) - len(shown); hidden > 0 {
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

// progress is the status line of a running build.
func (s *screen) progress(now time.Time) string {
	ended, _, all, _ := s.count()
	return fmt.Sprintf("[+] %s %.1fs (%d/%d)", s.title, max(0, now.Sub(s.board.started)).Seconds(), ended, all)
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
