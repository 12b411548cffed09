package progress

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"cooper/builder"
)

// rawJSON writes what happens as BuildKit's rawjson display does: a line for
// every change, each a JSON object of lists. Bytes are in base64. A vertex has
// no digest here, so one is made of its number and name.
//
// Steps are there before they begin, each with its inputs. As with BuildKit, an
// input that nobody needed, because what follows it was in the cache, ends as
// cached with the first step that stands on it.
type rawJSON struct {
	enc   *json.Encoder
	board board
	nodes map[int]*node
	files map[string]digest.Digest // Dockerfiles, the vertexes of their checks
}

// node is a vertex as it was planned.
type node struct {
	solveVertex
	inputs []int
	begun  bool
}

// solveStatus and what it holds have the fields of BuildKit's client package.
type solveStatus struct {
	Vertexes []solveVertex   `json:"vertexes,omitempty"`
	Statuses []vertexStatus  `json:"statuses,omitempty"`
	Logs     []vertexLog     `json:"logs,omitempty"`
	Warnings []vertexWarning `json:"warnings,omitempty"`
}

type solveVertex struct {
	Digest    digest.Digest   `json:"digest"`
	Inputs    []digest.Digest `json:"inputs,omitempty"`
	Name      string          `json:"name,omitempty"`
	Started   *time.Time      `json:"started,omitempty"`
	Completed *time.Time      `json:"completed,omitempty"`
	Cached    bool            `json:"cached,omitempty"`
	Error     string          `json:"error,omitempty"`
}

type vertexStatus struct {
	ID        string        `json:"id"`
	Vertex    digest.Digest `json:"vertex"`
	Total     int64         `json:"total,omitempty"`
	Current   int64         `json:"current"`
	Timestamp time.Time     `json:"timestamp"`
	Started   *time.Time    `json:"started,omitempty"`
	Completed *time.Time    `json:"completed,omitempty"`
}

type vertexLog struct {
	Vertex    digest.Digest `json:"vertex"`
	Stream    int           `json:"stream,omitempty"`
	Data      []byte        `json:"data"`
	Timestamp time.Time     `json:"timestamp"`
}

type vertexWarning struct {
	Vertex digest.Digest `json:"vertex,omitempty"`
	Level  int           `json:"level,omitempty"`
	Short  []byte        `json:"short,omitempty"`
	Detail [][]byte      `json:"detail,omitempty"`
	URL    string        `json:"url,omitempty"`
	Source *sourceFile   `json:"sourceInfo,omitempty"`
	Range  []sourceRange `json:"range,omitempty"`
}

type sourceFile struct {
	Filename string `json:"filename"`
	Data     []byte `json:"data"`
	Language string `json:"language"`
}

type sourceRange struct {
	Start sourceLine `json:"start"`
	End   sourceLine `json:"end"`
}

type sourceLine struct {
	Line int `json:"line"`
}

func newRawJSON(w io.Writer) *rawJSON {
	return &rawJSON{enc: json.NewEncoder(w), nodes: map[int]*node{}, files: map[string]digest.Digest{}}
}

func (r *rawJSON) event(e builder.Event) {
	v := r.board.vertex(e)
	switch {
	case e.Kind == builder.Warning:
		r.warning(v, e)
	case e.Kind == builder.Planned:
		r.plan(e)
	case v == nil:
	case e.Kind == builder.Started:
		r.write(solveStatus{Vertexes: []solveVertex{r.describe(v)}})
	case e.Kind == builder.Log:
		r.write(solveStatus{Logs: []vertexLog{{Vertex: r.digest(v), Stream: e.Stream, Data: e.Data, Timestamp: e.Time}}})
	case e.Kind == builder.Progress:
		r.write(solveStatus{Statuses: []vertexStatus{r.newVertexStatus(v, v.status(e.ID), e.Time)}})
	case e.Kind == builder.Cached, e.Kind == builder.Done, e.Kind == builder.Failed:
		r.end(v)
	}
}

// plan writes a vertex that has not begun.
func (r *rawJSON) plan(e builder.Event) {
	n := &node{inputs: e.Inputs}
	n.Name = oneLine(e.Name)
	n.Digest = digest.FromString(fmt.Sprintf("node %d %s", e.Node, n.Name))
	for _, in := range e.Inputs {
		if on := r.nodes[in]; on != nil && !slices.Contains(n.Inputs, on.Digest) {
			n.Inputs = append(n.Inputs, on.Digest)
		}
	}
	r.nodes[e.Node] = n
	r.write(solveStatus{Vertexes: []solveVertex{n.solveVertex}})
}

