package builder

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"cooper/dockerfile"
	"cooper/layers"
)

// copyWork is a COPY, or an ADD of local files.
type copyWork struct {
	bd *build
	op *dockerfile.Copy
	v  *vertex // nil when plain
	// plain says that the sources are paths, not patterns: those of a mount.
	plain bool
	// src is opened, and matches found, by whichever of inputs and do
	// comes first.
	src     *source
	matches []match
	// remote is what ADD gets from elsewhere, in the Op's order.
	remote []added
}

// lazy: files of the user's directory are digested while they are copied.
// Those of stages, images and trees from elsewhere have a name already.
func (w *copyWork) lazy() bool {
	if len(w.op.Remote) > 0 {
		return false
	}
	if w.op.From.Context {
		return w.bd.o.Context == nil
	}
	return w.isNamedDir()
}

func (w *copyWork) isNamedDir() bool {
	if w.op.From.Named == nil {
		return false
	}
	_, ok := w.bd.sources.namedDir(w.op.From.Named.Context)
	return ok
}

// inputs digests the selected files. What an immutable source's patterns
// select is remembered, so that an unchanged stage is not even opened.
func (w *copyWork) inputs(ctx context.Context) (digest.Digest, error) {
	if len(w.op.Remote) > 0 {
		return w.remoteInputs(ctx)
	}
	if len(w.op.Sources) == 0 {
		return "", nil
	}
	from, err := w.bd.sources.key(ctx, w.op.From)
	if err != nil {
		return "", err
	}
	var memo layers.Key
	if from != "" {
		memo = w.memoKey(from)
		if rec, ok := w.bd.b.Store.Lookup(memo); ok && !w.bd.o.NoCache {
			return digest.Digest(rec.Value), nil
		}
	}
	if err := w.load(ctx); err != nil {
		return "", err
	}
	content, err := w.src.contents(ctx, w.matches, map[string]digest.Digest{})
	if err != nil {
		return "", err
	}
	d := w.src.digestMatches(w.matches, content)
	if memo != "" {
		err = w.bd.b.Store.PutRecord(layers.Record{Key: memo, Value: []byte(d), Created: time.Now()})
	}
	return d, err
}

// memoKey names the question "what do these patterns select in from?".
func (w *copyWork) memoKey(from digest.Digest) layers.Key {
	k := newKey("select")
	k.text(string(from))
	for _, list := range [][]string{w.op.Sources, w.op.Exclude} {
		k.number(uint64(len(list)))
		for _, s := range list {
			k.text(s)
		}
	}
	return layers.Key(k.sum())
}

// load opens the source and finds the matches, once.
func (w *copyWork) load(ctx context.Context) error {
	if w.src != nil || len(w.op.Sources) == 0 {
		return nil
	}
	src, err := w.bd.sources.get(ctx, w.op.From)
	if err != nil {
		return err
	}
	sel, err := w.selector()
	if err != nil {
		return err
	}
	var all []match
	for i, pattern := range w.op.Sources {
		found, err := src.find(ctx, pattern, sel)
		if err != nil {
			return src.explain(w.op.Spelled[i], err)
		}
		all = append(all, found...)
	}
	if len(all) == 0 && len(w.op.Files) == 0 && !*sel.excluded {
		return fmt.Errorf("no source file matches %s in %s", strings.Join(w.op.Spelled, ", "), src.place)
	}
	w.src, w.matches = src, all
	return nil
}

// selector says which files of what the patterns match are wanted.
func (w *copyWork) selector() (sel selector, err error) {
	sel.parents, sel.plain, sel.excluded = w.op.Parents, w.plain, new(bool)
	if sel.exclude, err = dockerfile.NewIgnore(w.op.Exclude); err != nil {
		return sel, fmt.Errorf("--exclude: %w", err)
	}
	return sel, nil
}

