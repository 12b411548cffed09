package builder

import (
	"fmt"
	"io/fs"
	"strconv"

	mode "github.com/tonistiigi/dchapes-mode"
	"golang.org/x/sys/unix"
)

// modeChange is a --chmod value. Its zero value changes nothing.
type modeChange struct {
	set      bool
	absolute uint32
	symbolic *mode.Set
}

// parseMode reads an octal mode or a symbolic one ("u=rwX,go=rX").
func parseMode(s string) (modeChange, error) {
	if n, err := strconv.ParseUint(s, 8, 32); err == nil {
		if n > 0o7777 {
			return modeChange{}, fmt.Errorf("invalid chmod parameter: '%v'. it should be octal string and between 0 and 07777", s)
		}
		return modeChange{set: true, absolute: uint32(n)}, nil
	}
	set, err := mode.ParseWithUmask(s, 0)
	if err != nil {
		return modeChange{}, fmt.Errorf("invalid chmod parameter: '%v'. it should be octal string and between 0 and 07777, or symbolic as in u=rwX,go=rX: %w", s, err)
	}
	return modeChange{set: true, symbolic: &set}, nil
}

// apply returns m, a mode as in struct stat, with the change made.
func (c modeChange) apply(m uint32) uint32 {
	switch {
	case !c.set:
		return m
	case c.symbolic == nil:
		return m&unix.S_IFMT | c.absolute
	}
	fm := fs.FileMode(m & 0o777)
	for bit, flag := range modeBits {
		if m&bit != 0 {
			fm |= flag
		}
	}
	if m&unix.S_IFMT == unix.S_IFDIR {
		fm |= fs.ModeDir
	}
	fm = c.symbolic.Apply(fm)
	out := m&unix.S_IFMT | uint32(fm.Perm())
	for bit, flag := range modeBits {
		if fm&flag != 0 {
			out |= bit
		}
	}
	return out
}

// madeDir returns the mode of directories that are made for the destination, m
// without a change. As with BuildKit only an octal mode changes them, and only
// its permission bits.
func (c modeChange) madeDir(m uint32) uint32 {
	if !c.set || c.symbolic != nil {
		return m
	}
	return c.absolute & 0o777
}

var modeBits = map[uint32]fs.FileMode{
	unix.S_ISUID: fs.ModeSetuid,
	unix.S_ISGID: fs.ModeSetgid,
	unix.S_ISVTX: fs.ModeSticky,
}
