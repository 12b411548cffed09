package progress

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"cooper/builder"
	"cooper/dockerfile"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// epoch is when every recorded build begins.
var epoch = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// at gives e its time, in seconds after the epoch.
func at(seconds float64, e builder.Event) builder.Event {
	e.Time = epoch.Add(time.Duration(seconds * float64(time.Second)))
	return e
}

func start(v int, name string) builder.Event {
	return builder.Event{Kind: builder.Started, Vertex: v, Name: name}
}

func output(v int, text string) builder.Event {
	return builder.Event{Kind: builder.Log, Vertex: v, Stream: 1, Data: []byte(text)}
}

func counted(v int, id string, current, total int64) builder.Event {
	return builder.Event{Kind: builder.Progress, Vertex: v, ID: id, Current: current, Total: total}
}

func planned(node int, name string, inputs ...int) builder.Event {
	return builder.Event{Kind: builder.Planned, Node: node, Name: name, Inputs: inputs}
}

// startNode is start for what was planned.
func startNode(v, node int, name string) builder.Event {
	e := start(v, name)
	e.Node = node
	return e
}

func end(v int, kind builder.Kind, bytes int64) builder.Event {
	return builder.Event{Kind: kind, Vertex: v, LayerBytes: bytes}
}

func fail(v int, err error) builder.Event {
	return builder.Event{Kind: builder.Failed, Vertex: v, Err: err}
}

// recordings are builds as their events.
var recordings = map[string][]builder.Event{
	"simple": {
		at(0, start(1, "[internal] load build definition from Dockerfile")),
		at(0, counted(1, "transferring dockerfile", 81, 81)),
		at(0, end(1, builder.Done, -1)),
		at(0, start(2, "[internal] load metadata for docker.io/library/debian:12")),
		at(0.2, end(2, builder.Done, -1)),
		at(0.2, start(3, "[1/3] FROM docker.io/library/debian:12")),
		at(0.2, end(3, builder.Cached, -1)),
		at(0.2, start(4, "[2/3] COPY . /src")),
		at(0.3, end(4, builder.Done, 1234567)),
		at(0.3, start(5, "[3/3] RUN make")),
		at(0.4, output(5, "cc -c a.c\ncc -c")),
		at(0.6, output(5, " b.c\n")),
		at(2.6, output(5, "done, no newline")),
		at(2.8, end(5, builder.Done, -1)),
		at(2.8, start(6, "exporting to image")),
		at(2.8, counted(6, "naming to localhost/app:latest", 0, 0)),
		at(2.85, end(5, builder.Committed, 45_600)),
		at(2.9, builder.Event{Kind: builder.Warning, Message: "Rule: look (line 3)", Check: &builder.Check{
			Warning: dockerfile.Warning{Rule: "Rule", Description: "what for", URL: "https://rule", Location: dockerfile.Location{Start: 3, End: 4}},
			File:    "Dockerfile", Source: []byte("FROM scratch\n"),
		}}),
		at(2.9, end(6, builder.Done, -1)),
	},
	"long": long(),
	"failing": {
		at(0, start(1, "[1/2] FROM docker.io/library/debian:12")),
		at(0, end(1, builder.Cached, -1)),
		at(0, start(2, "[2/2] RUN false")),
		at(1.5, output(2, "about to fail\n")),
		at(1.6, fail(2, errors.New(`process "/bin/sh -c false" did not complete successfully: exit code: 1`))),
	},
	"parallel": {
		at(0, start(1, "[a 1/1] RUN one")),
		at(0, start(2, "[b 1/1] RUN two")),
		at(0.1, output(1, "one 1\n")),
		at(0.2, output(2, "two 1\n")),
		at(0.3, output(1, "one 2\n")),
		at(2.0, output(2, "two 2\n")),
		at(2.1, output(1, "one 3\n")),
		at(2.2, end(2, builder.Done, 10)),
		at(2.3, output(1, "one 4\n")),
		at(2.4, end(1, builder.Done, 10)),
	},
	"pull": {
		at(0, start(1, "[1/1] FROM docker.io/library/big:1")),
		at(0.1, counted(1, "sha256:0011223344556677001122334455667700112233445566770011223344556677", 0, 50_000_000)),
		at(0.1, counted(1, "sha256:8899aabbccddeeff8899aabbccddeeff8899aabbccddeeff8899aabbccddeeff", 0, 2_000_000)),
		at(1.0, counted(1, "sha256:8899aabbccddeeff8899aabbccddeeff8899aabbccddeeff8899aabbccddeeff", 2_000_000, 2_000_000)),
		at(3.0, counted(1, "sha256:0011223344556677001122334455667700112233445566770011223344556677", 20_000_000, 50_000_000)),
		at(6.0, counted(1, "sha256:0011223344556677001122334455667700112233445566770011223344556677", 40_000_000, 50_000_000)),
		at(7.0, counted(1, "sha256:0011223344556677001122334455667700112233445566770011223344556677", 50_000_000, 50_000_000)),
		at(7.5, end(1, builder.Done, 120_000_000)),
	},
	"planned": {
		at(0, planned(1, "[a 1/2] FROM docker.io/library/debian:12")),
		at(0, planned(2, "[a 2/2] RUN make", 1)),
		at(0, planned(3, "[b 1/1] COPY x /")),
		at(0, planned(4, "[stage-2 1/1] COPY --from=b / /", 2, 3)),
		at(0, startNode(1, 3, "[b 1/1] COPY x /")),
		at(0.1, startNode(2, 2, "[a 2/2] RUN make")),
		at(0.1, end(2, builder.Cached, 10)),
		at(0.2, end(1, builder.Done, 10)),
		at(0.2, startNode(3, 4, "[stage-2 1/1] COPY --from=b / /")),
		at(0.3, counted(3, "copying", 10, 10)),
		at(0.4, end(3, builder.Done, 10)),
		at(0.4, start(4, "exporting to image")),
		at(0.5, end(4, builder.Done, -1)),
	},
	"interrupted": {
		at(0, start(1, "[1/2] RUN sleep 100")),
		at(0, start(2, "[other 1/1] RUN sleep 100")),
		at(1, output(1, "waiting")),
		at(2, fail(1, context.Canceled)),
	},
	"hostile": {
		at(0, start(1, "[1/1] RUN printf '\x1b[2J\x07 <<EOF\nline two\nEOF")),
		at(0.1, output(1, "\x1b[31mred\x1b[0m \x1b[2J\x1b[H\x1b]0;title\x07after\n")),
		at(0.1, output(1, "10%\r50%\r100%\r\n\ttab\u202eesrever\u0085\n")),
		at(0.2, output(1, "日本語日本語日本語日本語日本語日本語日本語日本語日本語日本語日本語日本語\n")),
		at(0.2, output(1, "\x1b[1000B\x1bcunfinished \x1b[3")),
		at(0.3, output(1, "A\x1b]never ended")),
		at(6, end(1, builder.Done, 0)),
	},
}