// do copies the selected files into sn.
func (w *copyWork) do(ctx context.Context, v *vertex, sn *layers.Snapshot) (digest.Digest, error) {
	if err := w.load(ctx); err != nil {
		return "", err
	}
	if linked(w.op) {
		sn.Detach()
	}
	view, err := sn.View()
	if err != nil {
		return "", err
	}
	defer view.Close()
	t, err := newTarget(w.bd, w.op, view, v)
	if err != nil {
		return "", err
	}
	if err := w.fill(ctx, t, sn); err != nil {
		return "", err
	}
	read := map[string]digest.Digest{}
	meter := &meter{v: v, id: "copying", total: t.bytes}
	opts := layers.WriteOptions{
		DirMode: t.dirMode, DirUID: t.owner.uid, DirGID: t.owner.gid, DirTime: w.bd.now(),
		OnProgress: meter.add,
	}
	if w.lazy() {
		opts.Digests = func(i int, d digest.Digest) {
			if from := t.from[i]; from != "" {
				read[from] = withXattrs(d, t.entries[i].Xattrs)
			}
		}
	}
	if err := sn.Write(ctx, t.entries, opts); err != nil {
		return "", err
	}
	if !w.lazy() || w.src == nil {
		return "", nil
	}
	return w.learn(ctx, read)
}

// learn puts the digests made while copying into the stat cache and returns
// the digest of the inputs.
func (w *copyWork) learn(ctx context.Context, read map[string]digest.Digest) (digest.Digest, error) {
	content, err := w.src.contents(ctx, w.matches, read)
	if err != nil {
		return "", err
	}
	return w.src.digestMatches(w.matches, content), nil
}

// fill lists what has to be written. Archives that ADD unpacks are written
// here, in their own batches.
func (w *copyWork) fill(ctx context.Context, t *target, sn *layers.Snapshot) error {
	for i := range w.matches {
		m := &w.matches[i]
		if w.unpacks() && !m.dir {
			done, err := w.unpackLocal(ctx, t, sn, m.files[0])
			if err != nil {
				return err
			}
			if done {
				continue
			}
		}
		if err := t.addMatch(ctx, w.src, m); err != nil {
			return err
		}
	}
	for _, f := range w.op.Files {
		if err := t.addInline(f); err != nil {
			return err
		}
	}
	return w.fillRemote(ctx, t, sn)
}

// unpacks reports whether local archives are to be unpacked: ADD does unless
// told otherwise, COPY never.
func (w *copyWork) unpacks() bool {
	if w.op.Unpack != nil {
		return *w.op.Unpack
	}
	return w.op.Add
}

// target collects the entries of one COPY or ADD.
type target struct {
	now  time.Time // for what is made up
	op   *dockerfile.Copy
	view *layers.View
	// dest is the real path of the destination; isDir says that copies go
	// into it rather than become it.
	dest  string
	isDir bool
	// owned says that owner replaces the files' own ids.
	owned   bool
	owner   owner
	mode    modeChange
	dirMode uint32

	entries []layers.Entry
	from    []string       // source path of each entry, "" for made-up ones
	at      map[string]int // entry index by path
	bytes   int64
}

func newTarget(bd *build, op *dockerfile.Copy, view *layers.View, v *vertex) (*target, error) {
	t := &target{now: bd.now(), op: op, view: view, dirMode: 0o755, at: map[string]int{}}
	var err error
	if t.dest, err = view.Resolve(clean(op.Dest)); err != nil {
		return nil, fmt.Errorf("destination %s: %w", op.Dest, err)
	}
	info, err := view.Lstat(t.dest)
	switch {
	case err == nil:
		t.isDir = info.Mode&unix.S_IFMT == unix.S_IFDIR
		if !t.isDir && strings.HasSuffix(op.Dest, "/") {
			return nil, fmt.Errorf("cannot copy to non-directory: %s", op.Dest)
		}
	case !missing(err):
		return nil, fmt.Errorf("destination %s: %w", op.Dest, err)
	case errors.Is(err, unix.ENOTDIR):
		return nil, fmt.Errorf("cannot copy to non-directory: %s", path.Dir(op.Dest))
	default:
		t.isDir = strings.HasSuffix(op.Dest, "/") || path.Base(op.Dest) == "."
	}
	if op.Chown != "" {
		var unknown []string
		if t.owner, unknown, err = lookupOwner(view, op.Chown); err != nil {
			return nil, err
		}
		for _, name := range unknown {
			fmt.Fprintf(logWriter{v, 2}, "--chown: %q is not in the image's /etc/passwd or /etc/group; using id 0\n", name)
		}
		t.owned = true
	}
	if op.Chmod != "" {
		if t.mode, err = parseMode(op.Chmod); err != nil {
			return nil, err
		}
		t.dirMode = t.mode.madeDir(t.dirMode)
	}
	return t, nil
}

