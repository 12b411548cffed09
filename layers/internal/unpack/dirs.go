package unpack

import (
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	// maxOpen bounds the directories that are open at a time.
	maxOpen = 400
	// maxLinks is how many symbolic links a path may lead through.
	maxLinks = 255
	// maxPath is how long a path may become, links followed: nobody could
	// name a longer one.
	maxPath = 4095 // bytes
)

// dir is a directory of the tree that has been walked to. While it is not open
// fd is -1; the parent's fd may be then, too.
type dir struct {
	parent *dir // nil for the root
	name   string
	length int // of its path
	fd     int
	setgid bool // files made in it do not get our group
	subs   map[string]*dir
}

// dirs are the directories that are known.
type dirs struct {
	root *dir
	open []*dir          // but for the root
	by   map[string]*dir // by the paths that entries have used
}

func (s *dirs) init(root *dir) { s.root, s.by = root, map[string]*dir{"/": root} }

func (s *dirs) closeAll() {
	for _, d := range s.open {
		unix.Close(d.fd)
		d.fd = -1
	}
	s.open = s.open[:0]
}

// forget is for when a directory or symbolic link has been removed: what is
// known may not be true any more.
func (s *dirs) forget() {
	s.closeAll()
	s.root.subs = nil
	s.by = map[string]*dir{"/": s.root}
}

// opened notes that d is open.
func (s *dirs) opened(d *dir, fd int) {
	d.fd = fd
	s.open = append(s.open, d)
}

// sub returns what is known of the directory name in d.
func (d *dir) sub(name string) *dir {
	sub := d.subs[name]
	if sub == nil {
		sub = &dir{parent: d, name: name, length: d.length + 1 + len(name), fd: -1}
		if d.subs == nil {
			d.subs = map[string]*dir{}
		}
		d.subs[name] = sub
	}
	return sub
}

// resolve returns the directory that a clean absolute path leads to, open.
// With create it makes what is missing.
func (t *Tree) resolve(name string, create bool) (*dir, error) {
	if len(t.dirs.open) >= maxOpen {
		t.dirs.closeAll()
	}
	if d := t.dirs.by[name]; d != nil {
		return d, t.reopen(d)
	}
	// Most often the parent is known, and the last element is a directory.
	if d := t.dirs.by[path.Dir(name)]; d != nil {
		if err := t.reopen(d); err != nil {
			return nil, err
		}
		d, err := t.walk(d, path.Base(name), create)
		if err == nil {
			t.dirs.by[name] = d
		}
		return d, err
	}
	d, err := t.walk(t.root, name, create)
	if err == nil {
		t.dirs.by[name] = d
	}
	return d, err
}

// walk goes from at to the directory name, element by element.
func (t *Tree) walk(at *dir, name string, create bool) (*dir, error) {
	links := 0
	for name != "" {
		element, rest, _ := strings.Cut(name, "/")
		name = rest
		switch element {
		case "", ".":
			continue
		case "..":
			if at.parent != nil {
				at = at.parent
			}
			continue
		}
		if err := t.reopen(at); err != nil {
			return nil, err
		}
		next, err := t.enter(at, element, create)
		if err == nil {
			at = next
			continue
		}
		if err != unix.ENOTDIR && err != unix.ELOOP {
			return nil, err
		}
		target, linkErr := readlinkat(at.fd, element)
		if linkErr != nil {
			return nil, unix.ENOTDIR
		}
		if links++; links > maxLinks {
			return nil, unix.ELOOP
		}
		if strings.HasPrefix(target, "/") {
			at = t.root
		}
		name = target + "/" + rest
	}
	return at, t.reopen(at)
}

// enter opens the directory name in at, which is open. Anything but a directory is
// ENOTDIR or ELOOP.
func (t *Tree) enter(at *dir, name string, create bool) (*dir, error) {
	if d := at.subs[name]; d != nil {
		return d, t.reopen(d)
	}
	if at.length+1+len(name) > maxPath {
		return nil, unix.ENAMETOOLONG
	}
	fd, err := openDir(at.fd, name)
	made := err == unix.ENOENT && create
	if made {
		if err := unix.Mkdirat(at.fd, name, 0o777); err != nil {
			return nil, err
		}
		fd, err = openDir(at.fd, name)
	}
	if err != nil {
		return nil, err
	}
	d := at.sub(name)
	t.dirs.opened(d, fd)
	if made && (at.setgid || t.uid != 0 || t.gid != 0) {
		if err := t.ignore(unix.Fchown(fd, 0, 0)); err != nil {
			return nil, err
		}
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, err
	}
	d.setgid = st.Mode&unix.S_ISGID != 0
	return d, nil
}

// reopen opens d again if it has been closed meanwhile.
func (t *Tree) reopen(d *dir) error {
	if d.fd >= 0 {
		return nil
	}
	if err := t.reopen(d.parent); err != nil {
		return err
	}
	fd, err := openDir(d.parent.fd, d.name)
	if err != nil {
		return err
	}
	t.dirs.opened(d, fd)
	return nil
}

func openDir(at int, name string) (int, error) {
	return openat(at, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
}
