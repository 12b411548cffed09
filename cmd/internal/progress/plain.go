package progress

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"cooper/builder"
)

// How long a step that speaks keeps the floor while others wait, and how often
// a status that counts bytes is repeated.
const (
	quietTurn   = time.Second     // it has said nothing for so long
	longTurn    = 5 * time.Second // it has spoken for so long
	statusEvery = 5 * time.Second
)

// plain appends lines in BuildKit's plain form. Lines of one step are kept
// together: others wait until it ends, falls silent or has spoken for long.
type plain struct {
	w        io.Writer
	terminal bool
	board    board
	turns    map[*vertex]*turn
	floor    *vertex // who speaks; nil for nobody
	taken    time.Time
}

// turn is what a vertex has to say.
type turn struct {
	waiting bytes.Buffer
	spoken  bool // it has had the floor before
	over    bool // its end was shown
	last    time.Time
}

func newPlain(w io.Writer, terminal bool) *plain {
	return &plain{w: w, terminal: terminal, turns: make(map[*vertex]*turn)}
}

func (p *plain) event(e builder.Event) {
	v := p.board.vertex(e)
	if v == nil {
		return
	}
	t := p.turns[v]
	if t == nil {
		t = &turn{}
		p.turns[v] = t
	}
	if t.over {
		return
	}
	say := func(line string) { p.log(v, &t.waiting, e.Time, line) }
	switch e.Kind {
	case builder.Log:
		v.stream(e.Stream).write(e.Data, say)
	case builder.Progress:
		if s := v.status(e.ID); s.due() {
			p.status(v, &t.waiting, s)
		}
	case builder.Cached, builder.Done, builder.Failed:
		for i := range v.streams {
			v.streams[i].flush(say)
		}
		p.end(v, &t.waiting)
	}
	p.pass(e.Time)
}

// due reports whether s should be shown: at its end, and now and then before.
func (s *status) due() bool {
	if s.done {
		return !s.told
	}
	return s.updated.Sub(s.printed) >= statusEvery
}

// log says one line of output.
func (p *plain) log(v *vertex, w *bytes.Buffer, now time.Time, line string) {
	if p.terminal {
		line = clean(line, true)
	}
	fmt.Fprintf(w, "#%d %s %s\n", v.id, seconds(now.Sub(v.started)), line)
}

// status says how far s is.
func (p *plain) status(v *vertex, w *bytes.Buffer, s *status) {
	fmt.Fprintf(w, "#%d %s", v.id, oneLine(s.id))
	switch {
	case s.total > 0 && s.current < s.total:
		fmt.Fprintf(w, " %s / %s", size(s.current), size(s.total))
	case s.current > 0:
		fmt.Fprintf(w, " %s", size(s.current))
	}
	if d := s.updated.Sub(s.started); d >= 100*time.Millisecond {
		fmt.Fprintf(w, " %.1fs", d.Seconds())
	}
	if s.done {
		fmt.Fprint(w, " done")
	}
	fmt.Fprintln(w)
	s.printed, s.told = s.updated, s.done
}

// end says how v ended.
func (p *plain) end(v *vertex, w *bytes.Buffer) {
	for _, s := range v.statuses {
		if v.state == builder.Done && !s.told {
			s.done, s.current = true, max(s.current, s.total)
			p.status(v, w, s)
		}
	}
	switch {
	case v.state == builder.Cached:
		fmt.Fprintf(w, "#%d CACHED\n", v.id)
	case v.state == builder.Done:
		fmt.Fprintf(w, "#%d DONE %.1fs\n", v.id, v.elapsed(v.ended).Seconds())
	case v.state == builder.Failed && errors.Is(v.err, context.Canceled):
		fmt.Fprintf(w, "#%d CANCELED\n", v.id)
	case v.state == builder.Failed:
		fmt.Fprintf(w, "#%d ERROR: %s\n", v.id, oneLine(fmt.Sprint(v.err)))
	}
}

func (p *plain) tick(now time.Time) { p.pass(now) }

// pass prints what the vertex on the floor has to say and passes the floor on
// when its turn is over.
func (p *plain) pass(now time.Time) {
	for {
		if p.floor == nil {
			if p.floor = p.next(); p.floor == nil {
				return
			}
			p.take(now)
		}
		p.speak(now)
		if !p.floor.running() {
			p.turns[p.floor].over = true
			io.WriteString(p.w, "\n")
			p.floor = nil
			continue
		}
		if next := p.next(); next == nil || !p.over(now) {
			return
		}
		fmt.Fprintf(p.w, "#%d ...\n\n", p.floor.id)
		p.floor = nil
	}
}

// over reports whether the turn of the vertex on the floor is over.
func (p *plain) over(now time.Time) bool {
	return now.Sub(p.turns[p.floor].last) >= quietTurn || now.Sub(p.taken) >= longTurn
}

// next is the vertex that speaks after the one on the floor: one that has
// ended, else one with something to say that is not now on the floor, else one
// that has never spoken.
func (p *plain) next() *vertex {
	var says, silent *vertex
	for _, v := range p.board.vertexes {
		t := p.turns[v]
		switch {
		case t == nil || t.over || v == p.floor:
		case !v.running():
			return v
		case t.waiting.Len() > 0 && says == nil:
			says = v
		case !t.spoken && silent == nil:
			silent = v
		}
	}
	if says != nil {
		return says
	}
	if p.floor == nil {
		return silent
	}
	return nil
}

// take begins the turn of the vertex on the floor with its name.
func (p *plain) take(now time.Time) {
	t := p.turns[p.floor]
	t.spoken, t.last, p.taken = true, now, now
	fmt.Fprintf(p.w, "#%d %s\n", p.floor.id, p.floor.name)
}

// speak prints what the vertex on the floor has to say.
func (p *plain) speak(now time.Time) {
	if t := p.turns[p.floor]; t.waiting.Len() > 0 {
		p.w.Write(t.waiting.Bytes())
		t.waiting.Reset()
		t.last = now
	}
}

func (p *plain) finish(now time.Time) {
	for {
		v := p.floor
		if v == nil {
			v = p.next()
		}
		if v == nil {
			break
		}
		if v.running() { // its end was not reported: the build was cut short
			v.state, v.ended, v.err = builder.Failed, now, context.Canceled
			t := p.turns[v]
			for i := range v.streams {
				v.streams[i].flush(func(line string) { p.log(v, &t.waiting, now, line) })
			}
			p.end(v, &t.waiting)
		}
		p.pass(now)
	}
	for _, line := range p.board.warningLines() {
		fmt.Fprintln(p.w, line)
	}
}