// long is a build with more steps than the terminal has lines, the first of
// which runs to the end.
func long() []builder.Event {
	events := []builder.Event{at(0, start(1, "[other 1/1] RUN slow")), at(0, output(1, "slow output\n"))}
	for v := 2; v < 18; v++ {
		from := float64(v-2) / 4
		events = append(events, at(from, start(v, fmt.Sprintf("[%d/16] RUN step", v-1))), at(from+0.2, end(v, builder.Done, 1000)))
	}
	return append(events, at(4.5, end(1, builder.Done, 1000)))
}

// last is the time of the last event.
func last(events []builder.Event) time.Time { return events[len(events)-1].Time }

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got, -update rewrites):\n%s", name, diff)
	}
}

// play feeds events to r with a tick every 100 ms, as Display does.
func play(r renderer, events []builder.Event, afterTick func(now time.Time)) {
	now := epoch
	for _, e := range events {
		for now.Add(tickEvery).Before(e.Time) {
			now = now.Add(tickEvery)
			r.tick(now)
			if afterTick != nil {
				afterTick(now)
			}
		}
		r.event(e)
	}
}

func TestPlain(t *testing.T) {
	for name, events := range recordings {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			p := newPlain(&out, true)
			play(p, events, nil)
			p.finish(last(events))
			golden(t, name+".plain", out.String())
		})
	}
}

// A log that is no terminal gets the bytes that the step wrote.
func TestPlainKeepsBytesInLogs(t *testing.T) {
	var out bytes.Buffer
	p := newPlain(&out, false)
	p.event(at(0, start(1, "x")))
	p.event(at(0.5, output(1, "1%\r2%\x1b[K\n")))
	p.event(at(1, end(1, builder.Done, 0)))
	want := "#1 x\n#1 0.500 1%\r2%\x1b[K\n#1 DONE 1.0s\n\n"
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Errorf("plain log (-want +got):\n%s", diff)
	}
}

