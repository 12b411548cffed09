package cli

import (
	"errors"
	"time"

	"cooper/builder"
	"cooper/cmd/internal/progress"
	"cooper/registry"
)

// pullEvents turns a registry client's reports about one pull into events for a
// display: one vertex with a bar for each blob.
type pullEvents struct {
	display *progress.Display
	name    string
}

// beginPull reports the start of a pull of ref.
func beginPull(d *progress.Display, ref registry.Reference) *pullEvents {
	name := ref.String()
	if ref.IsRegistry() {
		name = ref.Name()
	}
	p := &pullEvents{display: d, name: "pull " + name}
	p.send(builder.Event{Kind: builder.Started})
	return p
}

func (p *pullEvents) send(e builder.Event) {
	e.Time, e.Vertex, e.Name = time.Now(), 1, p.name
	p.display.Event(e)
}

// progress has the shape of registry.Client.Progress.
func (p *pullEvents) progress(r registry.Progress) {
	e := builder.Event{Kind: builder.Progress, ID: r.Blob.String(), Current: r.Offset, Total: max(0, r.Total)}
	if r.Done {
		e.Current = max(e.Current, e.Total)
		e.Total = e.Current
	}
	p.send(e)
}

// errPull stands for a pull's error in the display; the command prints it.
var errPull = errors.New("not pulled")

// end reports how the pull ended.
func (p *pullEvents) end(err error) {
	e := builder.Event{Kind: builder.Done, LayerBytes: -1}
	if err != nil {
		e.Kind, e.Err = builder.Failed, errPull
	}
	p.send(e)
}
