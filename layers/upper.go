package layers

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// walkUpper finds everything in an overlay upper directory; with live, directories may
// vanish meanwhile.
func walkUpper(upper *os.File, live bool) func(context.Context, func(*item) error) error {
	return func(ctx context.Context, emit func(*item) error) error {
		root, err := openDirAt(int(upper.Fd()), ".")
		if err != nil {
			return err
		}
		defer root.release()
		if err := emit(&item{path: ".", dir: root.hold()}); err != nil {
			return err
		}
		return walkUpperDir(root, "", live, emit)
	}
}

func openDirAt(at int, name string) (*openDir, error) {
	fd, err := openat(at, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	d := &openDir{fd: fd}
	return d.hold(), nil
}

func walkUpperDir(dir *openDir, prefix string, live bool, emit func(*item) error) error {
	children, err := readChildren(dir.fd)
	if live && errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read directory /%s: %w", prefix, err)
	}
	for _, child := range children {
		name := path.Join(prefix, child.name)
		if !child.dir {
			if err := emit(&item{path: name, name: child.name, dir: dir.hold()}); err != nil {
				return err
			}
			continue
		}
		sub, err := openDirAt(dir.fd, child.name)
		if live && err == unix.ENOENT {
			continue
		}
		if err != nil {
			return fmt.Errorf("open directory /%s: %w", name, err)
		}
		if err = emit(&item{path: name, dir: sub.hold()}); err == nil {
			err = walkUpperDir(sub, name, live, emit)
		}
		sub.release()
		if err != nil {
			return err
		}
	}
	return nil
}

// child is one name in a directory.
type child struct {
	name string
	dir  bool
}

// readChildren lists a directory, sorted by name.
func readChildren(fd int) ([]child, error) {
	bp := direntBuffers.Get().(*[]byte)
	defer direntBuffers.Put(bp)
	var children []child
	for {
		n, err := unix.Getdents(fd, *bp)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return nil, os.NewSyscallError("getdents64", err)
		}
		if n == 0 {
			break
		}
		for rest := (*bp)[:n]; len(rest) > 0; {
			size := binary.NativeEndian.Uint16(rest[16:18])
			kind, name := rest[18], rest[19:size]
			rest = rest[size:]
			name = name[:bytes.IndexByte(name, 0)]
			if string(name) == "." || string(name) == ".." {
				continue
			}
			c := child{name: string(name), dir: kind == unix.DT_DIR}
			if kind == unix.DT_UNKNOWN {
				var st unix.Stat_t
				if err := unix.Fstatat(fd, c.name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
					return nil, err
				}
				c.dir = st.Mode&unix.S_IFMT == unix.S_IFDIR
			}
			children = append(children, c)
		}
	}
	slices.SortFunc(children, func(a, b child) int { return strings.Compare(a.name, b.name) })
	return children, nil
}

// inLower reports whether a directory at name shows through from the lower
// layers, as overlayfs looks it up: links are not followed, and anything but a
// directory ends the search.
func (c *changes) inLower(name string) (bool, error) {
	elements := strings.Split(name, "/")
	for _, lower := range c.lowers {
		found, last, err := c.lookupDir(int(lower.Fd()), elements)
		if found || last || err != nil {
			return found, err
		}
	}
	return false, nil
}

// lookupDir looks for a directory in one layer; last means that the layer hides
// those below it.
func (c *changes) lookupDir(root int, elements []string) (found, last bool, err error) {
	at := root
	defer func() {
		if at != root {
			unix.Close(at)
		}
	}()
	for _, name := range elements {
		fd, err := openat(at, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		switch err {
		case nil:
		case unix.ENOENT:
			return false, last, nil
		case unix.ENOTDIR, unix.ELOOP:
			return false, true, nil
		default:
			return false, false, fmt.Errorf("look up /%s in a lower layer: %w", path.Join(elements...), err)
		}
		if at != root {
			unix.Close(at)
		}
		at = fd
		_, marks, err := c.xattrs(fd)
		if err != nil {
			return false, false, err
		}
		last = last || marks["opaque"] == "y"
	}
	return true, last, nil
}
