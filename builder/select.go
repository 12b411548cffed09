package builder

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"cooper/dockerfile"
	"cooper/layers"
)

// match is one file or directory that a source pattern selects.
type match struct {
	// name is the path as it matched, before a symbolic link in it was
	// followed: its base is what the copy is called.
	name string
	// root is the real path of name, rel of a file below it is its path
	// with root cut off.
	root string
	dir  bool
	// files is the file itself, or what is in the directory, the
	// directory first, in walk order.
	files []layers.Info
}

// rel is f's path below the match, "." for the match itself.
func (m *match) rel(f layers.Info) string {
	if m.root == "." {
		return f.Path
	}
	if r := strings.TrimPrefix(f.Path, m.root); r != "" {
		return r[1:]
	}
	return "."
}

// clean makes a Dockerfile path relative to the source's root; it can't climb
// out of it.
func clean(p string) string {
	p = strings.TrimPrefix(path.Clean("/"+p), "/")
	return cmp.Or(p, ".")
}

// selector says which files of a source a COPY or ADD wants.
type selector struct {
	// parents keeps the directories of a pattern's part behind "/./".
	parents bool
	// exclude hides files by their path below what a pattern matched.
	exclude *dockerfile.Ignore
	// plain says that what is looked for is a path, not a pattern.
	plain bool
	// excluded is set when exclude hid what a pattern had matched.
	excluded *bool
}

// find lists what pattern selects in s. A pattern with wildcards may select
// nothing; a plain path must exist.
func (s *source) find(ctx context.Context, pattern string, sel selector) ([]match, error) {
	if sel.parents {
		return s.findParents(ctx, pattern, sel)
	}
	names := []string{clean(pattern)}
	wild := !sel.plain && hasWildcard(pattern)
	if wild {
		var err error
		if names, err = s.glob(clean(pattern)); err != nil {
			return nil, err
		}
	}
	var out []match
	for _, name := range names {
		m, err := s.load(ctx, name, sel)
		if errors.Is(err, errIgnored) && wild {
			continue
		}
		if err != nil {
			return nil, err
		}
		if m != nil {
			out = append(out, *m)
		}
	}
	return out, nil
}

// findParents selects by BASE/./REST: the files below BASE that match REST,
// with the directories that lead to them.
func (s *source) findParents(ctx context.Context, pattern string, sel selector) ([]match, error) {
	base, rest, _ := strings.Cut(pattern, "/./")
	root, err := s.view.Resolve(clean(base))
	if err != nil {
		return nil, err
	}
	include, err := dockerfile.NewIgnore([]string{rest})
	if err != nil {
		return nil, err
	}
	m := match{name: clean(base), root: root, dir: true}
	err = s.walk(ctx, root, func(f layers.Info) bool {
		rel := m.rel(f)
		if rel == "." || !include.Match(rel) {
			return false
		}
		hidden := sel.exclude.Match(rel)
		*sel.excluded = *sel.excluded || hidden
		return !hidden
	}, func(f layers.Info) { m.files = append(m.files, f) })
	if err != nil {
		return nil, err
	}
	if len(m.files) > 0 {
		return []match{m}, nil
	}
	if hasWildcard(pattern) {
		return nil, nil
	}
	return nil, fs.ErrNotExist
}

// errIgnored is a source that exists but is excluded.
var errIgnored = errors.New("an ignore file excludes it")

// explain says what a user can do about a source that can't be read. It names
// the source as BuildKit does, which people search for.
func (s *source) explain(pattern string, err error) error {
	named := path.Clean("/" + pattern)
	if errors.Is(err, errIgnored) {
		return fmt.Errorf("%q: not found in %s: %w", named, s.place, err)
	}
	if !missing(err) {
		return fmt.Errorf("%q: %w", pattern, err)
	}
	if s.local && (strings.HasPrefix(path.Clean(pattern), "../") || path.Clean(pattern) == "..") {
		return fmt.Errorf("%q: not found: COPY can't reach outside %s; move the file into it, or name its directory with --build-context", pattern, s.place)
	}
	return fmt.Errorf("%q: not found in %s%s", named, s.place, s.near(named))
}

