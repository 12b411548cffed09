package run

import (
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"cooper/run/internal/events"
)

// TestEvents reads what happens to a container, in order.
func TestEvents(t *testing.T) {
	cs, img := keptStore(t)
	begun := time.Now()
	c := create(t, cs, img, ContainerOptions{Name: "web", Labels: map[string]string{"tier": "front"}})
	if err := c.Rename(t.Context(), "www"); err != nil {
		t.Fatal(err)
	}
	if err := c.Remove(t.Context(), RemoveOptions{}); err != nil {
		t.Fatal(err)
	}
	read := func(o EventOptions) string {
		var words []string
		err := cs.Events(t.Context(), o, func(e Event) error {
			words = append(words, e.Action+"/"+e.Attributes["name"])
			return nil
		})
		if err != nil {
			t.Errorf("Events: %v", err)
		}
		return strings.Join(words, " ")
	}
	for _, tt := range []struct {
		name string
		o    EventOptions
		want string
	}{
		{"all", EventOptions{}, "create/web rename/www destroy/www"},
		{"since then", EventOptions{Since: time.Now()}, ""},
		{"until then", EventOptions{Until: begun}, ""},
		{"some", EventOptions{Match: func(e Event) bool { return e.Action != "rename" && e.Attributes["tier"] == "front" }}, "create/web destroy/www"},
		{"following for a while", EventOptions{Follow: true, Until: time.Now().Add(20 * time.Millisecond)}, "create/web rename/www destroy/www"},
	} {
		if got := read(tt.o); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
}

// TestEventsFollow follows the journal through its rotations.
func TestEventsFollow(t *testing.T) {
	cs, _ := keptStore(t)
	const total = 3 * events.MaxSize / 1000
	enough := errors.New("enough")
	following, step := make(chan error, 1), make(chan struct{}, total)
	go func() {
		n := 0
		following <- cs.Events(t.Context(), EventOptions{Follow: true}, func(e Event) error {
			if n++; n == total {
				return enough
			}
			step <- struct{}{}
			return nil
		})
	}()
	for i := range total {
		cs.Record(Event{Type: "container", Action: "start", ID: strings.Repeat("i", 1000)})
		if i%500 == 499 && i < total-500 {
			for range 500 { // between two rotations a follower keeps up
				<-step
			}
		}
	}
	if err := <-following; !errors.Is(err, enough) {
		t.Errorf("Events = %v, want all %d", err, total)
	}
	st, err := os.Stat(cs.EventsFile() + ".1")
	if err != nil || st.Size() > events.MaxSize+2000 {
		t.Errorf("the rotated journal: %v, %v", st, err)
	}
}
