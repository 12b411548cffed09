package layers

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// comparison finds what changed in a copy of a tree. Status times tell which
// files may have changed since the copy was made; of those that look the same
// even the content is compared, since a time stamp can be set back.
type comparison struct {
	now, before *os.File
	mark        unix.Timespec // when the copy was complete
	xattr       string        // prefix of overlayfs' own attributes
	owners      Owners        // of now, which is as a container has it
}

// change is a path that differs: new or other than before, or gone.
type change struct {
	path      string
	gone, dir bool
}

// compareDir compares a directory that is in both trees. The changes are in the
// order of comparePaths, without the directory itself.
func (c *comparison) compareDir(name string) ([]change, error) {
	now, err := c.children(c.now, name)
	if err != nil {
		return nil, err
	}
	before, err := c.children(c.before, name)
	if err != nil {
		return nil, err
	}
	var changes []change
	for len(now) > 0 || len(before) > 0 {
		order := 0
		switch {
		case len(before) == 0:
			order = -1
		case len(now) == 0:
			order = 1
		default:
			order = strings.Compare(now[0].name, before[0].name)
		}
		var found []change
		switch {
		case order < 0:
			found, err = c.added(path.Join(name, now[0].name), now[0].dir)
		case order > 0:
			found = []change{{path: path.Join(name, before[0].name), gone: true}}
		case now[0].dir != before[0].dir:
			found, err = c.added(path.Join(name, now[0].name), now[0].dir)
		case now[0].dir:
			found, err = c.comparedDir(path.Join(name, now[0].name))
		default:
			found, err = c.comparedFile(path.Join(name, now[0].name))
		}
		if err != nil {
			return nil, err
		}
		changes = append(changes, found...)
		if order <= 0 {
			now = now[1:]
		}
		if order >= 0 {
			before = before[1:]
		}
	}
	return changes, nil
}

func (c *comparison) children(root *os.File, name string) ([]child, error) {
	fd, err := openBeneath(int(root.Fd()), name, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return nil, fmt.Errorf("open directory /%s: %w", name, err)
	}
	defer unix.Close(fd)
	return readChildren(fd)
}

// added lists a path that was not there before, and everything in it.
func (c *comparison) added(name string, isDir bool) ([]change, error) {
	changes := []change{{path: name, dir: isDir}}
	if !isDir {
		return changes, nil
	}
	children, err := c.children(c.now, name)
	if err != nil {
		return nil, err
	}
	for _, child := range children {
		more, err := c.added(path.Join(name, child.name), child.dir)
		if err != nil {
			return nil, err
		}
		changes = append(changes, more...)
	}
	return changes, nil
}

// comparedDir lists a directory when it or anything in it changed: as in an
// overlay, a change is never without the directories above it.
func (c *comparison) comparedDir(name string) ([]change, error) {
	inside, err := c.compareDir(name)
	if err != nil {
		return nil, err
	}
	if len(inside) == 0 {
		same, err := c.same(name)
		if same || err != nil {
			return nil, err
		}
	}
	return slices.Concat([]change{{path: name, dir: true}}, inside), nil
}

func (c *comparison) comparedFile(name string) ([]change, error) {
	same, err := c.same(name)
	if same || err != nil {
		return nil, err
	}
	return []change{{path: name}}, nil
}

// same reports whether a path is what it was.
func (c *comparison) same(name string) (bool, error) {
	var now, before unix.Stat_t
	for _, side := range []struct {
		root *os.File
		st   *unix.Stat_t
	}{{c.now, &now}, {c.before, &before}} {
		fd, err := openBeneath(int(side.root.Fd()), name, unix.O_PATH)
		if err != nil {
			return false, fmt.Errorf("open /%s: %w", name, err)
		}
		err = unix.Fstat(fd, side.st)
		unix.Close(fd)
		if err != nil {
			return false, fmt.Errorf("stat /%s: %w", name, err)
		}
	}
	now.Uid, now.Gid = c.owners.Inside(now.Uid, now.Gid)
	kind := now.Mode & unix.S_IFMT
	if now.Mode != before.Mode || now.Uid != before.Uid || now.Gid != before.Gid || now.Mtim != before.Mtim ||
		kind != unix.S_IFDIR && now.Nlink != before.Nlink || now.Rdev != before.Rdev ||
		kind != unix.S_IFDIR && now.Size != before.Size {
		return false, nil
	}
	if earlier(now.Ctim, c.mark) {
		return true, nil
	}
	return c.sameContent(name, kind)
}

// earlier reports whether a is surely before b.
func earlier(a, b unix.Timespec) bool {
	return a.Sec < b.Sec || a.Sec == b.Sec && a.Nsec < b.Nsec
}

func (c *comparison) sameContent(name string, kind uint32) (bool, error) {
	switch kind {
	case unix.S_IFREG, unix.S_IFDIR:
	case unix.S_IFLNK:
		now, err := readlinkBeneath(c.now, name)
		if err != nil {
			return false, err
		}
		before, err := readlinkBeneath(c.before, name)
		return now == before, err
	default:
		return true, nil
	}
	now, err := openFileBeneath(c.now, name)
	if err != nil {
		return false, err
	}
	defer now.Close()
	before, err := openFileBeneath(c.before, name)
	if err != nil {
		return false, err
	}
	defer before.Close()
	x := changes{xattr: c.xattr}
	nowX, _, err := x.xattrs(int(now.Fd()))
	if err != nil {
		return false, err
	}
	beforeX, _, err := x.xattrs(int(before.Fd()))
	if err != nil || !maps.Equal(nowX, beforeX) || kind == unix.S_IFDIR {
		return maps.Equal(nowX, beforeX), err
	}
	return sameBytes(now, before)
}

func openFileBeneath(root *os.File, name string) (*os.File, error) {
	fd, err := openBeneath(int(root.Fd()), name, unix.O_RDONLY|unix.O_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("open /%s: %w", name, err)
	}
	return os.NewFile(uintptr(fd), name), nil
}

func readlinkBeneath(root *os.File, name string) (string, error) {
	dir, err := openParent(root, name, false)
	if err != nil {
		return "", err
	}
	defer dir.release()
	return readlinkat(dir.fd, path.Base(name))
}

// sameBytes compares two files of the same size.
func sameBytes(a, b *os.File) (bool, error) {
	x, y := make([]byte, 64<<10), make([]byte, 64<<10)
	for {
		n, err := io.ReadFull(a, x)
		m, err2 := io.ReadFull(b, y)
		if n != m || !bytes.Equal(x[:n], y[:m]) {
			return false, nil
		}
		switch {
		case err == io.EOF || err == io.ErrUnexpectedEOF:
			return true, nil
		case err != nil:
			return false, err
		case err2 != nil:
			return false, err2
		}
	}
}
