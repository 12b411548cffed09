package progress

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"testing"
	"time"
)

func TestRawJSON(t *testing.T) {
	for _, name := range []string{"simple", "failing", "interrupted", "pull", "planned"} {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			r := newRawJSON(&out)
			play(r, recordings[name], nil)
			r.finish(last(recordings[name]))
			golden(t, name+".rawjson", out.String())
		})
	}
}

// Existing viewers decode the lines: the fields here are those of BuildKit's
// client.SolveStatus, in Go's default spelling, which decoding matches whatever
// the case.
func TestRawJSONIsBuildKits(t *testing.T) {
	type buildkit struct {
		Vertexes []struct {
			Digest, Name, Error string
			Inputs              []string
			Started, Completed  *time.Time
			Cached              bool
		}
		Statuses []struct {
			ID, Vertex, Name   string
			Total, Current     int64
			Timestamp          time.Time
			Started, Completed *time.Time
		}
		Logs []struct {
			Vertex    string
			Stream    int
			Data      []byte
			Timestamp time.Time
		}
		Warnings []struct {
			Vertex, URL string
			Level       int
			Short       []byte
			Detail      [][]byte
			SourceInfo  struct {
				Filename, Language string
				Data               []byte
			}
			Range []struct{ Start, End struct{ Line int } }
		}
	}
	var out bytes.Buffer
	r := newRawJSON(&out)
	play(r, recordings["simple"], nil)
	var logs, warnings string
	names, open := map[string]string{}, map[string]bool{}
	dec := json.NewDecoder(&out)
	dec.DisallowUnknownFields()
	for {
		var s buildkit
		err := dec.Decode(&s)
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		for _, v := range s.Vertexes {
			names[v.Digest], open[v.Digest] = v.Name, v.Completed == nil
		}
		for _, l := range s.Logs {
			logs += names[l.Vertex] + ": " + string(l.Data) + "|"
		}
		for _, w := range s.Warnings {
			warnings += fmt.Sprintf("%s|%s|%s|%s|%d", w.Short, w.Detail, w.URL, w.SourceInfo.Data, w.Range)
		}
	}
	const step = "[3/3] RUN make: "
	if want := step + "cc -c a.c\ncc -c|" + step + " b.c\n|" + step + "done, no newline|"; logs != want {
		t.Errorf("logs = %q, want %q", logs, want)
	}
	if want := "Rule: look (line 3)|[what for]|https://rule|FROM scratch\n|[{{3} {4}}]"; warnings != want {
		t.Errorf("warnings = %q, want %q", warnings, want)
	}
	for d, still := range open {
		if still {
			t.Errorf("%s was not completed", names[d])
		}
	}
}
