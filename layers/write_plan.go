package layers

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// node is one file that Write leaves in the upper directory: an entry, or a
// directory on the way to one.
type node struct {
	entry *Entry
	index int      // of entry in Write's argument; -1 for a directory on the way
	dir   *dirNode // the directory it is in; nil for the root
	self  *dirNode // set if it is a directory
	link  *node    // set if it is a hard link: the node with the content
}

func (n *node) name() string { return path.Base(n.entry.Path) }

// plan is the tree that Write makes.
type plan struct {
	root  *node
	order []*node // as in a layer's tar: comparePaths; without the root
	links []*node
}

// newPlan puts entries in order and adds the directories on the way to them.
func newPlan(entries []Entry) (*plan, error) {
	order, err := sortEntries(entries)
	if err != nil {
		return nil, err
	}
	p := &plan{root: newDirectory(&Entry{Path: ".", Mode: unix.S_IFDIR}, -1, nil)}
	p.order = make([]*node, 0, len(order)+len(order)/8)
	nodes := make([]node, len(order))
	stack := []*node{p.root} // the directories that lead to the last node
	for i, index := range order {
		e := &entries[index]
		if e.Path == "." {
			if !e.IsDir() {
				return nil, &ConflictError{Path: "", Dir: true}
			}
			p.root.entry, p.root.index = e, index
			continue
		}
		if stack, err = p.descend(stack, e.Path); err != nil {
			return nil, err
		}
		n := &nodes[i]
		*n = node{entry: e, index: index, dir: stack[len(stack)-1].self}
		if e.IsDir() {
			n.self = newDirNode(n)
			stack = append(stack, n)
		}
		p.order = append(p.order, n)
	}
	return p, p.linkNodes()
}

// sortEntries returns the indexes of the entries to write, in tar order: of
// those with the same path the last, and no sockets.
func sortEntries(entries []Entry) ([]int, error) {
	order := make([]int, 0, len(entries))
	sorted := true
	for i := range entries {
		e := &entries[i]
		if e.Type() == unix.S_IFSOCK {
			continue
		}
		if err := checkPath(e.Path); err != nil {
			return nil, err
		}
		if n := len(order); n > 0 && comparePaths(entries[order[n-1]].Path, e.Path) >= 0 {
			sorted = false
		}
		order = append(order, i)
	}
	if sorted {
		return order, nil
	}
	slices.SortStableFunc(order, func(a, b int) int {
		return comparePaths(entries[a].Path, entries[b].Path)
	})
	kept := order[:0]
	for i, index := range order {
		if i+1 < len(order) && entries[order[i+1]].Path == entries[index].Path {
			if a, b := &entries[index], &entries[order[i+1]]; a.IsDir() != b.IsDir() {
				return nil, &ConflictError{Path: a.Path, Dir: a.IsDir()}
			}
			continue
		}
		kept = append(kept, index)
	}
	return kept, nil
}

// checkPath refuses paths that are not clean or that a layer cannot hold.
func checkPath(p string) error {
	if p == "." {
		return nil
	}
	if p == "" || strings.HasPrefix(p, "/") || strings.ContainsRune(p, 0) {
		return fmt.Errorf("write %q: not a relative path", p)
	}
	for name := range strings.SplitSeq(p, "/") {
		switch {
		case name == "" || name == "." || name == "..":
			return fmt.Errorf("write %q: not a clean path", p)
		case strings.HasPrefix(name, whiteoutPrefix):
			return fmt.Errorf("write /%s: %w", p, errPath)
		}
	}
	return nil
}

// descend pops stack to the directory that holds name, adding directories that
// no entry makes.
func (p *plan) descend(stack []*node, name string) ([]*node, error) {
	dir := path.Dir(name)
	for len(stack) > 1 && !within(dir, stack[len(stack)-1].entry.Path) {
		stack = stack[:len(stack)-1]
	}
	top := stack[len(stack)-1]
	if top.entry.Path == dir {
		return stack, nil
	}
	if n := len(p.order); n > 0 && !p.order[n-1].entry.IsDir() && within(dir, p.order[n-1].entry.Path) {
		return nil, &ConflictError{Path: p.order[n-1].entry.Path}
	}
	rest := dir
	if top != p.root {
		rest = dir[len(top.entry.Path)+1:]
	}
	for at := len(dir) - len(rest); at < len(dir); at++ {
		if next := strings.IndexByte(dir[at:], '/'); next >= 0 {
			at += next
		} else {
			at = len(dir)
		}
		n := newDirectory(&Entry{Path: dir[:at], Mode: unix.S_IFDIR}, -1, top.self)
		p.order, stack, top = append(p.order, n), append(stack, n), n
	}
	return stack, nil
}

// within reports whether name is dir or below it.
func within(name, dir string) bool {
	return name == dir || (len(name) > len(dir) && name[len(dir)] == '/' && name[:len(dir)] == dir)
}

func newDirectory(e *Entry, index int, dir *dirNode) *node {
	n := &node{entry: e, index: index, dir: dir}
	n.self = newDirNode(n)
	return n
}

// linkNodes finds the targets of hard links and lets the first name in tar
// order carry the content, as a walk of the written tree would find it.
func (p *plan) linkNodes() error {
	byPath := map[string]*node{}
	for _, n := range p.order {
		if n.entry.Hardlink {
			p.links = append(p.links, n)
		}
	}
	if len(p.links) == 0 {
		return nil
	}
	for _, n := range p.order {
		byPath[n.entry.Path] = n
	}
	first := map[*node]*node{}
	targets := make([]*node, len(p.links))
	for i, n := range p.links {
		target := byPath[n.entry.Linkname]
		for hops := 0; target != nil && target.entry.Hardlink && hops < len(p.links); hops++ {
			target = byPath[target.entry.Linkname]
		}
		if target == nil || target.self != nil || target.entry.Hardlink {
			return fmt.Errorf("write /%s: hard link to /%s, which is not written with it", n.entry.Path, n.entry.Linkname)
		}
		targets[i] = target
		lead := first[target]
		if lead == nil {
			lead = target
		}
		if comparePaths(n.entry.Path, lead.entry.Path) < 0 {
			lead = n
		}
		first[target] = lead
	}
	p.relink(targets, first)
	return nil
}

// relink gives each group's content to its first name.
func (p *plan) relink(targets []*node, first map[*node]*node) {
	links := p.links
	p.links = nil
	seen := map[*node]bool{}
	for i, n := range append(links, targets...) {
		if seen[n] {
			continue
		}
		seen[n] = true
		target := targets[i%len(targets)]
		lead := first[target]
		if n == lead {
			continue
		}
		n.link = lead
		p.links = append(p.links, n)
	}
	content := map[*node]Entry{}
	index := map[*node]int{}
	for target := range first {
		content[target], index[target] = *target.entry, target.index
	}
	for target, lead := range first {
		e := content[target]
		e.Path = lead.entry.Path
		lead.entry, lead.index = &e, index[target]
	}
	for _, n := range p.links {
		e := *n.link.entry
		e.Path, e.Hardlink, e.Linkname = n.entry.Path, true, n.link.entry.Path
		e.Open, e.Size = nil, 0
		n.entry, n.index = &e, -1
	}
}