func TestScreen(t *testing.T) {
	for name, events := range recordings {
		t.Run(name, func(t *testing.T) {
			term := &terminal{width: 72, height: 12}
			s := newScreen(term, term.size, "", false)
			var film bytes.Buffer
			next := epoch
			play(s, events, func(now time.Time) {
				if !now.Before(next) {
					film.WriteString(term.shot(now))
					next = now.Add(time.Second)
				}
			})
			s.finish(last(events))
			film.WriteString(term.shot(last(events)))
			golden(t, name+".tty", film.String())
		})
	}
}

// Many steps at once and little room: the live part never gets higher than the
// terminal, or it could not be erased.
func TestScreenFitsTerminal(t *testing.T) {
	for _, height := range []int{4, 6, 10, 24} {
		term := &terminal{width: 40, height: height}
		s := newScreen(term, term.size, "", true)
		for v := 1; v <= 12; v++ {
			s.event(at(0, start(v, "[stage 1/1] RUN something long enough to be cut at the edge")))
			s.event(at(0, output(v, "a\nb\nc\nd\ne\nf\ng\nh\n")))
			s.event(at(0, counted(v, "sha256:0123", 1, 2)))
		}
		now := epoch.Add(time.Second)
		if got := len(s.liveLines(now, 40, height-1)); got > height-1 {
			t.Errorf("height %d: live part has %d lines", height, got)
		}
		s.tick(now)
		s.tick(now)
		if got := len(term.lines); got > height {
			t.Errorf("height %d: two drawings left %d lines", height, got)
		}
	}
}

func TestClean(t *testing.T) {
	for _, c := range []struct {
		name, in string
		colors   bool
		want     string
	}{
		{"ascii", "hello", false, "hello"},
		{"colours kept and ended", "\x1b[1;31mred", true, "\x1b[1;31mred\x1b[0m"},
		{"colours dropped", "\x1b[1;31mred", false, "red"},
		{"cursor", "a\x1b[10Ab\x1b[Hc", true, "abc"},
		{"private mode", "\x1b[?1049hx", true, "x"},
		{"title", "\x1b]0;evil\x07x\x1b]2;y\x1b\\z", true, "xz"},
		{"device control", "\x1bPq#0\x1b\\x", true, "x"},
		{"reset", "\x1bcx\x1b(0y", true, "xy"},
		{"unfinished", "x\x1b[12", true, "x"},
		{"last escape", "x\x1b", true, "x"},
		{"eight-bit controls", "\u009b2Jx", true, "2Jx"},
		{"returns", "10%\r20%\r", true, "20%"},
		{"tab", "ab\tc", true, "ab      c"},
		{"bidi", "a\u202eb", true, "ab"},
		{"invalid", "a\xffb", true, "a\ufffdb"},
		{"bell and backspace", "a\a\bb", true, "ab"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := clean(c.in, c.colors); got != c.want {
				t.Errorf("clean(%q, %v) = %q, want %q", c.in, c.colors, got, c.want)
			}
		})
	}
}

func TestFit(t *testing.T) {
	for _, c := range []struct {
		in    string
		width int
		want  string
	}{
		{"short", 10, "short"},
		{"exactly 10", 10, "exactly 10"},
		{"more than 10", 10, "more th..."},
		{"日本語日本語", 9, "日本語..."},
		{"日本語日本語", 8, "日本..."},
		{"abc", 2, ".."},
	} {
		if got := fit(c.in, c.width); got != c.want {
			t.Errorf("fit(%q, %d) = %q, want %q", c.in, c.width, got, c.want)
		}
	}
}

func TestSize(t *testing.T) {
	for n, want := range map[int64]string{
		0: "0B", 999: "999B", 1000: "1.00kB", 1234: "1.23kB", 45_600: "45.6kB",
		999_400: "999kB", 999_600: "1.00MB", 9_996_000: "10.0MB", 120_000_000: "120MB", 5_000_000_000_000: "5.00TB",
	} {
		if got := size(n); got != want {
			t.Errorf("size(%d) = %q, want %q", n, got, want)
		}
	}
}

// A Display draws from its own goroutine and is closed once, by whoever comes
// first.
func TestDisplay(t *testing.T) {
	path := filepath.Join(t.TempDir(), "out")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	d := New(f, Options{})
	d.Event(builder.Event{Time: time.Now(), Kind: builder.Started, Vertex: 1, Name: "step"})
	d.Close()
	d.Close()
	d.Event(builder.Event{Time: time.Now(), Kind: builder.Started, Vertex: 2, Name: "late"})
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if want := "#1 step\n#1 CANCELED\n\n"; string(got) != want {
		t.Errorf("display wrote %q, want %q", got, want)
	}
}
