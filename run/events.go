package run

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"path/filepath"
	"time"

	"cooper/run/internal/events"
)

// Event is one thing that happened to a container, image, volume or network.
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
	all := map[string]string{"name": c.opts().Name, "image": c.opts().Image}
	maps.Copy(all, c.opts().Labels)
	maps.Copy(all, attributes)
	c.cs.Record(Event{Type: "container", Action: action, ID: c.id, Attributes: all})
}

// EventOptions say which events are read.
type EventOptions struct {
	// Since and Until bound the time; the zero Time does not.
	Since, Until time.Time
	// Follow waits for more until Until is past, or the context ends.
	Follow bool
	// Match, if not nil, says which are wanted.
	Match func(Event) bool
}

// Events calls each with the events of the journal, the oldest first, until that
// returns an error, which it returns.
func (cs *Containers) Events(ctx context.Context, o EventOptions, each func(Event) error) error {
	path := cs.EventsFile()
	r := newRecordReader(filepath.Dir(path), filepath.Base(path), func(line []byte) error {
		var e Event
		if json.Unmarshal(line, &e) != nil || e.Time.Before(o.Since) {
			return nil
		}
		if !o.Until.IsZero() && e.Time.After(o.Until) {
			return errRecordsEnd
		}
		if o.Match != nil && !o.Match(e) {
			return nil
		}
		return each(e)
	})
	defer r.close()
	err := cs.readEvents(ctx, r, o)
	if errors.Is(err, errRecordsEnd) {
		return nil
	}
	return err
}

func (cs *Containers) readEvents(ctx context.Context, r *recordReader, o EventOptions) (err error) {
	if o.Follow {
		if r.watch, err = newWatch(ctx, r.dir, r.name); err != nil {
			return err
		}
	}
	if err := r.scan(); err != nil {
		return err
	}
	if r.watch == nil {
		return r.drain(ctx)
	}
	return r.follow(ctx, o.Until, nil)
}
