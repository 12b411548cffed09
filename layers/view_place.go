package layers

import (
	"path"

	"golang.org/x/sys/unix"
)

// place is a directory of a View, opened: the layer directories that make it
// up, top first.
type place struct {
	parts []part
}

// part is one layer's share of a place.
type part struct {
	layer int
	fd    int
	owned bool // fd belongs to the place, not to the View
	marks bool // regular files in it may be whiteouts by xattr
}

func (p *place) close() {
	for _, d := range p.parts {
		if d.owned {
			unix.Close(d.fd)
		}
	}
	p.parts = nil
}

// root returns the place of the root directory. It is never opaque for the
// layers below: overlayfs ignores the mark there.
func (v *View) root() *place {
	p := &place{parts: make([]part, len(v.layers))}
	for i, f := range v.layers {
		p.parts[i] = part{layer: i, fd: int(f.Fd())}
	}
	return p
}

// merged reports whether overlay marks have a meaning: a View of one directory
// shows it as it is, but for character device whiteouts.
func (v *View) merged() bool { return len(v.layers) > 1 }

// enter opens the directory name in p. The error is ENOENT when there is no
// such file, and ENOTDIR when it is anything else than a directory.
func (v *View) enter(p *place, name string) (*place, error) {
	sub := &place{}
	for _, d := range p.parts {
		fd, err := v.openDir(d.fd, name)
		if err == unix.ENOENT {
			continue
		}
		if err == unix.ENOTDIR || err == unix.ELOOP {
			if len(sub.parts) == 0 {
				return nil, v.notDir(d, name)
			}
			break
		}
		if err != nil {
			sub.close()
			return nil, err
		}
		last, err := v.add(sub, d.layer, fd)
		if err != nil {
			sub.close()
			return nil, err
		}
		if last {
			break
		}
	}
	if len(sub.parts) == 0 {
		return nil, unix.ENOENT
	}
	return sub, nil
}

// openDir opens a directory so that its marks can be read, if they matter.
func (v *View) openDir(dir int, name string) (int, error) {
	flags := unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC
	if !v.merged() {
		flags |= unix.O_PATH
	}
	return openat(dir, name, flags, 0)
}

// notDir tells a whiteout (ENOENT) from another non-directory (ENOTDIR).
func (v *View) notDir(d part, name string) error {
	var st unix.Stat_t
	if err := unix.Fstatat(d.fd, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	if v.hidden(d, name, &st) {
		return unix.ENOENT
	}
	return unix.ENOTDIR
}

// add makes fd, a directory in layer, the next part of p, and reports whether
// it hides the layers below.
func (v *View) add(p *place, layer, fd int) (last bool, err error) {
	d := part{layer: layer, fd: fd, owned: true}
	if v.merged() {
		mark, err := v.opaqueMark(fd)
		if err != nil {
			unix.Close(fd)
			return false, err
		}
		last, d.marks = mark == "y", mark == "x"
	}
	p.parts = append(p.parts, d)
	return last, nil
}

// opaqueMark returns the value of the directory's opaque xattr: "y" hides the
// layers below, "x" says that files in it may be whiteouts by xattr.
func (v *View) opaqueMark(fd int) (string, error) {
	var buf [8]byte
	for _, name := range v.opaque {
		n, err := unix.Fgetxattr(fd, name, buf[:])
		switch err {
		case nil:
			return string(buf[:n]), nil
		case unix.ENODATA, unix.EOPNOTSUPP, unix.EPERM, unix.ERANGE:
		default:
			return "", err
		}
	}
	return "", nil
}

// hidden reports whether name in d, described by st, is a whiteout.
func (v *View) hidden(d part, name string, st *unix.Stat_t) bool {
	if isWhiteout(st) {
		return true
	}
	if !d.marks || st.Mode&unix.S_IFMT != unix.S_IFREG || st.Size != 0 {
		return false
	}
	for _, x := range v.whiteout {
		if _, err := unix.Lgetxattr(procName(d.fd, name), x, nil); err == nil {
			return true
		}
	}
	return false
}

// lookup describes name in p, a directory whose path is dir. It is ENOENT when
// there is none.
func (v *View) lookup(p *place, dir, name string) (info Info, err error) {
	full, cname := path.Join(dir, name), append([]byte(name), 0)
	for _, d := range p.parts {
		var st unix.Stat_t
		if err := lstatName(d.fd, cname, &st); err == unix.ENOENT {
			continue
		}
		err := v.describeOne(&info, d, cname, full)
		return info, err
	}
	return info, unix.ENOENT
}

// describe fills info for p itself, whose path is dir.
func (p *place) describe(dir string) (Info, error) {
	var info Info
	var st unix.Stat_t
	if len(p.parts) == 0 {
		// The root of an empty View.
		st.Mode, st.Nlink = unix.S_IFDIR|0o755, 1
		info.set(dir, -1, &st)
		return info, nil
	}
	if err := unix.Fstat(p.parts[0].fd, &st); err != nil {
		return info, err
	}
	info.set(dir, p.parts[0].layer, &st)
	return info, nil
}
