package builder

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"cooper/dockerfile"
	"cooper/layers"
	"cooper/run"
)

// mounts are what RUN --mount adds to a step's container.
type mounts struct {
	bd      *build
	view    *layers.View // the step's root file system
	specs   []specs.Mount
	trees   []run.Tree
	files   map[string]run.File
	env     []string
	devices []run.Device
	// cdiDevices are names for run.Config.CDIDevices.
	cdiDevices []string
	// release undoes what was prepared, last first.
	release []func() error
}

// close undoes what was prepared.
func (m *mounts) close() error {
	var errs []error
	for i := len(m.release) - 1; i >= 0; i-- {
		errs = append(errs, m.release[i]())
	}
	return errors.Join(errs...)
}

// add prepares one mount.
func (m *mounts) add(ctx context.Context, spec dockerfile.Mount) error {
	var err error
	switch spec.Type {
	case dockerfile.MountBind:
		err = m.bind(ctx, spec)
	case dockerfile.MountCache:
		err = m.cache(ctx, spec)
	case dockerfile.MountTmpfs:
		m.tmpfs(spec)
	case dockerfile.MountSecret:
		err = m.secret(spec)
	case dockerfile.MountSSH:
		err = m.ssh(spec)
	default:
		err = errors.New("unknown type")
	}
	if err != nil {
		return fmt.Errorf("--mount=type=%s: %w", spec.Type, err)
	}
	return nil
}

func (m *mounts) tmpfs(spec dockerfile.Mount) {
	opts := []string{"nosuid", "nodev", "mode=755"}
	if spec.Size > 0 {
		opts = append(opts, "size="+strconv.FormatInt(spec.Size, 10))
	}
	m.specs = append(m.specs, specs.Mount{Type: "tmpfs", Source: "tmpfs", Destination: spec.Target, Options: opts})
}

// bind mounts a file or directory of a stage, an image or a context. Writes, if
// allowed at all, go to a snapshot that is thrown away.
func (m *mounts) bind(ctx context.Context, spec dockerfile.Mount) error {
	src, err := m.bd.sources.get(ctx, *spec.From)
	if err != nil {
		return err
	}
	p, err := src.view.Resolve(clean(spec.Source))
	if err != nil {
		return src.explain(spec.Source, err)
	}
	info, err := src.view.Lstat(p)
	if err != nil {
		return src.explain(spec.Source, err)
	}
	sn, err := m.tree(ctx, *spec.From, src)
	if err != nil {
		return err
	}
	m.trees = append(m.trees, run.Tree{
		Target: spec.Target, Rootfs: sn.Rootfs(), Path: p, Dir: info.IsDir(), ReadOnly: spec.ReadOnly,
	})
	return nil
}

// tree makes a snapshot that shows from's files. Those that an ignore file hides
// are deleted in it.
func (m *mounts) tree(ctx context.Context, from dockerfile.Source, src *source) (*layers.Snapshot, error) {
	var sn *layers.Snapshot
	var err error
	if src.local {
		sn, err = m.bd.b.Store.PrepareDir(ctx, src.dir)
	} else {
		var parent layers.Parent
		if parent, err = m.bd.sources.parent(ctx, from); err == nil {
			sn, err = m.bd.b.Store.Prepare(ctx, parent)
		}
	}
	if err != nil {
		return nil, err
	}
	m.release = append(m.release, sn.Remove)
	if src.ignore != nil {
		err = hideIgnored(ctx, src, sn)
	}
	return sn, err
}

// hideIgnored deletes in sn, which shows src's directory, what src's ignore file
// hides.
func hideIgnored(ctx context.Context, src *source, sn *layers.Snapshot) error {
	var gone []string
	skip := func(p string, dir bool) bool {
		if p == "." || !src.ignore.Skip(p, dir) {
			return false
		}
		gone = append(gone, p)
		return true
	}
	err := src.view.Walk(ctx, ".", skip, func(layers.Info) error { return nil })
	if err != nil {
		return err
	}
	return sn.Hide(ctx, gone)
}

// cacheName makes a file name of a cache's id.
func cacheName(id string) string { return digest.FromString(id).Encoded()[:32] }

// cache mounts a directory that outlives the build. It belongs to the store, so
// every build of the machine's user shares it.
func (m *mounts) cache(ctx context.Context, spec dockerfile.Mount) error {
	root, err := m.bd.b.Store.Dir("mounts")
	if err != nil {
		return err
	}
	dir, unlock, err := lockCache(ctx, filepath.Join(root, cacheName(spec.ID)), spec.Sharing)
	if err != nil {
		return fmt.Errorf("id %s: %w", spec.ID, err)
	}
	m.release = append(m.release, unlock)
	data := filepath.Join(dir, "data")
	if _, err := os.Stat(data); errors.Is(err, os.ErrNotExist) {
		if err := m.newCache(ctx, dir, data, spec); err != nil {
			return fmt.Errorf("id %s: %w", spec.ID, err)
		}
	} else if err != nil {
		return err
	}
	m.specs = append(m.specs, bindSpec(data, spec))
	return nil
}

