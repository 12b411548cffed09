package cli

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"cooper/run"
)

const eventsExample = `
  @ --since 1h                                  The last hour's, and what follows
  @ --filter event=die --format '{{.Actor.Attributes.name}} {{.Actor.Attributes.exitCode}}'
  @ --since 2026-01-02 --until 2026-01-03       A day's`

// newEvents makes the events command.
func newEvents(e *Env) *cobra.Command {
	var since, until, format string
	var filters []string
	var stream bool
	cmd := &cobra.Command{
		Use:                   "events [OPTIONS]",
		Short:                 "Show what happens to containers, images, volumes and networks",
		Long:                  "Show what happens to containers, images, volumes and networks, as it happens. --since shows\nwhat has happened, --until ends it.",
		Example:               eventsExample,
		DisableFlagsInUseLine: true,
		Args:                  exactArgs(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			o, err := eventOptions(since, until, filters, time.Now())
			if err != nil {
				return err
			}
			o.Follow = stream
			return e.events(cmd.Context(), o, format)
		},
	}
	fs := cmd.Flags()
	fs.StringArrayVarP(&filters, "filter", "f", nil, "Show only some: `KEY=VALUE` with container, event, image, label, network, type or volume (repeatable)")
	fs.StringVar(&format, "format", "", "Print json, or a Go `TEMPLATE` for each event")
	fs.StringVar(&since, "since", "", "Show what happened since a `TIME`: 10m ago, or a date")
	fs.StringVar(&until, "until", "", "End at a `TIME`")
	fs.BoolVar(&stream, "stream", true, "Wait for more")
	e.commonFlags(cmd)
	return cmd
}

// eventOptions reads the flags of events. As with docker, what has happened is only
// shown with --since or an --until in the past.
func eventOptions(since, until string, filters []string, now time.Time) (run.EventOptions, error) {
	var o run.EventOptions
	match, err := parseEventFilters(filters)
	if err != nil {
		return o, err
	}
	o.Match, o.Since = match, now
	if until != "" {
		if o.Until, err = parseTime(until, now); err != nil {
			return o, fmt.Errorf("--until: %w", err)
		}
		if o.Until.Before(now) {
			o.Since = time.Time{}
		}
	}
	if since != "" {
		if o.Since, err = parseTime(since, now); err != nil {
			return o, fmt.Errorf("--since: %w", err)
		}
	}
	return o, nil
}

// parseEventFilters reads --filter values: of one key one has to match, and all keys.
func parseEventFilters(values []string) (func(run.Event) bool, error) {
	kinds := make(map[string][]func(run.Event) bool)
	for _, v := range values {
		key, value, found := strings.Cut(v, "=")
		if !found {
			return nil, fmt.Errorf("invalid filter %q: want KEY=VALUE", v)
		}
		var match func(run.Event) bool
		switch key {
		case "event":
			match = func(ev run.Event) bool { return ev.Action == value || strings.HasPrefix(ev.Action, value+":") }
		case "type":
			match = func(ev run.Event) bool { return ev.Type == value }
		case "label":
			name, want, exact := strings.Cut(value, "=")
			match = func(ev run.Event) bool {
				got, has := ev.Attributes[name]
				return has && (!exact || got == want)
			}
		case "image":
			match = func(ev run.Event) bool {
				return ev.Attributes["image"] == value || ev.Type == "image" && eventIs(ev, value)
			}
		case "container", "network", "volume":
			match = func(ev run.Event) bool { return ev.Type == key && eventIs(ev, value) || ev.Attributes[key] == value }
		default:
			return nil, fmt.Errorf("invalid filter %q: known are container, event, image, label, network, type and volume", v)
		}
		kinds[key] = append(kinds[key], match)
	}
	return func(ev run.Event) bool {
		for _, some := range kinds {
			if !slices.ContainsFunc(some, func(match func(run.Event) bool) bool { return match(ev) }) {
				return false
			}
		}
		return true
	}, nil
}

// eventIs reports whether an event is about the thing with a name or ID.
func eventIs(ev run.Event, nameOrID string) bool {
	return ev.Attributes["name"] == nameOrID || ev.ID == nameOrID || len(nameOrID) >= 4 && strings.HasPrefix(ev.ID, nameOrID)
}

// eventObject is docker's form of an event.
type eventObject struct {
	Status   string `json:"status,omitempty"`
	ID       string `json:"id,omitempty"`
	From     string `json:"from,omitempty"`
	Type     string
	Action   string
	Actor    eventActor
	Scope    string `json:"scope"`
	Time     int64  `json:"time"`
	TimeNano int64  `json:"timeNano"`
}

type eventActor struct {
	ID         string
	Attributes map[string]string
}

func newEventObject(ev run.Event) eventObject {
	o := eventObject{
		Type: ev.Type, Action: ev.Action, Actor: eventActor{ID: ev.ID, Attributes: ev.Attributes},
		Scope: "local", Time: ev.Time.Unix(), TimeNano: ev.Time.UnixNano(),
	}
	if ev.Type == "container" || ev.Type == "image" {
		o.Status, o.ID, o.From = ev.Action, ev.ID, ev.Attributes["image"]
	}
	if o.Actor.Attributes == nil {
		o.Actor.Attributes = map[string]string{}
	}
	return o
}

// events is the events command.
func (e *Env) events(ctx context.Context, o run.EventOptions, format string) error {
	print := printEvent
	if format != "" {
		if format == "json" {
			format = "{{json .}}"
		}
		t, err := parseTemplate(format)
		if err != nil {
			return err
		}
		t.Option("missingkey=zero") // which attributes there are depends on the event
		print = func(w io.Writer, ev run.Event) error {
			if err := t.Execute(w, newEventObject(ev)); err != nil {
				return fmt.Errorf("--format: %w", err)
			}
			_, err := fmt.Fprintln(w)
			return err
		}
	}
	cs, err := e.containers(ctx)
	if err != nil {
		return err
	}
	ctx, stop := interruptible(ctx)
	defer stop()
	return followed(cs.Events(ctx, o, func(ev run.Event) error { return print(e.Stdout, ev) }))
}

// recordImage adds to the journal what happened to an image; it has the ID or, when
// that is not known any more, the name.
func (e *Env) recordImage(ctx context.Context, action, idOrName, name string) {
	cs, err := e.containers(ctx)
	if err != nil {
		return // the command itself has succeeded
	}
	cs.Record(run.Event{Type: "image", Action: action, ID: idOrName, Attributes: map[string]string{"name": name}})
}

// printEvent prints an event as docker does:
//
//	2026-01-02T15:04:05.000000000+01:00 container die 1a2b... (exitCode=0, image=app, name=web)
func printEvent(w io.Writer, ev run.Event) error {
	var words []string
	for _, name := range slices.Sorted(maps.Keys(ev.Attributes)) {
		words = append(words, name+"="+ev.Attributes[name])
	}
	line := fmt.Sprintf("%s %s %s %s", ev.Time.Local().Format("2006-01-02T15:04:05.000000000Z07:00"), ev.Type, ev.Action, ev.ID)
	if len(words) > 0 {
		line += " (" + strings.Join(words, ", ") + ")"
	}
	_, err := fmt.Fprintln(w, line)
	return err
}