// near suggests a file beside the missing one that may have been meant.
func (s *source) near(named string) string {
	dir, base := path.Split(named)
	if base == "" {
		return ""
	}
	infos, err := s.view.ReadDir(clean(dir))
	if err != nil {
		return ""
	}
	names := make([]string, len(infos))
	for i := range infos {
		names[i] = path.Base(infos[i].Path)
	}
	near, ok := dockerfile.Nearest(base, names)
	if !ok {
		return ""
	}
	return fmt.Sprintf(" (did you mean %s?)", dir+near)
}

// load stats name and, for a directory, walks it. It returns nil when the
// selector excludes all of it, and errIgnored when the ignore file does.
func (s *source) load(ctx context.Context, name string, sel selector) (*match, error) {
	root, err := s.view.Resolve(name)
	if err != nil {
		return nil, err
	}
	info, err := s.view.Lstat(root)
	if err != nil {
		return nil, err
	}
	m := &match{name: name, root: root, dir: info.IsDir()}
	if !m.dir {
		if s.ignored(root) {
			return nil, errIgnored
		}
		if sel.exclude.Match(path.Base(name)) {
			*sel.excluded = true
			return nil, nil
		}
		m.files = []layers.Info{info}
		return m, nil
	}
	err = s.walk(ctx, root, func(f layers.Info) bool {
		rel := m.rel(f)
		return rel == "." || !sel.exclude.Match(rel)
	}, func(f layers.Info) { m.files = append(m.files, f) })
	if err == nil && root != "." && len(m.files) == 0 {
		return nil, errIgnored
	}
	return m, err
}

// walk calls fn for every file at and below root that want accepts and no
// ignore file hides. A directory that is left out itself but holds a file that
// is not comes right before the first such file.
func (s *source) walk(ctx context.Context, root string, want func(layers.Info) bool, fn func(layers.Info)) error {
	var held []layers.Info // left out directories above the current file
	skip := func(p string, dir bool) bool { return p != "." && s.ignore.Skip(p, dir) }
	return s.view.Walk(ctx, root, skip, func(f layers.Info) error {
		if f.Type() == unix.S_IFSOCK {
			return nil
		}
		for len(held) > 0 && !below(f.Path, held[len(held)-1].Path) {
			held = held[:len(held)-1]
		}
		if f.Path != "." && s.ignored(f.Path) || !want(f) {
			if f.IsDir() {
				held = append(held, f)
			}
			return nil
		}
		for _, d := range held {
			fn(d)
		}
		held = held[:0]
		fn(f)
		return nil
	})
}

// below reports whether p is inside the directory dir.
func below(p, dir string) bool {
	return dir == "." || len(p) > len(dir) && p[len(dir)] == '/' && p[:len(dir)] == dir
}

func (s *source) ignored(p string) bool {
	return s.ignore.Match(p)
}

// hasWildcard reports whether p has one that is not escaped.
func hasWildcard(p string) bool {
	for i := 0; i < len(p); i++ {
		switch p[i] {
		case '\\':
			i++
		case '*', '?', '[':
			return true
		}
	}
	return false
}

// glob expands a pattern one path element at a time, as filepath.Match would
// match it; symbolic links to directories are not entered, as in BuildKit.
func (s *source) glob(pattern string) ([]string, error) {
	names := []string{"."}
	elems := strings.Split(pattern, "/")
	for i, elem := range elems {
		var next []string
		for _, dir := range names {
			if !hasWildcard(elem) {
				next = append(next, path.Join(dir, unescape(elem)))
				continue
			}
			found, err := s.globElem(dir, elem, i < len(elems)-1)
			if err != nil {
				return nil, err
			}
			next = append(next, found...)
		}
		names = next
	}
	return slices.DeleteFunc(names, func(n string) bool {
		_, err := s.view.Lstat(n)
		return err != nil
	}), nil
}

