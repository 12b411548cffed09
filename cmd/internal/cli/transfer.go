package cli

import (
	"errors"
	"time"

	"cooper/builder"
	"cooper/cmd/internal/progress"
	"cooper/registry"
)

// transfer turns a registry client's reports about one pull or push into events for a
// display: one vertex with a bar for each blob.
type transfer struct {
	display *progress.Display
	name    string
}

// beginTransfer reports the start of a pull or push of ref.
func beginTransfer(d *progress.Display, verb string, ref registry.Reference) *transfer {
	name := ref.String()
	if ref.IsRegistry() {
		name = ref.Name()
	}
	p := &transfer{display: d, name: verb + " " + name}
	p.send(builder.Event{Kind: builder.Started})
	return p
}

func (p *transfer) send(e builder.Event) {
	e.Time, e.Vertex, e.Name = time.Now(), 1, p.name
	p.display.Event(e)
}

// progress has the shape of registry.Client.Progress.
func (p *transfer) progress(r registry.Progress) {
	e := builder.Event{Kind: builder.Progress, ID: r.Blob.String(), Current: r.Offset, Total: max(0, r.Total)}
	if r.Done {
		e.Current = max(e.Current, e.Total)
		e.Total = e.Current
	}
	p.send(e)
}

// errTransfer stands for a transfer's error in the display; the command prints
// it.
var errTransfer = errors.New("not done")

// end reports how it ended.
func (p *transfer) end(err error) {
	e := builder.Event{Kind: builder.Done, LayerBytes: -1}
	if err != nil {
		e.Kind, e.Err = builder.Failed, errTransfer
	}
	p.send(e)
}
