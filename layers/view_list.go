package layers

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// listing is the merged content of one directory.
type listing struct {
	infos []Info // sorted by name
	// layers holds, for each directory among infos, the layers that may have
	// a share in it. It is nil in a View of one directory.
	layers [][]int
}

// dirent is one name found in one part of a directory.
type dirent struct {
	start, end int // in the names buffer, without the NUL that follows
	part       int
}

// direntBuffers holds buffers for getdents64.
var direntBuffers = sync.Pool{New: func() any { b := make([]byte, 32<<10); return &b }}

// list reads the directory dir. layers are those that may have a share in it,
// top first; nil means all. Links in dir are not followed.
func (v *View) list(dir string, layers []int) (listing, error) {
	p, err := v.openList(dir, layers)
	if err != nil {
		return listing{}, err
	}
	defer p.close()
	var names []byte
	var found []dirent
	for i, d := range p.parts {
		if names, found, err = readNames(d.fd, i, names, found); err != nil {
			return listing{}, err
		}
	}
	slices.SortFunc(found, func(a, b dirent) int {
		if c := bytes.Compare(names[a.start:a.end], names[b.start:b.end]); c != 0 {
			return c
		}
		return a.part - b.part
	})
	return v.describeAll(p, dir, names, found)
}

// openList opens dir in every layer that has a share in it, for reading.
func (v *View) openList(dir string, layers []int) (*place, error) {
	if layers == nil {
		if dir != "." && v.merged() {
			return v.openAt(dir)
		}
		layers = make([]int, len(v.layers))
		for i := range layers {
			layers[i] = i
		}
	}
	p := &place{}
	for _, l := range layers {
		fd, err := openBeneath(int(v.layers[l].Fd()), dir, unix.O_RDONLY|unix.O_DIRECTORY)
		if err != nil {
			p.close()
			return nil, err
		}
		last, err := v.add(p, l, fd)
		if err != nil {
			p.close()
			return nil, err
		}
		if last && dir != "." {
			break
		}
	}
	return p, nil
}

// openAt opens the directory dir of a merged View element by element, because
// a whiteout or an opaque directory may sit anywhere on the way.
func (v *View) openAt(dir string) (*place, error) {
	p := v.root()
	for _, name := range elements(dir) {
		sub, err := v.enter(p, name)
		p.close()
		if err != nil {
			return nil, err
		}
		p = sub
	}
	return p, nil
}

// readNames appends the names in the directory fd to names, each followed by a
// NUL, and their positions to found.
func readNames(fd, part int, names []byte, found []dirent) ([]byte, []dirent, error) {
	bp := direntBuffers.Get().(*[]byte)
	defer direntBuffers.Put(bp)
	buf := *bp
	for {
		n, err := unix.Getdents(fd, buf)
		if err == unix.EINTR {
			continue
		}
		if err != nil || n <= 0 {
			return names, found, err
		}
		for rest := buf[:n]; len(rest) > 0; {
			size := binary.NativeEndian.Uint16(rest[16:18])
			name := rest[19:size]
			name = name[:bytes.IndexByte(name, 0)]
			rest = rest[size:]
			if string(name) == "." || string(name) == ".." {
				continue
			}
			start := len(names)
			names = append(append(names, name...), 0)
			found = append(found, dirent{start: start, end: len(names) - 1, part: part})
		}
	}
}

// describeAll turns the sorted names into Infos, each from the topmost part
// that has it.
func (v *View) describeAll(p *place, dir string, names []byte, found []dirent) (listing, error) {
	l := listing{infos: make([]Info, 0, len(found))}
	if v.merged() {
		l.layers = make([][]int, 0, len(found))
	}
	paths := joinAll(dir, names, found)
	for i := 0; i < len(found); {
		same := i + 1
		for same < len(found) && bytes.Equal(names[found[same].start:found[same].end], names[found[i].start:found[i].end]) {
			same++
		}
		e := found[i]
		d := p.parts[e.part]
		l.infos = append(l.infos, Info{})
		info := &l.infos[len(l.infos)-1]
		err := v.describeOne(info, d, names[e.start:e.end+1], paths[i])
		if err == unix.ENOENT {
			l.infos = l.infos[:len(l.infos)-1]
			i = same // deleted, in this layer or just now
			continue
		}
		if err != nil {
			return listing{}, fmt.Errorf("%s: %w", names[e.start:e.end], err)
		}
		if v.merged() {
			l.layers = append(l.layers, sharers(p, info, names, found[i:same]))
		}
		i = same
	}
	return l, nil
}

// linkTries bounds the retries when a link turns into something else between
// lstat and readlink.
const linkTries = 16

// describeOne fills info for name, which is NUL terminated, in d. It is ENOENT
// for a whiteout too.
func (v *View) describeOne(info *Info, d part, name []byte, path string) error {
	var st unix.Stat_t
	var err error
	for range linkTries {
		if err = lstatName(d.fd, name, &st); err != nil {
			return err
		}
		if (isWhiteout(&st) || d.marks) && v.hidden(d, string(name[:len(name)-1]), &st) {
			return unix.ENOENT
		}
		info.set(path, d.layer, &st)
		if !info.IsSymlink() {
			return nil
		}
		info.Linkname, err = readlinkat(d.fd, string(name[:len(name)-1]))
		if err != unix.EINVAL {
			return err
		}
	}
	return err
}

// sharers returns the layers in which the directory info, found by several
// parts of p, continues downwards: up to the first that has something else.
func sharers(p *place, info *Info, names []byte, found []dirent) []int {
	if !info.IsDir() {
		return nil
	}
	layers := make([]int, 1, len(found))
	layers[0] = info.layer
	var st unix.Stat_t
	for _, e := range found[1:] {
		d := p.parts[e.part]
		if lstatName(d.fd, names[e.start:e.end+1], &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFDIR {
			break
		}
		layers = append(layers, d.layer)
	}
	return layers
}

// joinAll returns dir joined with each name, in one allocation for all.
func joinAll(dir string, names []byte, found []dirent) []string {
	prefix := dir + "/"
	if dir == "." {
		prefix = ""
	}
	var b strings.Builder
	b.Grow(len(names) + len(found)*len(prefix))
	for _, e := range found {
		b.WriteString(prefix)
		b.Write(names[e.start:e.end])
	}
	all, paths := b.String(), make([]string, len(found))
	for i, e := range found {
		n := len(prefix) + e.end - e.start
		paths[i], all = all[:n], all[n:]
	}
	return paths
}