func bindSpec(dir string, spec dockerfile.Mount) specs.Mount {
	mount := specs.Mount{Type: "bind", Source: dir, Destination: spec.Target, Options: []string{"rbind", "rprivate"}}
	if spec.ReadOnly {
		mount.Options = append(mount.Options, "ro")
	}
	return mount
}

// newCache fills a cache directory for the first time. It appears under its
// name when it is complete.
func (m *mounts) newCache(ctx context.Context, dir, data string, spec dockerfile.Mount) error {
	tmp, err := os.MkdirTemp(dir, ".new-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	if spec.From != nil {
		if err := m.copyInto(ctx, tmp, spec); err != nil {
			return err
		}
	} else if err := errors.Join(os.Chown(tmp, int(spec.UID), int(spec.GID)), unix.Chmod(tmp, spec.Mode)); err != nil {
		return err
	}
	if err := os.Rename(tmp, data); err != nil && !errors.Is(err, os.ErrExist) && !errors.Is(err, unix.ENOTEMPTY) {
		return err
	}
	return nil
}

// copyInto fills dir with a cache's initial content from a stage or an image: it
// is written in a snapshot, which is on the same file system, and moved.
func (m *mounts) copyInto(ctx context.Context, dir string, spec dockerfile.Mount) (err error) {
	src, err := m.bd.sources.get(ctx, *spec.From)
	if err != nil {
		return err
	}
	root, err := src.view.Resolve(clean(spec.Source))
	if err != nil {
		return src.explain(spec.Source, err)
	}
	sn, err := m.bd.b.Store.Prepare(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, sn.Remove()) }()
	from := match{root: root, dir: true}
	var entries []layers.Entry
	err = src.view.Walk(ctx, root, nil, func(f layers.Info) error {
		e, err := src.view.Entry(f)
		e.Path = path.Join("data", from.rel(f))
		entries = append(entries, e)
		return err
	})
	if err != nil {
		return src.explain(spec.Source, err)
	}
	if err := sn.Write(ctx, entries, layers.WriteOptions{}); err != nil {
		return err
	}
	return unix.Rename(filepath.Join(sn.Upper(), "data"), dir)
}

// lockCache returns the directory of a cache and what ends its use. Shared
// caches are used by several steps at once, locked ones by one after the other;
// private ones get a directory of their own while another step uses the first.
func lockCache(ctx context.Context, base, sharing string) (string, func() error, error) {
	for n := 0; ; n++ {
		dir := base
		if n > 0 {
			dir += "-" + strconv.Itoa(n)
		}
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return "", nil, err
		}
		how := unix.LOCK_EX
		if sharing == "shared" || sharing == "" {
			how = unix.LOCK_SH
		}
		f, err := lockFile(ctx, filepath.Join(dir, "lock"), how, sharing != "private")
		if errors.Is(err, unix.EWOULDBLOCK) {
			continue
		}
		if err != nil {
			return "", nil, err
		}
		return dir, f.Close, nil
	}
}

// lockPoll is how often a cache that somebody else has locked is tried again.
const lockPoll = 20 * time.Millisecond

// lockFile opens path and locks it. A lock that another process or step holds is
// waited for, or with wait unset is EWOULDBLOCK. Closing the file ends the lock.
func lockFile(ctx context.Context, path string, how int, wait bool) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	for {
		err := unix.Flock(int(f.Fd()), how|unix.LOCK_NB)
		if err == nil {
			return f, nil
		}
		if err != unix.EINTR && (err != unix.EWOULDBLOCK || !wait) {
			return nil, errors.Join(err, f.Close())
		}
		select {
		case <-ctx.Done():
			return nil, errors.Join(context.Cause(ctx), f.Close())
		case <-time.After(lockPoll):
		}
	}
}

// secret presents a secret as a file, an environment variable or both.
func (m *mounts) secret(spec dockerfile.Mount) error {
	data, err := m.bd.o.secret(spec.ID)
	switch {
	case errors.Is(err, errNoSecret) && !spec.Required:
		spec.Target = "" // the variable is set all the same, to nothing
	case err != nil:
		return fmt.Errorf("secret %s: %w", spec.ID, err)
	}
	if spec.Env != nil {
		m.env = append(m.env, *spec.Env+"="+string(data))
	}
	if spec.Target != "" {
		m.files[spec.Target] = run.File{Data: data, Mode: spec.Mode, UID: spec.UID, GID: spec.GID}
	}
	return nil
}

// inputs digests what the bind mounts show, and the initial content of caches;
// secrets and agents are no input.
func (w *runWork) inputs(ctx context.Context) (digest.Digest, error) {
	k := newKey("mounts")
	found := false
	for i := range w.op.Mounts {
		spec := &w.op.Mounts[i]
		if spec.From == nil {
			continue
		}
		found = true
		c := &copyWork{bd: w.bd, plain: true, op: &dockerfile.Copy{
			From: *spec.From, Sources: []string{spec.Source}, Spelled: []string{spec.Source},
		}}
		d, err := c.inputs(ctx)
		if err != nil {
			return "", err
		}
		k.text(string(d))
	}
	if !found {
		return "", nil
	}
	return k.sum(), nil
}
