package builder

import (
	"sync"
	"time"

	"cooper/dockerfile"
)

// Kind says what an Event reports.
type Kind int

// The kinds of events, in the order in which a vertex may send them. A vertex
// sends Started once, then any number of Log, Progress and Warning, then one
// of Cached, Done or Failed.
const (
	Started Kind = iota
	Log
	Progress
	Warning
	Cached
	Done
	Failed
	// Skipped reports a stage that the target does not need; it has a Name
	// and no Vertex.
	Skipped
	// Committed follows Done when the step's layer has been digested:
	// LayerBytes is its size. A vertex that was Cached has none.
	Committed
	// Planned reports a step, or an image that steps stand on, before any
	// of them begins: it has a Node, a Name and Inputs, and no Vertex.
	Planned
)

// String returns the kind's name in lower case.
func (k Kind) String() string {
	return [...]string{"started", "log", "progress", "warning", "cached", "done", "failed", "skipped", "committed", "planned"}[k]
}

// Event is one thing that happened in a build. Calls of the events function
// are serialised; it must return quickly and not keep Data.
type Event struct {
	Time time.Time
	Kind Kind
	// Vertex numbers the unit of work from 1 in the order in which work
	// on each began; 0 for events of the whole build.
	Vertex int
	// Name is the vertex as BuildKit names it: "[build 2/5] RUN make",
	// "[internal] load build context".
	Name string
	// Node numbers the vertex in the plan: the Started of a step has that of
	// its Planned. It is 0 for what is in no plan.
	Node int
	// Inputs are the nodes that a Planned one reads: what it stands on
	// first, then the sources of its files.
	Inputs []int
	// Stream is 1 (stdout) or 2 (stderr) for Log; Data are its bytes, not
	// necessarily whole lines.
	Stream int
	Data   []byte
	// ID, Current and Total describe Progress in bytes; Total 0 is unknown.
	ID      string
	Current int64
	Total   int64
	// LayerBytes is the uncompressed size of the step's layer (Cached,
	// Committed), or -1 where there is none or it is not known yet.
	LayerBytes int64
	// Message is a Warning's or Skipped's text.
	Message string
	// Detail explains a Warning in further lines: the rule, where to read
	// about it, the part of the Dockerfile. It may be "".
	Detail string
	// Check is what a Warning is about if one of BuildKit's checks found it.
	Check *Check
	// Err is why a vertex Failed.
	Err error
}

// Check is a finding of a check, with the Dockerfile that it is in.
type Check struct {
	dockerfile.Warning
	File   string
	Source []byte
}

// reporter serialises events and numbers the vertexes.
type reporter struct {
	mu   sync.Mutex
	next int
	fn   func(Event)
}

func (r *reporter) send(e Event) {
	if r.fn == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	e.Time = time.Now()
	r.fn(e)
}

// start opens a vertex and reports it.
func (r *reporter) start(name string) *vertex { return r.startNode(name, 0) }

// startNode is start for what has a number in the plan.
func (r *reporter) startNode(name string, node int) *vertex {
	r.mu.Lock()
	r.next++
	v := &vertex{r: r, id: r.next, name: name}
	r.mu.Unlock()
	r.send(Event{Kind: Started, Vertex: v.id, Name: name, Node: node})
	return v
}

// vertex is one unit of work in the display.
type vertex struct {
	r    *reporter
	id   int
	name string
}

func (v *vertex) send(e Event) {
	e.Vertex, e.Name = v.id, v.name
	v.r.send(e)
}

// progress reports that current of total bytes of id are done.
func (v *vertex) progress(id string, current, total int64) {
	v.send(Event{Kind: Progress, ID: id, Current: current, Total: total})
}

// end closes the vertex: Failed with an error, else Cached or Done.
func (v *vertex) end(cached bool, layerBytes int64, err error) {
	e := Event{Kind: Done, LayerBytes: layerBytes, Err: err}
	switch {
	case err != nil:
		e.Kind = Failed
	case cached:
		e.Kind = Cached
	}
	v.send(e)
}

// logWriter is an io.Writer that reports what is written as Log events.
type logWriter struct {
	v      *vertex
	stream int
}

// Write reports p.
func (w logWriter) Write(p []byte) (int, error) {
	w.v.send(Event{Kind: Log, Stream: w.stream, Data: p})
	return len(p), nil
}
