package progress

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"cooper/builder"
)

// rawJSON writes what happens as BuildKit's rawjson display does: a line for
// every change, each a JSON object of lists. Bytes are in base64. A vertex has
// no digest here, so one is made of its number and name.
type rawJSON struct {
	enc   *json.Encoder
	board board
}

// solveStatus and what it holds have the fields of BuildKit's client package.
type solveStatus struct {
	Vertexes []solveVertex   `json:"vertexes,omitempty"`
	Statuses []vertexStatus  `json:"statuses,omitempty"`
	Logs     []vertexLog     `json:"logs,omitempty"`
	Warnings []vertexWarning `json:"warnings,omitempty"`
}

type solveVertex struct {
	Digest    digest.Digest `json:"digest"`
	Name      string        `json:"name,omitempty"`
	Started   *time.Time    `json:"started,omitempty"`
	Completed *time.Time    `json:"completed,omitempty"`
	Cached    bool          `json:"cached,omitempty"`
	Error     string        `json:"error,omitempty"`
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

func newRawJSON(w io.Writer) *rawJSON { return &rawJSON{enc: json.NewEncoder(w)} }

func (r *rawJSON) event(e builder.Event) {
	v := r.board.vertex(e)
	switch {
	case e.Kind == builder.Warning:
		r.write(solveStatus{Warnings: []vertexWarning{newVertexWarning(v, e)}})
	case v == nil:
	case e.Kind == builder.Started:
		r.write(solveStatus{Vertexes: []solveVertex{describe(v)}})
	case e.Kind == builder.Log:
		r.write(solveStatus{Logs: []vertexLog{{Vertex: v.digest(), Stream: e.Stream, Data: e.Data, Timestamp: e.Time}}})
	case e.Kind == builder.Progress:
		r.write(solveStatus{Statuses: []vertexStatus{newVertexStatus(v, v.status(e.ID), e.Time)}})
	case e.Kind == builder.Cached, e.Kind == builder.Done, e.Kind == builder.Failed:
		r.end(v)
	}
}

// end writes the end of v and of what it counted.
func (r *rawJSON) end(v *vertex) {
	out := solveStatus{Vertexes: []solveVertex{describe(v)}}
	for _, s := range v.statuses {
		if v.state == builder.Done && !s.done {
			s.done, s.current, s.updated = true, max(s.current, s.total), v.ended
			out.Statuses = append(out.Statuses, newVertexStatus(v, s, v.ended))
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
func (v *vertex) digest() digest.Digest {
	return digest.FromString(fmt.Sprintf("%d %s", v.id, v.name))
}

func describe(v *vertex) solveVertex {
	out := solveVertex{Digest: v.digest(), Name: v.name, Started: &v.started, Cached: v.state == builder.Cached}
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

func newVertexStatus(v *vertex, s *status, now time.Time) vertexStatus {
	out := vertexStatus{ID: s.id, Vertex: v.digest(), Total: s.total, Current: s.current, Timestamp: now, Started: &s.started}
	if s.done {
		out.Completed = &s.updated
	}
	return out
}

func newVertexWarning(v *vertex, e builder.Event) vertexWarning {
	w := vertexWarning{Level: 1, Short: []byte(e.Message)}
	if v != nil {
		w.Vertex = v.digest()
	}
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
