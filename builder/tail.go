package builder

import (
	"bytes"
	"sync"
)

// tailLines is how much of a failed command's output its error repeats.
const tailLines = 20

// tailBytes bounds a single unfinished line in memory.
const tailBytes = 4096

// tail remembers the last lines written to it. It is safe for concurrent use.
type tail struct {
	mu      sync.Mutex
	last    []string
	partial []byte
}

// Write implements io.Writer and never fails.
func (t *tail) Write(p []byte) (int, error) {
	t.add(p)
	return len(p), nil
}

func (t *tail) add(p []byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for {
		i := bytes.IndexByte(p, '\n')
		if i < 0 {
			break
		}
		t.push(string(append(t.partial, p[:i]...)))
		t.partial = t.partial[:0]
		p = p[i+1:]
	}
	if room := tailBytes - len(t.partial); len(p) > room {
		p = p[:room]
	}
	t.partial = append(t.partial, p...)
}

func (t *tail) push(line string) {
	if len(t.last) == tailLines {
		t.last = append(t.last[:0], t.last[1:]...)
	}
	t.last = append(t.last, line)
}

// lines returns what is remembered, oldest first.
func (t *tail) lines() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	out := append([]string(nil), t.last...)
	if len(t.partial) > 0 {
		out = append(out, string(t.partial))
	}
	return out
}
