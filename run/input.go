package run

import (
	"fmt"
	"os"
	"os/signal"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"cooper/run/internal/life"
)

// DefaultDetachKeys are docker's: Ctrl-P, Ctrl-Q.
const DefaultDetachKeys = "ctrl-p,ctrl-q"

// ParseDetachKeys reads a sequence of keys with commas between: a character, or
// ctrl- and a letter or one of @ [ \ ] ^ _. "" is none.
func ParseDetachKeys(s string) ([]byte, error) {
	if s == "" {
		return nil, nil
	}
	var keys []byte
	for key := range strings.SplitSeq(s, ",") {
		c, ctrl := strings.CutPrefix(strings.ToLower(key), "ctrl-")
		switch {
		case !ctrl && len(key) == 1:
			keys = append(keys, key[0])
		case ctrl && len(c) == 1 && (c[0] >= 'a' && c[0] <= 'z' || strings.Contains(`@[\]^_`, c)):
			keys = append(keys, strings.ToUpper(c)[0]&0x1f)
		default:
			return nil, fmt.Errorf("detach keys %q: %q is no key: want a character, or ctrl- and a letter or one of @[\\]^_", s, key)
		}
	}
	return keys, nil
}

// input copies what is typed, or comes by a pipe, to a container that goes on
// without us.
type input struct {
	detached chan struct{} // closed when the keys were typed

	from, to *os.File
	restore  func()
	stop     *os.File // closing it ends the copying
	winch    chan os.Signal
	running  sync.WaitGroup
}

// newInput begins to copy, in raw mode between two terminals, whose sizes are kept
// equal. It takes to over.
func newInput(s *session, to *os.File) *input {
	in := &input{detached: make(chan struct{}), from: s.streams.Stdin, to: to}
	if s.terminal {
		in.follow(s.streams.Stdout)
	}
	if in.from == nil {
		return in
	}
	if s.terminal {
		if state, err := term.MakeRaw(int(in.from.Fd())); err == nil {
			in.restore = func() { term.Restore(int(in.from.Fd()), state) }
		}
	}
	r, w, err := os.Pipe()
	if err != nil {
		return in
	}
	in.stop = w
	in.running.Go(func() {
		defer r.Close()
		keys := &keyFilter{to: to, keys: s.streams.DetachKeys}
		copyUntil(keys, in.from, r)
		switch {
		case keys.complete:
			close(in.detached)
		case s.terminal && !term.IsTerminal(int(in.from.Fd())):
			to.Write([]byte{4}) // end of a file or pipe: as Ctrl-D
		case !s.terminal && !keys.failed:
			to.Close()
			s.conn.Send(life.KindCloseStdin, nil)
		}
	})
	return in
}

// follow keeps the container's terminal as large as ours.
func (in *input) follow(ours *os.File) {
	if ours == nil || !term.IsTerminal(int(ours.Fd())) {
		return
	}
	in.winch = make(chan os.Signal, 1)
	signal.Notify(in.winch, unix.SIGWINCH)
	resize := func() {
		if w, h := terminalSize(ours); w != 0 {
			ResizeTerminal(in.to, w, h)
		}
	}
	resize()
	in.running.Go(func() {
		for range in.winch {
			resize()
		}
	})
}

// end stops the copying and gives our terminal its mode back.
func (in *input) end() {
	if in.stop != nil {
		in.stop.Close()
	}
	if in.winch != nil {
		signal.Stop(in.winch)
		close(in.winch)
	}
	in.running.Wait()
	if in.restore != nil {
		in.restore()
	}
	in.to.Close()
}

// keyFilter passes on what is written, up to a sequence of keys. The beginning of
// one waits for what follows.
type keyFilter struct {
	to       *os.File
	keys     []byte
	matched  int
	complete bool // all keys were typed
	failed   bool // the container does not read any more
}

func (k *keyFilter) Write(b []byte) (int, error) {
	out := make([]byte, 0, len(b)+k.matched)
	for _, c := range b {
		for {
			if k.matched < len(k.keys) && c == k.keys[k.matched] {
				k.matched++
				break
			}
			if k.matched == 0 {
				out = append(out, c)
				break
			}
			// Not the sequence after all. What was held back is let go from
			// its first key on; the rest may begin another one.
			held := k.keys[:k.matched]
			out = append(out, held[0])
			k.matched = overlap(k.keys, held[1:])
			out = append(out, held[1:len(held)-k.matched]...)
		}
		if len(k.keys) > 0 && k.matched == len(k.keys) {
			k.complete = true
			k.to.Write(out)
			return 0, ErrDetached
		}
	}
	if _, err := k.to.Write(out); err != nil {
		k.failed = true
		return 0, err
	}
	return len(b), nil
}

// overlap is the length of the longest end of held with which keys begins.
func overlap(keys, held []byte) int {
	for n := len(held); n > 0; n-- {
		if string(held[len(held)-n:]) == string(keys[:n]) {
			return n
		}
	}
	return 0
}