// addMatch adds a file, or the contents of a directory.
func (t *target) addMatch(ctx context.Context, s *source, m *match) error {
	if m.dir {
		if err := t.enter(m); err != nil {
			return err
		}
	} else if i, ok := t.at[t.dest]; ok && t.isDir {
		t.entries[i].ModTime = t.now
	}
	entries, err := s.view.Entries(ctx, m.files)
	if err != nil {
		return err
	}
	for i := range entries {
		dest := t.dest
		if rel := m.rel(m.files[i]); m.dir {
			if rel == "." {
				continue
			}
			dest = path.Join(dest, rel)
		} else if t.isDir {
			dest = path.Join(dest, path.Base(m.name))
		}
		e := &entries[i]
		if e.Hardlink { // to an earlier file of the same directory
			e.Linkname = path.Join(t.dest, m.rel(layers.Info{Path: e.Linkname}))
		}
		if err := t.addEntry(s, *e, dest); err != nil {
			return err
		}
	}
	return nil
}

// enter prepares the destination for the files in the directory m. As BuildKit's
// it gets the time of the last directory that is copied into it, even if it was
// there before; the root keeps its own.
func (t *target) enter(m *match) error {
	if !t.isDir {
		return t.makeDir(m)
	}
	if t.dest == "." || len(m.files) == 0 || m.files[0].Path != m.root {
		return nil
	}
	if i, ok := t.at[t.dest]; ok {
		t.entries[i].ModTime = m.files[0].ModTime
		return nil
	}
	info, err := t.view.Lstat(t.dest)
	if missing(err) {
		return t.makeDir(m)
	}
	if err != nil {
		return err
	}
	e, err := t.view.Entry(info)
	if err != nil {
		return err
	}
	e.ModTime = m.files[0].ModTime
	return t.put(e, "")
}

// makeDir adds the destination directory itself: it gets the plain mode of a
// made directory and the source directory's time, as BuildKit's does.
func (t *target) makeDir(m *match) error {
	if _, err := t.view.Lstat(t.dest); err == nil {
		return fmt.Errorf("cannot copy to non-directory: %s", t.op.Dest)
	}
	t.isDir = true
	if t.dest == "." {
		return nil
	}
	e := layers.Entry{Path: t.dest, Mode: unix.S_IFDIR | t.dirMode, UID: t.owner.uid, GID: t.owner.gid, ModTime: t.now}
	if len(m.files) > 0 {
		e.ModTime = m.files[0].ModTime
	}
	return t.put(e, "")
}

// addEntry adds a file of s under dest with the owner and mode the step asks for.
func (t *target) addEntry(s *source, e layers.Entry, dest string) error {
	from := e.Path
	e.Path = dest
	switch {
	case t.owned:
		e.UID, e.GID = t.owner.uid, t.owner.gid
	case s.local:
		e.UID, e.GID = 0, 0
	}
	e.Xattrs = s.keep(e.Xattrs)
	if e.Type() != unix.S_IFLNK {
		e.Mode = t.mode.apply(e.Mode)
	}
	if e.IsRegular() && !e.Hardlink {
		t.bytes += e.Size
	}
	return t.put(e, from)
}

// addInline adds a heredoc's file.
func (t *target) addInline(f dockerfile.InlineFile) error {
	dest := t.dest
	if t.isDir {
		dest = path.Join(dest, path.Base(f.Name))
	}
	data := f.Data
	t.bytes += int64(len(data))
	return t.put(layers.Entry{
		Path: dest, Mode: t.mode.apply(unix.S_IFREG | f.Mode),
		UID: t.owner.uid, GID: t.owner.gid, ModTime: t.now, Size: int64(len(data)),
		Open: func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(data)), nil },
	}, "")
}

// put adds e. Where an earlier source of the same step wrote the path, the
// later one wins, except that a directory and a file can't replace each other.
func (t *target) put(e layers.Entry, from string) error {
	i, ok := t.at[e.Path]
	if !ok {
		t.at[e.Path] = len(t.entries)
		t.entries = append(t.entries, e)
		t.from = append(t.from, from)
		return nil
	}
	if old := &t.entries[i]; old.IsDir() != e.IsDir() {
		if e.IsDir() {
			return fmt.Errorf("cannot copy to non-directory: /%s", e.Path)
		}
		return fmt.Errorf("cannot replace to directory /%s with file", e.Path)
	}
	t.entries[i], t.from[i] = e, from
	return nil
}
