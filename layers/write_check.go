package layers

import (
	"golang.org/x/sys/unix"
)

// check compares the plan with what the snapshot shows so far, before anything
// is written: it finds conflicts, and what directories are there already.
func (w *writer) check(v *View) error {
	type level struct {
		dir   *dirNode
		place *place // nil: nothing is there
	}
	stack := []level{{w.plan.root.self, v.root()}}
	defer func() {
		for _, l := range stack {
			if l.place != nil {
				l.place.close()
			}
		}
	}()
	if err := w.adopt(v, w.plan.root, stack[0].place); err != nil {
		return err
	}
	for _, n := range w.plan.order {
		for n.dir != stack[len(stack)-1].dir {
			if p := stack[len(stack)-1].place; p != nil {
				p.close()
			}
			stack = stack[:len(stack)-1]
		}
		at := stack[len(stack)-1].place
		if n.self == nil {
			if at == nil || !v.isDir(at, n.name()) {
				continue
			}
			if !w.options.Replace {
				return &ConflictError{Path: n.entry.Path, Dir: true}
			}
			w.replaced = append(w.replaced, n.entry.Path)
			continue
		}
		sub, err := w.checkDir(v, n, at)
		if err != nil {
			return err
		}
		stack = append(stack, level{n.self, sub})
	}
	return nil
}

// checkDir looks for the directory n in at, and says what it will be: as its
// entry has it, else as it is, else as the options say.
func (w *writer) checkDir(v *View, n *node, at *place) (*place, error) {
	n.self.setgid = n.dir.setgid // what mkdir hands down
	if at != nil {
		sub, err := v.enter(at, n.name())
		switch err {
		case nil:
			if err := w.adopt(v, n, sub); err != nil {
				sub.close()
				return nil, err
			}
			return sub, nil
		case unix.ENOTDIR:
			if !w.options.Replace {
				return nil, &ConflictError{Path: n.entry.Path}
			}
		case unix.ENOENT:
		default:
			return nil, err
		}
	}
	if n.index < 0 {
		e := n.entry
		e.Mode = unix.S_IFDIR | w.options.DirMode&0o7777
		e.UID, e.GID, e.ModTime = w.options.DirUID, w.options.DirGID, w.options.DirTime
	}
	return nil, nil
}

// adopt notes that the directory n exists as p.
func (w *writer) adopt(v *View, n *node, p *place) error {
	info, err := p.describe(n.entry.Path)
	if err != nil {
		return err
	}
	n.self.exists = info.layer == 0
	if n.self.exists {
		n.self.setgid = info.Mode&unix.S_ISGID != 0
	}
	if n.index >= 0 {
		return nil
	}
	e, err := v.Entry(info)
	if err == nil {
		*n.entry = e
	}
	return err
}

// isDir reports whether name in p is a directory.
func (v *View) isDir(p *place, name string) bool {
	var st unix.Stat_t
	for _, d := range p.parts {
		if unix.Fstatat(d.fd, name, &st, unix.AT_SYMLINK_NOFOLLOW) == nil {
			return st.Mode&unix.S_IFMT == unix.S_IFDIR
		}
	}
	return false
}
