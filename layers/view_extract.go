package layers

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// ExtractOptions say how View.Extract writes.
type ExtractOptions struct {
	// Root is the directory whose tree is written; "" is all of the View.
	Root string
	// Own gives every file to the process's own user and group.
	Own bool
	// OnProgress, if not nil, is told how many bytes of content have been
	// written since its last call. Calls are serialised.
	OnProgress func(bytes int64)
}

// Extracted says what Extract could not do as the image has it.
type Extracted struct {
	// Devices are paths of device files that the process may not make.
	Devices []string
	// Xattrs are names of extended attributes that the process may not set,
	// or that the file system does not have.
	Xattrs []string
}

// Extract writes the tree into dir, an empty directory that nobody else
// writes to, with the mode, owner, time and extended attributes of every file,
// dir included; hard links stay links. What the process may not do it leaves out
// and returns. After an error dir holds a part of the tree.
func (v *View) Extract(ctx context.Context, dir string, o ExtractOptions) (Extracted, error) {
	entries, err := v.tree(ctx, o.Root)
	if err != nil {
		return Extracted{}, err
	}
	f, err := os.Open(dir)
	if err != nil {
		return Extracted{}, err
	}
	w := &writer{
		upper: f, uid: uint32(os.Geteuid()), gid: uint32(os.Getegid()), singleID: SingleID(),
		options: WriteOptions{OnProgress: o.OnProgress}.withDefaults(),
	}
	defer w.close()
	entries, left := w.possible(entries, o.Own)
	if w.plan, err = newPlan(entries); err != nil {
		return left, err
	}
	info, err := f.Stat()
	if err != nil {
		return left, err
	}
	w.plan.root.self.exists, w.plan.root.self.setgid = true, info.Mode()&os.ModeSetgid != 0
	for _, n := range w.plan.order {
		if n.self != nil {
			n.self.setgid = n.dir.setgid // what mkdir hands down
		}
	}
	return left, w.run(ctx)
}

// tree lists the directory root and all below it, with names relative to it.
func (v *View) tree(ctx context.Context, root string) ([]Entry, error) {
	root, err := v.Resolve(root)
	if err != nil {
		return nil, err
	}
	var infos []Info
	err = v.Walk(ctx, root, nil, func(info Info) error {
		infos = append(infos, info)
		return nil
	})
	if err != nil {
		return nil, err
	}
	entries, err := v.Entries(ctx, infos)
	if err != nil || root == "." {
		return entries, err
	}
	for i := range entries {
		e := &entries[i]
		e.Path = below(root, e.Path)
		if e.Hardlink {
			e.Linkname = below(root, e.Linkname)
		}
	}
	return entries, nil
}

// below makes name, root or something in it, relative to root.
func below(root, name string) string {
	if name == root {
		return "."
	}
	return strings.TrimPrefix(name, root+"/")
}

// possible returns what of entries the process can make, and what not.
func (w *writer) possible(entries []Entry, own bool) ([]Entry, Extracted) {
	var left Extracted
	refused := map[string]bool{}
	kept := entries[:0]
	devices := w.canMakeDevices()
	for _, e := range entries {
		if t := e.Type(); !devices && (t == unix.S_IFCHR || t == unix.S_IFBLK) {
			left.Devices = append(left.Devices, "/"+e.Path)
			continue
		}
		if own {
			e.UID, e.GID = w.uid, w.gid
		}
		for name := range e.Xattrs {
			kind, _, _ := strings.Cut(name, ".")
			if _, tried := refused[kind]; !tried {
				refused[kind] = !w.canSet(name, e.Xattrs[name])
			}
			if !refused[kind] {
				continue
			}
			delete(e.Xattrs, name)
			if !slices.Contains(left.Xattrs, name) {
				left.Xattrs = append(left.Xattrs, name)
			}
		}
		kept = append(kept, e)
	}
	return kept, left
}

// probe is the name of a file that is made for a moment in an empty directory.
const probe = ".wh.probe" // no image has such a file

func (w *writer) canMakeDevices() bool {
	dir := int(w.upper.Fd())
	if err := unix.Mknodat(dir, probe, unix.S_IFCHR|0o600, int(unix.Mkdev(1, 3))); err != nil {
		return false
	}
	return unix.Unlinkat(dir, probe, 0) == nil
}

// canSet reports whether a file in the directory can have an attribute.
func (w *writer) canSet(name, value string) bool {
	dir := int(w.upper.Fd())
	fd, err := create(dir, probe)
	if err != nil {
		return false
	}
	defer unix.Unlinkat(dir, probe, 0)
	defer unix.Close(fd)
	return unix.Fsetxattr(fd, name, []byte(value), 0) == nil
}

// String lists what was left out; "" when nothing was.
func (x Extracted) String() string {
	var parts []string
	if n := len(x.Devices); n > 0 {
		parts = append(parts, fmt.Sprintf("%d device files (%s)", n, some(x.Devices)))
	}
	if len(x.Xattrs) > 0 {
		parts = append(parts, "the extended attributes "+some(x.Xattrs))
	}
	return strings.Join(parts, " and ")
}

// some names the first few of a list.
func some(list []string) string {
	if len(list) > 3 {
		return strings.Join(list[:3], ", ") + ", ..."
	}
	return strings.Join(list, ", ")
}
