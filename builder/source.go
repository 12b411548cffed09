package builder

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/opencontainers/go-digest"

	"cooper/dockerfile"
	"cooper/layers"
)

// source is something that COPY, ADD and mounts read from.
type source struct {
	view *layers.View
	dir  string // of a local one
	// local is true for a directory rather than the files of a stage or
	// image, rootOwned if its files get owner 0:0, as BuildKit's do.
	local     bool
	rootOwned bool
	ignore    *dockerfile.Ignore
	stat      *layers.StatCache
	// key names the content of an immutable source, "" for a local one.
	key digest.Digest
	// place completes "... not found in %s".
	place string
}

// opened holds the files that a session has opened: each directory that it reads
// once, for all its builds.
type opened struct {
	store *layers.Store
	mu    sync.Mutex
	dirs  map[string]*source
	views []*layers.View
}

func newOpened(store *layers.Store) *opened {
	return &opened{store: store, dirs: map[string]*source{}}
}

// close releases the views and saves what was learned about file contents.
// A stat cache that can't be saved costs time, not correctness.
func (op *opened) close() {
	op.mu.Lock()
	defer op.mu.Unlock()
	for _, s := range op.dirs {
		if s.stat != nil {
			_ = s.stat.Save()
		}
	}
	for _, v := range op.views {
		_ = v.Close()
	}
}

// sources finds what a build reads from.
type sources struct {
	bd *build
	*opened
}

// get opens what from names. For stages and images it may have to wait or to
// fetch layers, so steps ask for the key first.
func (ss *sources) get(ctx context.Context, from dockerfile.Source) (*source, error) {
	switch {
	case from.Scratch:
		view, err := layers.OpenView()
		return &source{view: view, key: "scratch", place: "scratch"}, err
	case from.Context:
		if t := ss.bd.o.Context; t != nil {
			return ss.tree(t, ss.bd.o.Ignore, "the build context")
		}
		if ss.bd.o.ContextDir == "" {
			return nil, errors.New("there is no build context to copy from; give the directory as the last argument")
		}
		return ss.dir(ss.bd.o.ContextDir, ss.bd.o.Ignore, "the build context")
	case from.Named != nil:
		return ss.named(ctx, *from.Named)
	case from.Image != nil:
		return ss.image(ctx, *from.Image)
	}
	st := ss.bd.stages[from.Stage]
	if err := st.wait(ctx); err != nil {
		return nil, err
	}
	view, err := st.view(ctx)
	if err != nil {
		return nil, err
	}
	ss.release(view)
	return &source{view: view, key: st.at.key, place: "stage " + st.label()}, nil
}

// parent returns what a snapshot that shows from's files stands on. It is for
// sources that are not local.
func (ss *sources) parent(ctx context.Context, from dockerfile.Source) (layers.Parent, error) {
	req := from.Image
	switch {
	case from.Scratch:
		return nil, nil
	case from.Named != nil:
		req = from.Named
	case from.Image == nil:
		return ss.bd.stages[from.Stage].parent(ctx)
	}
	img, err := ss.bd.images.get(ctx, *req)
	if err != nil {
		return nil, err
	}
	top, err := img.top(ctx, ss.bd, "FROM "+img.ref.String())
	if err != nil || top == "" {
		return nil, err
	}
	return ss.bd.b.Store.Layer(top)
}

// key names the content of from without opening it; "" for a local directory.
func (ss *sources) key(ctx context.Context, from dockerfile.Source) (digest.Digest, error) {
	switch {
	case from.Scratch:
		return "scratch", nil
	case from.Context:
		if t := ss.bd.o.Context; t != nil && ss.bd.o.Ignore == nil {
			return t.Key, nil
		}
		return "", nil
	case from.Named != nil:
		if _, ok := ss.namedDir(from.Named.Context); ok {
			return "", nil
		}
		if f := ss.bd.elsewhere.named(from.Named.Context); f != nil {
			return f.key(ctx)
		}
		return ss.imageKey(ctx, *from.Named)
	case from.Image != nil:
		return ss.imageKey(ctx, *from.Image)
	}
	st := ss.bd.stages[from.Stage]
	if err := st.wait(ctx); err != nil {
		return "", err
	}
	return st.at.key, nil
}

func (ss *sources) imageKey(ctx context.Context, r dockerfile.ImageRequest) (digest.Digest, error) {
	img, err := ss.bd.images.get(ctx, r)
	if err != nil {
		return "", err
	}
	return img.chain, nil
}

// release closes view when the session ends.
func (op *opened) release(view *layers.View) {
	op.mu.Lock()
	defer op.mu.Unlock()
	op.views = append(op.views, view)
}

// dir opens a local directory with its stat cache.
func (op *opened) dir(dir string, ignore *dockerfile.Ignore, place string) (*source, error) {
	op.mu.Lock()
	defer op.mu.Unlock()
	if s, ok := op.dirs[dir]; ok {
		return s, nil
	}
	view, err := layers.OpenView(dir)
	if err != nil {
		return nil, err
	}
	op.views = append(op.views, view)
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	stat, err := op.store.StatCache(abs)
	if err != nil {
		return nil, err
	}
	s := &source{view: view, dir: abs, local: true, rootOwned: true, ignore: ignore, stat: stat, place: place}
	op.dirs[dir] = s
	return s, nil
}

// namedDir returns the directory behind a named context that is one.
func namedDir(o *Options, name string) (string, bool) {
	value := o.NamedContexts[name]
	if value == "" || strings.Contains(value, "://") {
		return "", false
	}
	st, err := os.Stat(value)
	return value, err == nil && st.IsDir()
}

func (ss *sources) namedDir(name string) (string, bool) { return namedDir(ss.bd.o, name) }

// named opens a --build-context: a directory with its own ignore file, or an
// image.
func (ss *sources) named(ctx context.Context, r dockerfile.ImageRequest) (*source, error) {
	name := r.Context
	if f := ss.bd.elsewhere.named(name); f != nil {
		return f.open(ctx)
	}
	dir, ok := ss.namedDir(name)
	if !ok {
		return ss.image(ctx, r)
	}
	var ignore *dockerfile.Ignore
	data, err := os.ReadFile(filepath.Join(dir, ".dockerignore"))
	switch {
	case err == nil:
		if ignore, err = dockerfile.ParseIgnore(data); err != nil {
			return nil, fmt.Errorf("build context %s: .dockerignore: %w", name, err)
		}
	case !errors.Is(err, os.ErrNotExist):
		return nil, err
	}
	return ss.dir(dir, ignore, "build context "+name)
}

// image opens an image's files, fetching its layers if they are not here.
func (ss *sources) image(ctx context.Context, r dockerfile.ImageRequest) (*source, error) {
	img, err := ss.bd.images.get(ctx, r)
	if err != nil {
		return nil, err
	}
	top, err := img.top(ctx, ss.bd, "FROM "+img.ref.String())
	if err != nil {
		return nil, err
	}
	view, err := ss.bd.b.Store.View(top)
	if err != nil {
		return nil, err
	}
	ss.release(view)
	return &source{view: view, key: img.chain, place: "image " + img.ref.String()}, nil
}

// label is how messages call a stage.
func (s *stage) label() string {
	if s.spec.Name != "" {
		return s.spec.Name
	}
	return fmt.Sprint(s.spec.Index)
}
