package builder

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"sync"

	"github.com/opencontainers/go-digest"

	"cooper/builder/remote"
	"cooper/dockerfile"
	"cooper/layers"
)

// elsewhere holds what the build reads from other machines.
type elsewhere struct {
	s      *session
	client *remote.Client

	mu    sync.Mutex
	trees map[string]*foreign
}

func newElsewhere(s *session) *elsewhere {
	return &elsewhere{s: s, client: s.o.remoteClient(s.b.Store), trees: map[string]*foreign{}}
}

// remoteClient returns a client with the secrets and agents of o.
func (o *Options) remoteClient(store *layers.Store) *remote.Client {
	return &remote.Client{Store: store, SSHAuthSock: o.SSH["default"], Secret: func(id string) ([]byte, bool, error) {
		data, err := o.secret(id)
		if errors.Is(err, errNoSecret) {
			return nil, false, nil
		}
		return data, err == nil, err
	}}
}

// OpenContext gets the build context that a URL names, with the secrets and
// arguments of o, for Options.Context. The caller closes it.
func (b *Builder) OpenContext(ctx context.Context, where string, o Options) (*remote.Tree, error) {
	return b.openContext(remote.RedactURL(where), func(v *vertex) (*remote.Tree, error) {
		keep, _ := strconv.ParseBool(o.BuildArgs["BUILDKIT_CONTEXT_KEEP_GIT_DIR"])
		return o.remoteClient(b.Store).Open(ctx, where, remote.OpenOptions{
			KeepGitDir: keep,
			CommitTime: o.BuildArgs["SOURCE_DATE_EPOCH"] != "",
			Progress:   func(n, total int64) { v.progress("downloading", n, total) },
		})
	})
}

// UnpackContext makes a build context of an archive. The caller closes it.
func (b *Builder) UnpackContext(ctx context.Context, r io.Reader) (*remote.Tree, error) {
	return b.openContext("from standard input", func(v *vertex) (*remote.Tree, error) {
		meter := &meter{v: v, id: "unpacking"}
		return (&remote.Client{Store: b.Store}).Unpack(ctx, io.TeeReader(r, meter))
	})
}

// EmptyContext makes a build context without a file. The caller closes it.
func (b *Builder) EmptyContext() (*remote.Tree, error) {
	return (&remote.Client{Store: b.Store}).Empty()
}

// openContext shows open as work that comes before the next build's.
func (b *Builder) openContext(name string, open func(*vertex) (*remote.Tree, error)) (*remote.Tree, error) {
	report := &reporter{fn: b.Events, next: int(b.opened.Load())}
	v := report.start("[internal] load remote build context " + name)
	b.opened.Store(int64(v.id))
	t, err := open(v)
	v.end(false, -1, err)
	return t, err
}

// close removes the trees.
func (e *elsewhere) close() {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, f := range e.trees {
		if f.tree != nil {
			_ = f.tree.Close() // what stays is swept by the next build
		}
	}
}

// named returns the named context that is to be got from elsewhere, nil if name
// is none.
func (e *elsewhere) named(name string) *foreign {
	where := e.s.o.NamedContexts[name]
	if !isForeign(e.s.o, name) {
		return nil
	}
	return e.add(where, &foreign{where: where, place: "build context " + name, label: contextName(e.s.o, name)})
}

// git returns a repository for ADD, which is shown as the step v.
func (e *elsewhere) git(url string, ref *dockerfile.GitRef) *foreign {
	// The same repository with other options is another tree.
	id := fmt.Sprintf("%s %v %v %v", url, ref.KeepGitDir, ref.Checksum, ref.MTime)
	return e.add(id, &foreign{where: url, ref: ref, place: remote.RedactURL(url)})
}

func (e *elsewhere) add(id string, f *foreign) *foreign {
	e.mu.Lock()
	defer e.mu.Unlock()
	if known, ok := e.trees[id]; ok {
		return known
	}
	f.s = e.s
	e.trees[id] = f
	return f
}

// isForeign reports whether a named context is to be got from elsewhere.
func isForeign(o *Options, name string) bool {
	where, ok := o.NamedContexts[name]
	if !ok || !remote.IsRemote(where) {
		return false
	}
	_, isDir := namedDir(o, name)
	return !isDir
}

// isTree reports whether a named context is files rather than an image.
func isTree(o *Options, name string) bool {
	_, isDir := namedDir(o, name)
	return isDir || isForeign(o, name)
}

// foreign is a tree from elsewhere. Its key is known before its files are here.
type foreign struct {
	s     *session
	where string
	ref   *dockerfile.GitRef // nil unless ADD has parsed where
	place string
	label string // of its vertex, "" when it is part of a step

	mu   sync.Mutex
	tree *remote.Tree
	src  *source
}

// key names the content. For a repository that takes one question to its
// server, for anything else the whole tree.
func (f *foreign) key(ctx context.Context) (digest.Digest, error) {
	ref, isGit, err := f.gitRef()
	if err != nil {
		return "", err
	}
	if isGit {
		commit, err := f.s.elsewhere.client.Resolve(ctx, ref)
		if err != nil {
			return "", err
		}
		return commit.Key(ref), nil
	}
	if _, err := f.open(ctx); err != nil {
		return "", err
	}
	return f.tree.Key, nil
}

func (f *foreign) gitRef() (*dockerfile.GitRef, bool, error) {
	if f.ref != nil {
		return f.ref, true, nil
	}
	return remote.GitRef(f.where)
}

// open brings the files here, once.
func (f *foreign) open(ctx context.Context) (_ *source, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.src != nil {
		return f.src, nil
	}
	open := remote.OpenOptions{}
	if f.label != "" {
		v := f.s.report.startNode(f.label, f.s.nodes[f])
		defer func() { v.end(false, -1, err) }()
		open.Progress = func(n, total int64) { v.progress("downloading", n, total) }
	}
	client := f.s.elsewhere.client
	if f.ref == nil {
		f.tree, err = client.Open(ctx, f.where, open)
	} else {
		var commit remote.Commit
		if commit, err = client.Resolve(ctx, f.ref); err == nil {
			f.tree, err = client.Checkout(ctx, f.ref, commit)
		}
	}
	if err != nil {
		return nil, err
	}
	f.src, err = f.s.opened.tree(f.tree, nil, f.place)
	return f.src, err
}

// tree opens the files of t.
func (op *opened) tree(t *remote.Tree, ignore *dockerfile.Ignore, place string) (*source, error) {
	view, err := layers.OpenView(t.Dir)
	if err != nil {
		return nil, err
	}
	op.release(view)
	return &source{view: view, dir: t.Dir, local: true, rootOwned: !t.Owners, ignore: ignore, key: t.Key, place: place}, nil
}