// skipped returns the inputs of a node, and theirs, that were not needed.
func (r *rawJSON) skipped(number int, now time.Time) (out []solveVertex) {
	n := r.nodes[number]
	if n == nil {
		return nil
	}
	for _, in := range n.inputs {
		on := r.nodes[in]
		if on == nil || on.begun {
			continue
		}
		on.begun = true
		on.Started, on.Completed, on.Cached = &now, &now, true
		out = append(append(out, r.skipped(in, now)...), on.solveVertex)
	}
	return out
}

// end writes the end of v and of what it counted.
func (r *rawJSON) end(v *vertex) {
	var out solveStatus
	if v.state != builder.Failed {
		out.Vertexes = r.skipped(v.node, v.ended)
	}
	out.Vertexes = append(out.Vertexes, r.describe(v))
	for _, s := range v.statuses {
		if v.state == builder.Done && !s.done {
			s.done, s.current, s.updated = true, max(s.current, s.total), v.ended
			out.Statuses = append(out.Statuses, r.newVertexStatus(v, s, v.ended))
		}
	}
	r.write(out)
}

func (r *rawJSON) tick(time.Time) {}

// finish ends what has not been reported as ended: the build was cut short.
func (r *rawJSON) finish(now time.Time) {
	for _, v := range r.board.vertexes {
		if v.running() {
			v.state, v.ended, v.err = builder.Failed, now, context.Canceled
			r.end(v)
		}
	}
}

// write writes a line. Who doesn't read it any more misses it.
func (r *rawJSON) write(s solveStatus) { _ = r.enc.Encode(s) }

// digest identifies v.
func (r *rawJSON) digest(v *vertex) digest.Digest {
	if n := r.nodes[v.node]; n != nil {
		return n.Digest
	}
	return digest.FromString(fmt.Sprintf("%d %s", v.id, v.name))
}

func (r *rawJSON) describe(v *vertex) solveVertex {
	out := solveVertex{Digest: r.digest(v), Name: v.name, Started: &v.started, Cached: v.state == builder.Cached}
	if n := r.nodes[v.node]; n != nil {
		out.Inputs, n.begun = n.Inputs, true
	}
	if v.running() {
		return out
	}
	out.Completed = &v.ended
	switch {
	case errors.Is(v.err, context.Canceled):
		out.Error = context.Canceled.Error() // what viewers compare with
	case v.err != nil:
		out.Error = v.err.Error()
	}
	return out
}

func (r *rawJSON) newVertexStatus(v *vertex, s *status, now time.Time) vertexStatus {
	out := vertexStatus{ID: s.id, Vertex: r.digest(v), Total: s.total, Current: s.current, Timestamp: now, Started: &s.started}
	if s.done {
		out.Completed = &s.updated
	}
	return out
}

// warning writes a warning. Viewers drop one that has no vertex: those about a
// Dockerfile belong to its loading, as with BuildKit.
func (r *rawJSON) warning(v *vertex, e builder.Event) {
	w := newVertexWarning(e)
	switch {
	case v != nil:
		w.Vertex = r.digest(v)
	case e.Check != nil:
		w.Vertex = r.loaded(e.Check.File, e.Time)
	}
	r.write(solveStatus{Warnings: []vertexWarning{w}})
}

// loaded returns the vertex that stands for the reading of a Dockerfile, which
// it writes when it is the first to ask.
func (r *rawJSON) loaded(file string, now time.Time) digest.Digest {
	d, ok := r.files[file]
	if !ok {
		v := solveVertex{Name: "[internal] load build definition from " + file, Started: &now, Completed: &now}
		v.Digest = digest.FromString(v.Name)
		d, r.files[file] = v.Digest, v.Digest
		r.write(solveStatus{Vertexes: []solveVertex{v}})
	}
	return d
}

func newVertexWarning(e builder.Event) vertexWarning {
	w := vertexWarning{Level: 1, Short: []byte(e.Message)}
	if c := e.Check; c != nil {
		w.Detail, w.URL = [][]byte{[]byte(c.Description)}, c.URL
		w.Source = &sourceFile{Filename: c.File, Data: c.Source, Language: "Dockerfile"}
		if !c.Location.IsZero() {
			w.Range = []sourceRange{{sourceLine{c.Location.Start}, sourceLine{c.Location.End}}}
		}
		return w
	}
	for line := range strings.Lines(e.Detail) {
		w.Detail = append(w.Detail, []byte(strings.TrimSuffix(line, "\n")))
	}
	return w
}
