package run

import (
	"maps"
	"path/filepath"

	"cooper/run/internal/events"
)

// Event is one thing that happened to a container, volume or network.
type Event = events.Event

// EventsFile is the path of the journal that events are appended to.
func (cs *Containers) EventsFile() string {
	return filepath.Join(filepath.Dir(cs.dir), "events.log")
}

// Record adds an event to the journal. A full disk must not keep anybody from
// removing things, so that it can't be written is no error.
func (cs *Containers) Record(e Event) { _ = events.Append(cs.EventsFile(), e) }

// event records what happened to c.
func (c *Container) event(action string, attributes map[string]string) {
	all := map[string]string{"name": c.opts.Name, "image": c.opts.Image}
	maps.Copy(all, c.opts.Labels)
	maps.Copy(all, attributes)
	c.cs.Record(Event{Type: "container", Action: action, ID: c.id, Attributes: all})
}
