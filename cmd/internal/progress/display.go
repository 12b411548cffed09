package progress

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/term"

	"cooper/builder"
)

// Mode chooses a display.
type Mode string

// The modes. The zero Mode is Auto: TTY where the output is a terminal that
// can move its cursor, Plain elsewhere.
const (
	Auto    Mode = "auto"
	Plain   Mode = "plain"
	TTY     Mode = "tty"
	Quiet   Mode = "quiet"
	RawJSON Mode = "rawjson"
)

// ParseMode reads the value of --progress.
func ParseMode(s string) (Mode, error) {
	switch m := Mode(s); m {
	case "":
		return Auto, nil
	case Auto, Plain, TTY, Quiet, RawJSON:
		return m, nil
	}
	return "", fmt.Errorf("invalid progress type %q: want auto, plain, tty, quiet or rawjson", s)
}

// Options choose how a Display looks.
type Options struct {
	Mode Mode
	// Title begins the status line of the TTY display; "" is "Building".
	Title string
	// NoColor leaves out colours.
	NoColor bool
}

// Display shows events as they come. Its methods may be called concurrently.
type Display struct {
	mode     Mode
	mu       sync.Mutex
	renderer renderer // nil for the quiet display
	closed   bool
	stop     chan struct{}
	stopped  chan struct{}
}

// renderer is one way to draw. The caller serialises calls and gives the time,
// so that a recorded build draws the same every time.
type renderer interface {
	event(builder.Event)
	// tick is called a few times a second.
	tick(now time.Time)
	// finish draws what is left.
	finish(now time.Time)
}

// tickEvery is the time between two drawings of the TTY display. Plain looks
// as often whether a waiting step may speak.
const tickEvery = 100 * time.Millisecond

// New returns a display that writes to w. Close must be called.
func New(w *os.File, o Options) *Display {
	d := &Display{mode: settle(o.Mode, w)}
	d.renderer = newRenderer(w, d.mode, o)
	if d.renderer == nil {
		return d
	}
	d.stop, d.stopped = make(chan struct{}), make(chan struct{})
	go d.tick()
	return d
}

// settle decides what Auto is for w.
func settle(m Mode, w *os.File) Mode {
	switch {
	case m != "" && m != Auto:
		return m
	case term.IsTerminal(int(w.Fd())) && os.Getenv("TERM") != "dumb":
		return TTY
	}
	return Plain
}

// newRenderer returns nil for the quiet display.
func newRenderer(w *os.File, m Mode, o Options) renderer {
	switch m {
	case Quiet:
		return nil
	case RawJSON:
		return newRawJSON(w)
	case TTY:
		size := func() (int, int) { return terminalSize(w) }
		return newScreen(w, size, o.Title, !o.NoColor && os.Getenv("NO_COLOR") == "")
	}
	return newPlain(w, term.IsTerminal(int(w.Fd())))
}

// Mode is the mode in use; it is not Auto.
func (d *Display) Mode() Mode { return d.mode }

// terminalSize is the width and height of w, or those of an old terminal where
// w can't say.
func terminalSize(w *os.File) (width, height int) {
	width, height, err := term.GetSize(int(w.Fd()))
	if err != nil || width < 20 || height < 4 {
		return 80, 24
	}
	return width, height
}

// Event shows e. It has the shape of builder.Builder.Events.
func (d *Display) Event(e builder.Event) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.renderer != nil && !d.closed {
		d.renderer.event(e)
	}
}

// Close draws the last state. Later events and calls do nothing.
func (d *Display) Close() {
	d.mu.Lock()
	if d.renderer == nil || d.closed {
		d.mu.Unlock()
		return
	}
	d.closed = true
	d.renderer.finish(time.Now())
	d.mu.Unlock()
	close(d.stop)
	<-d.stopped
}

// tick lets the renderer draw until the display is closed.
func (d *Display) tick() {
	defer close(d.stopped)
	t := time.NewTicker(tickEvery)
	defer t.Stop()
	for {
		select {
		case <-d.stop:
			return
		case now := <-t.C:
			d.mu.Lock()
			if !d.closed {
				d.renderer.tick(now)
			}
			d.mu.Unlock()
		}
	}
}

// Tail writes a failed step's last lines of output in the form that BuildKit
// uses above an error. It writes nothing when there are no lines. terminal
// says that w is one, and drops what could move its cursor.
func Tail(w io.Writer, step string, lines []string, terminal bool) {
	if len(lines) == 0 {
		return
	}
	var b strings.Builder
	fmt.Fprintf(&b, "------\n > %s:\n", oneLine(step))
	for _, line := range lines {
		if terminal {
			line = clean(line, true)
		}
		b.WriteString(line)
		b.WriteByte('\n')
	}
	b.WriteString("------\n")
	io.WriteString(w, b.String())
}
