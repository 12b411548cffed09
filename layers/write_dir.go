package layers

import (
	"fmt"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// dirNode is a directory that Write puts files in. It is made when the first of
// them needs it, and gets its metadata when the last of them is there: until
// then its mode would be in the way, and its time would change again.
//
// It is open only while somebody uses it, and holds its parent open as long: a
// worker that goes on to a sibling acquires that before it releases this.
type dirNode struct {
	node   *node
	exists bool // in the upper directory, before Write
	setgid bool // files made in it do not get our group
	// left counts what must happen before the metadata is set: the directory
	// itself, and each file in it.
	left atomic.Int32

	mu    sync.Mutex // a child's is taken before its parent's
	made  bool
	users int
	fd    int
}

func newDirNode(n *node) *dirNode { return &dirNode{node: n} }

// acquire opens the directory, making it and its parents as needed. release
// must follow.
func (d *dirNode) acquire(w *writer) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.users > 0 {
		d.users++
		return d.fd, nil
	}
	at, name := int(w.upper.Fd()), "."
	if parent := d.node.dir; parent != nil {
		fd, err := parent.acquire(w)
		if err != nil {
			return -1, err
		}
		at, name = fd, d.node.name()
	}
	fd, err := d.open(w, at, name)
	if err != nil {
		if d.node.dir != nil {
			d.node.dir.release()
		}
		return -1, fmt.Errorf("write /%s: %w", d.node.entry.Path, err)
	}
	d.fd, d.users = fd, 1
	return fd, nil
}

func (d *dirNode) open(w *writer, at int, name string) (int, error) {
	if !d.exists && !d.made {
		if err := d.make(w, at, name); err != nil {
			return -1, err
		}
		d.made = true
	}
	return openat(at, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
}

// make makes the directory. If it replaces a whiteout it is opaque, since what
// the whiteout hid must stay hidden.
func (d *dirNode) make(w *writer, at int, name string) error {
	err := unix.Mkdirat(at, name, 0o700)
	if err != unix.EEXIST {
		return err
	}
	if err := unix.Unlinkat(at, name, 0); err != nil {
		return err
	}
	if err := unix.Mkdirat(at, name, 0o700); err != nil {
		return err
	}
	if w.opaque == "" {
		return nil
	}
	return unix.Lsetxattr(procName(at, name), w.opaque, []byte("y"), 0)
}

func (d *dirNode) release() {
	d.mu.Lock()
	d.users--
	last := d.users == 0
	if last {
		unix.Close(d.fd)
	}
	d.mu.Unlock()
	if last && d.node.dir != nil {
		d.node.dir.release()
	}
}

// done counts down, and sets the metadata of the directory when nothing will
// change in it any more.
func (d *dirNode) done(w *writer) error {
	if d.left.Add(-1) > 0 {
		return nil
	}
	fd, err := d.acquire(w)
	if err != nil {
		return err
	}
	defer d.release()
	e := d.node.entry
	if d.exists && d.node.index < 0 {
		err = futimens(fd, e.ModTime)
	} else {
		err = w.setMetadata(fd, e, true)
	}
	if err != nil {
		return fmt.Errorf("write /%s: %w", e.Path, err)
	}
	if d.node.dir == nil {
		return nil
	}
	return d.node.dir.done(w)
}
