package progress

import (
	"fmt"
	"time"

	"cooper/builder"
)

// board is the state of a build as told by its events.
type board struct {
	vertexes []*vertex // in order of appearance
	byID     map[int]*vertex
	ahead    map[int]bool // nodes that were planned and have not begun
	started  time.Time
	warnings []warning
}

// vertex is one unit of work.
type vertex struct {
	id       int
	node     int // as in Event
	name     string
	started  time.Time
	ended    time.Time
	state    builder.Kind // Started, Cached, Done or Failed
	bytes    int64        // of the layer; 0 when there is none
	err      error
	streams  [3]lines // by Event.Stream
	statuses []*status
}

// status is one thing of a vertex that is counted in bytes.
type status struct {
	id             string
	current, total int64
	started        time.Time
	updated        time.Time
	done           bool
	printed        time.Time // plain: when it was last shown, at first when it began
	told           bool      // plain: its end was shown
}

// running reports whether v's end has not been seen.
func (v *vertex) running() bool { return v.state == builder.Started }

// elapsed is how long v has run, or ran.
func (v *vertex) elapsed(now time.Time) time.Duration {
	if !v.running() {
		now = v.ended
	}
	return max(0, now.Sub(v.started))
}

// vertex applies e and returns the vertex it is about, nil for events of the
// whole build. Log is left to the caller.
func (b *board) vertex(e builder.Event) *vertex {
	if b.started.IsZero() {
		b.started = e.Time
	}
	if e.Kind == builder.Planned {
		if b.ahead == nil {
			b.ahead = make(map[int]bool)
		}
		b.ahead[e.Node] = true
	}
	if e.Kind == builder.Warning {
		b.warnings = append(b.warnings, newWarning(e))
	}
	if e.Vertex == 0 {
		return nil
	}
	v := b.byID[e.Vertex]
	if v == nil {
		v = &vertex{id: e.Vertex, node: e.Node, name: oneLine(e.Name), started: e.Time}
		if b.byID == nil {
			b.byID = make(map[int]*vertex)
		}
		b.byID[e.Vertex] = v
		b.vertexes = append(b.vertexes, v)
		delete(b.ahead, e.Node)
	}
	switch e.Kind {
	case builder.Progress:
		v.progress(e)
	case builder.Cached, builder.Done, builder.Failed:
		v.state, v.ended, v.err = e.Kind, e.Time, e.Err
		v.bytes = max(0, e.LayerBytes)
	case builder.Committed:
		v.bytes = max(0, e.LayerBytes)
	}
	return v
}

// progress applies a Progress event.
func (v *vertex) progress(e builder.Event) {
	s := v.status(e.ID)
	if s == nil {
		s = &status{id: e.ID, started: e.Time, printed: e.Time}
		v.statuses = append(v.statuses, s)
	}
	s.current, s.total, s.updated = e.Current, e.Total, e.Time
	s.done = e.Total > 0 && e.Current >= e.Total
}

// status returns v's status of that id, nil when there is none.
func (v *vertex) status(id string) *status {
	for _, s := range v.statuses {
		if s.id == id {
			return s
		}
	}
	return nil
}

// stream returns the lines of an Event.Stream.
func (v *vertex) stream(n int) *lines {
	if n < 0 || n >= len(v.streams) {
		n = 0
	}
	return &v.streams[n]
}

// seconds formats d as BuildKit does at the head of a log line: five
// characters.
func seconds(d time.Duration) string {
	s := max(0, d).Seconds()
	switch {
	case s < 10:
		return fmt.Sprintf("%.3f", s)
	case s < 100:
		return fmt.Sprintf("%.2f", s)
	case s < 1000:
		return fmt.Sprintf("%.1f", s)
	}
	return fmt.Sprintf("%.0f", s)
}

// size formats n bytes with three digits and a decimal unit: "12.3MB".
func size(n int64) string {
	units := []string{"B", "kB", "MB", "GB", "TB", "PB"}
	f, i := float64(n), 0
	for f >= 999.5 && i < len(units)-1 {
		f, i = f/1000, i+1
	}
	switch {
	case i == 0 || f >= 99.95:
		return fmt.Sprintf("%.0f%s", f, units[i])
	case f >= 9.995:
		return fmt.Sprintf("%.1f%s", f, units[i])
	}
	return fmt.Sprintf("%.2f%s", f, units[i])
}
