package layers

import (
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// maxLinks is the number of symbolic links that one lookup follows, as in the
// kernel.
const maxLinks = 40

// location is where a name leads.
type location struct {
	path string // clean, without symbolic links before the last element
	info Info   // unless something is missing
	why  error  // ENOENT or ENOTDIR, when something on the way is missing
}

// locate resolves name inside the root, following the last element as well if
// follow is set. The error is about the lookup itself; a file that does not
// exist is a location that says why.
func (v *View) locate(name string, follow bool) (location, error) {
	todo := elements(name)
	if loc, ok := v.locateDirect(todo); ok && !(follow && loc.info.IsSymlink()) {
		return loc, nil
	}
	r := resolver{v: v, stack: []*place{v.root()}}
	defer r.close()
	return r.run(todo, follow)
}

// locateDirect is the short cut for a View of one directory and a path without
// links: one openat2 instead of a walk.
func (v *View) locateDirect(names []string) (location, bool) {
	if v.merged() || len(v.layers) == 0 || len(names) == 0 || openat2Refused.Load() {
		return location{}, false
	}
	for _, n := range names {
		if n == ".." {
			return location{}, false
		}
	}
	name := strings.Join(names, "/")
	fd, err := openBeneath(int(v.layers[0].Fd()), name, unix.O_PATH)
	if err != nil {
		return location{}, false
	}
	defer unix.Close(fd)
	loc := location{path: name}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || isWhiteout(&st) {
		return location{}, false
	}
	loc.info.set(name, 0, &st)
	if loc.info.IsSymlink() {
		loc.info.Linkname, err = readlinkat(fd, "")
	}
	return loc, err == nil
}

// resolver walks a path element by element, holding every directory on the way
// open, so that ".." needs no trust in the tree.
type resolver struct {
	v     *View
	stack []*place // the root first
	names []string // of stack[1:]
	tail  []string // elements that do not exist
	why   error    // for the first that did not
	links int
}

func (r *resolver) close() {
	for _, p := range r.stack {
		p.close()
	}
}

func (r *resolver) dir() string { return path.Join(append([]string{"."}, r.names...)...) }

// up goes to the parent directory, or stays in the root.
func (r *resolver) up() {
	if n := len(r.tail); n > 0 {
		r.tail = r.tail[:n-1]
		return
	}
	r.pop(len(r.names) - 1)
}

// pop leaves n names on the stack.
func (r *resolver) pop(n int) {
	n = max(n, 0)
	for _, p := range r.stack[n+1:] {
		p.close()
	}
	r.stack, r.names = r.stack[:n+1], r.names[:n]
}

func (r *resolver) run(todo []string, follow bool) (location, error) {
	for len(todo) > 0 {
		name := todo[0]
		todo = todo[1:]
		if name == ".." {
			r.up()
			continue
		}
		if len(r.tail) > 0 {
			r.tail = append(r.tail, name)
			continue
		}
		info, err := r.step(name, len(todo) == 0 && !follow)
		if err != nil {
			return location{}, err
		}
		if info.Path == "" {
			continue
		}
		if info.IsSymlink() && (len(todo) > 0 || follow) {
			if todo, err = r.expand(info.Linkname, todo); err != nil {
				return location{}, err
			}
			continue
		}
		if len(todo) == 0 {
			return location{path: info.Path, info: info, why: r.why}, nil
		}
		r.miss(name, unix.ENOTDIR)
	}
	return r.end()
}

// step goes into the directory name, or describes it when it is something else
// or when describe is set; then info.Path is not empty.
func (r *resolver) step(name string, describe bool) (info Info, err error) {
	top := r.stack[len(r.stack)-1]
	if !describe {
		sub, err := r.v.enter(top, name)
		if err == nil {
			r.stack, r.names = append(r.stack, sub), append(r.names, name)
			return Info{}, nil
		}
		if err != unix.ENOTDIR && err != unix.ENOENT {
			return Info{}, err
		}
	}
	info, err = r.v.lookup(top, r.dir(), name)
	if err == unix.ENOENT {
		r.miss(name, unix.ENOENT)
		return Info{}, nil
	}
	return info, err
}

// miss notes that name does not exist; what follows it is kept as it is.
func (r *resolver) miss(name string, why error) {
	r.tail = []string{name}
	if r.why == nil {
		r.why = why
	}
}

// expand puts the target of a symbolic link before the remaining elements.
func (r *resolver) expand(target string, todo []string) ([]string, error) {
	if r.links++; r.links > maxLinks {
		return nil, unix.ELOOP
	}
	if strings.HasPrefix(target, "/") {
		r.pop(0)
	}
	return append(elements(target), todo...), nil
}

// end describes the directory or the missing path that the walk came to.
func (r *resolver) end() (location, error) {
	dir := r.dir()
	if r.why != nil {
		return location{path: path.Join(append([]string{dir}, r.tail...)...), why: r.why}, nil
	}
	info, err := r.stack[len(r.stack)-1].describe(dir)
	return location{path: dir, info: info}, err
}
