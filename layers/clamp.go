package layers

import (
	"time"

	"golang.org/x/sys/unix"
)

// Clamp lets no file of the layer have a modification time after t: in its tar
// and in its directory both, so that it does not matter which of them another
// tool reads. Directories copied up from the parent are files of the layer too;
// the parent itself stays as it is. It is called before the first Write.
//
// A command that runs on the layer before its Commit is done may see times that
// are still to change: who clamps waits for the Commit.
func (sn *Snapshot) Clamp(t time.Time) {
	sn.limit = t
}

// late reports whether t is to be replaced by limit; a zero limit is none.
func late(t, limit time.Time) bool { return !limit.IsZero() && t.After(limit) }

// clamp gives the nodes that are too new the limit. The caller's entries stay
// as they are.
func (p *plan) clamp(limit time.Time) {
	if limit.IsZero() {
		return
	}
	for _, n := range append([]*node{p.root}, p.order...) {
		if late(n.entry.ModTime, limit) {
			e := *n.entry
			e.ModTime = limit
			n.entry = &e
		}
	}
}

// clamp gives a file that is too new the limit, in its entry and on disk.
func (c *changes) clamp(it *item) error {
	if it.kind != itemEntry && it.kind != itemOpaque || !late(it.entry.ModTime, c.limit) {
		return nil
	}
	it.entry.ModTime = c.limit
	if it.name == "" {
		return futimens(it.dir.fd, c.limit)
	}
	times := []unix.Timespec{{Nsec: unix.UTIME_OMIT}, unix.NsecToTimespec(c.limit.UnixNano())}
	return unix.UtimesNanoAt(it.dir.fd, it.name, times, unix.AT_SYMLINK_NOFOLLOW)
}
