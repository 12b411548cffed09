// Package events keeps the journal of what happens to containers, volumes and
// networks: a file that any number of processes append to.
//
// The journal is one JSON object a line. When it has grown beyond MaxSize it is
// renamed to NAME.1, in place of the one before, and begun anew.
package events

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// MaxSize is the size in bytes beyond which a journal is rotated.
const MaxSize = 4 << 20

// Event is one thing that happened.
type Event struct {
	Time time.Time
	// Type is "container", "image", "volume" or "network", Action what
	// happened to it, in docker's words: "create", "start", "die", ...
	Type, Action string
	// ID is the thing's, or its name if it has no other.
	ID string
	// Attributes say more: "name", "image", "exitCode", ...
	Attributes map[string]string `json:",omitempty"`
}

// Append adds e to the journal at path, making it when it is not there. A zero
// Time means now.
func Append(path string, e Event) error {
	if e.Time.IsZero() {
		e.Time = time.Now()
	}
	line, err := json.Marshal(e)
	if err != nil {
		return fmt.Errorf("event: %w", err)
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("event: %w", err)
	}
	defer f.Close()
	// One write: lines of several processes don't mix.
	if _, err := f.Write(append(line, '\n')); err != nil {
		return fmt.Errorf("event: %w", err)
	}
	return rotate(path, f)
}

// rotate renames the journal f when it is too long, unless somebody else does or
// has done so.
func rotate(path string, f *os.File) error {
	st, err := f.Stat()
	if err != nil || st.Size() < MaxSize {
		return err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil
		}
		return fmt.Errorf("event: lock %s: %w", path, err)
	}
	now, err := os.Stat(path)
	if err != nil || !os.SameFile(st, now) {
		return nil
	}
	return os.Rename(path, path+".1")
}
