package builder

import (
	"context"
	"io"
	"os"
	"path"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"cooper/builder/remote"
	"cooper/dockerfile"
	"cooper/layers"
)

// added is one thing that ADD gets from elsewhere: a file or a repository.
type added struct {
	name string
	file *remote.File
	git  *foreign
}

// remoteInputs gets what the URLs name, of repositories only the commit, and
// digests that and the local files beside it.
func (w *copyWork) remoteInputs(ctx context.Context) (digest.Digest, error) {
	k := newKey("remote")
	for _, r := range w.op.Remote {
		a, d, err := w.get(ctx, r)
		if err != nil {
			return "", err
		}
		w.remote = append(w.remote, a)
		k.text(string(d))
	}
	if err := w.load(ctx); err != nil {
		return "", err
	}
	if w.src != nil {
		content, err := w.src.contents(ctx, w.matches, map[string]digest.Digest{})
		if err != nil {
			return "", err
		}
		k.text(string(w.src.digestMatches(w.matches, content)))
	}
	return k.sum(), nil
}

// get returns r and the digest of its content.
func (w *copyWork) get(ctx context.Context, r dockerfile.Remote) (added, digest.Digest, error) {
	if r.Git != nil {
		f := w.bd.elsewhere.git(r.URL, r.Git)
		d, err := f.key(ctx)
		return added{git: f}, d, err
	}
	file, err := w.bd.elsewhere.client.Fetch(ctx, r.URL, remote.FetchOptions{
		Checksum: digest.Digest(r.Checksum),
		Progress: func(n, total int64) { w.v.progress("downloading", n, total) },
	})
	if err != nil {
		return added{}, "", err
	}
	return added{name: r.Name, file: file}, file.Digest, nil
}

// fillRemote lists what came from elsewhere.
func (w *copyWork) fillRemote(ctx context.Context, t *target, sn *layers.Snapshot) error {
	for _, a := range w.remote {
		var err error
		if a.git != nil {
			err = w.addGit(ctx, t, a.git)
		} else {
			err = w.addFile(ctx, t, sn, a)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// addGit adds the files of a repository, as those of a directory are added.
func (w *copyWork) addGit(ctx context.Context, t *target, f *foreign) error {
	src, err := f.open(ctx)
	if err != nil {
		return err
	}
	sel, err := w.selector()
	if err != nil {
		return err
	}
	found, err := src.find(ctx, "/", sel)
	if err != nil {
		return err
	}
	for i := range found {
		if err := t.addMatch(ctx, src, &found[i]); err != nil {
			return err
		}
	}
	return nil
}

// addFile adds a fetched file, or what is in it when --unpack asks for that.
func (w *copyWork) addFile(ctx context.Context, t *target, sn *layers.Snapshot, a added) error {
	f := a.file
	open := func() (*os.File, error) { return os.Open(f.Path) }
	if w.op.Unpack != nil && *w.op.Unpack {
		done, err := unpack(ctx, t, sn, archive{name: a.name, modTime: f.ModTime, open: open})
		if err != nil || done {
			return err
		}
	}
	dest := t.dest
	if t.isDir {
		dest = path.Join(dest, a.name)
	}
	t.bytes += f.Size
	return t.put(layers.Entry{
		Path: dest, Mode: t.mode.apply(unix.S_IFREG | 0o600),
		UID: t.owner.uid, GID: t.owner.gid, ModTime: f.ModTime, Size: f.Size,
		Open: func() (io.ReadCloser, error) { return open() },
	}, "")
}