func (s *source) globElem(dir, elem string, wantDir bool) ([]string, error) {
	list, err := s.view.ReadDir(dir)
	if missing(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var out []string
	for _, f := range list {
		ok, err := path.Match(elem, path.Base(f.Path))
		if err != nil {
			return nil, fmt.Errorf("pattern %q: %w", elem, err)
		}
		if ok && (!wantDir || f.Mode&unix.S_IFMT == unix.S_IFDIR) {
			out = append(out, f.Path)
		}
	}
	return out, nil
}

// unescape removes the backslashes that protect wildcards.
func unescape(elem string) string {
	if !strings.Contains(elem, `\`) {
		return elem
	}
	var b strings.Builder
	for i := 0; i < len(elem); i++ {
		if elem[i] == '\\' && i+1 < len(elem) {
			i++
		}
		b.WriteByte(elem[i])
	}
	return b.String()
}

// digestMatches names the content that matches select: names, types, modes,
// links, devices and contents; owners only where they are kept; times never.
// content gives the digest of a regular file.
func (s *source) digestMatches(ms []match, content func(layers.Info) digest.Digest) digest.Digest {
	k := newKey("files")
	for i := range ms {
		m := &ms[i]
		if m.dir {
			k.text("dir")
		} else {
			k.text(path.Base(m.name))
		}
		k.number(uint64(len(m.files)))
		for _, f := range m.files {
			k.text(m.rel(f))
			k.number(uint64(f.Mode))
			if !s.rootOwned {
				k.number(uint64(f.UID)<<32 | uint64(f.GID))
			}
			switch f.Mode & unix.S_IFMT {
			case unix.S_IFREG:
				k.text(string(content(f)))
			case unix.S_IFLNK:
				k.text(f.Linkname)
			case unix.S_IFBLK, unix.S_IFCHR:
				k.number(f.Rdev)
			}
		}
	}
	return k.sum()
}

// contents digests the regular files among ms, by path: those that known does
// not hold from the stat cache, else by reading them, several at once.
func (s *source) contents(ctx context.Context, ms []match, known map[string]digest.Digest) (func(layers.Info) digest.Digest, error) {
	var unknown []layers.Info
	for i := range ms {
		for _, f := range ms[i].files {
			if f.Mode&unix.S_IFMT != unix.S_IFREG {
				continue
			}
			if d, ok := known[f.Path]; ok {
				s.statPut(f, d)
			} else if d, ok := s.statLookup(f); ok {
				known[f.Path] = d
			} else {
				unknown = append(unknown, f)
			}
		}
	}
	read := make([]digest.Digest, len(unknown))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(readers)
	for i, f := range unknown {
		g.Go(func() (err error) {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			read[i], err = s.digestFile(f)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	for i, f := range unknown {
		known[f.Path] = read[i]
		s.statPut(f, read[i])
	}
	return func(f layers.Info) digest.Digest { return known[f.Path] }, nil
}

// readers is how many files are read at once: enough to hide latency, few
// enough to leave a processor to the rest of the build.
const readers = 4

func (s *source) statLookup(f layers.Info) (digest.Digest, bool) {
	if s.stat == nil {
		return "", false
	}
	return s.stat.Lookup(f)
}

func (s *source) statPut(f layers.Info, d digest.Digest) {
	if s.stat != nil {
		s.stat.Put(f, d)
	}
}

// digestFile reads one file and its extended attributes.
func (s *source) digestFile(f layers.Info) (digest.Digest, error) {
	h := sha256.New()
	r, err := s.view.Open(f.Path)
	if err != nil {
		return "", err
	}
	defer r.Close()
	if _, err := io.Copy(h, r); err != nil {
		return "", fmt.Errorf("read %s: %w", f.Path, err)
	}
	xattrs, err := s.view.Xattrs(f.Path)
	if err != nil {
		return "", err
	}
	return withXattrs(digest.NewDigest(digest.SHA256, h), s.keep(xattrs)), nil
}

// keep returns the extended attributes that are copied. The user's own, such as
// where a browser had a file from, stay in the build context, as with BuildKit.
func (s *source) keep(xattrs map[string]string) map[string]string {
	if s.local {
		maps.DeleteFunc(xattrs, func(name, _ string) bool { return strings.HasPrefix(name, "user.") })
	}
	return xattrs
}

// withXattrs folds extended attributes into a file's content digest; most
// files have none and keep theirs.
func withXattrs(d digest.Digest, xattrs map[string]string) digest.Digest {
	if len(xattrs) == 0 {
		return d
	}
	k := newKey("xattrs")
	k.text(string(d))
	names := make([]string, 0, len(xattrs))
	for n := range xattrs {
		names = append(names, n)
	}
	slices.Sort(names)
	for _, n := range names {
		k.text(n)
		k.text(xattrs[n])
	}
	return k.sum()
}
