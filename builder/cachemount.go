package builder

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"cooper/dockerfile"
	"cooper/layers"
	"cooper/run"
)

// cacheName makes a file name of what identifies a cache: its id and, as with
// BuildKit, what it was filled with and the owner that it was given.
func cacheName(spec dockerfile.Mount, seed digest.Digest) string {
	id := spec.ID
	if spec.Owner != "" || spec.From != nil {
		id = strings.Join([]string{id, spec.Owner, seed.String()}, "\x00")
	}
	return digest.FromString(id).Encoded()[:32]
}

// renewed are the directories of caches that a session has begun anew.
type renewed struct {
	mu   sync.Mutex
	dirs map[string]bool
}

// first reports whether dir was not named before.
func (r *renewed) first(dir string) bool {
	if r.dirs == nil {
		r.dirs = map[string]bool{}
	}
	was := r.dirs[dir]
	r.dirs[dir] = true
	return !was
}

// cache mounts a directory that outlives the build. It belongs to the store, so
// every build of the machine's user shares it.
func (m *mounts) cache(ctx context.Context, spec dockerfile.Mount, seed digest.Digest) error {
	root, err := m.bd.b.Store.Dir("mounts")
	if err != nil {
		return err
	}
	dir, unlock, err := lockCache(ctx, filepath.Join(root, cacheName(spec, seed)), spec.Sharing)
	if err != nil {
		return fmt.Errorf("id %s: %w", spec.ID, err)
	}
	m.release = append(m.release, unlock)
	data := filepath.Join(dir, "data")
	if err := m.settleCache(ctx, dir, data, spec); err != nil {
		return fmt.Errorf("id %s: %w", spec.ID, err)
	}
	if spec.From == nil && spec.Source != "" {
		return m.partOfCache(data, spec)
	}
	m.specs = append(m.specs, bindSpec(data, spec))
	return nil
}

// settleCache makes a cache directory that is not there, or that is to begin
// anew.
func (m *mounts) settleCache(ctx context.Context, dir, data string, spec dockerfile.Mount) error {
	if m.fresh {
		m.bd.renewed.mu.Lock()
		defer m.bd.renewed.mu.Unlock()
		if m.bd.renewed.first(dir) {
			m.release = slices.Insert(m.release, len(m.release)-1, func() error { return sweepCache(dir) })
			return m.newCache(ctx, dir, data, spec)
		}
	}
	_, err := os.Stat(data)
	if errors.Is(err, os.ErrNotExist) {
		return m.newCache(ctx, dir, data, spec)
	}
	return err
}

// partOfCache mounts what is at spec.Source in a cache. Steps that have all of
// it may be changing it: the path is followed once more when it is mounted.
func (m *mounts) partOfCache(data string, spec dockerfile.Mount) error {
	view, err := layers.OpenView(data)
	if err != nil {
		return err
	}
	defer view.Close()
	name, err := view.Resolve(clean(spec.Source))
	if err != nil {
		return err
	}
	info, err := view.Lstat(name)
	if missing(err) {
		return fmt.Errorf("open %s: no such file or directory in the cache %s: let a step make it that mounts all of the cache", spec.Source, spec.ID)
	}
	if err != nil {
		return err
	}
	m.trees = append(m.trees, run.Tree{
		Target: spec.Target, Rootfs: layers.Rootfs{Dir: data}, Path: clean(spec.Source), Dir: info.IsDir(),
		ReadOnly: spec.ReadOnly, Live: true,
	})
	return nil
}

func bindSpec(dir string, spec dockerfile.Mount) specs.Mount {
	mount := specs.Mount{Type: "bind", Source: dir, Destination: spec.Target, Options: []string{"rbind", "rprivate"}}
	if spec.ReadOnly {
		mount.Options = append(mount.Options, "ro")
	}
	return mount
}

// newCache fills a cache directory for the first time, or once more. It appears
// under its name when it is complete; what was there before stays below another
// name, since somebody may have it mounted.
func (m *mounts) newCache(ctx context.Context, dir, data string, spec dockerfile.Mount) error {
	tmp, err := os.MkdirTemp(dir, ".new-")
	if err != nil {
		return err
	}
	replaced := false
	defer func() {
		if !replaced {
			os.RemoveAll(tmp)
		}
	}()
	if spec.From != nil && spec.Owner == "" {
		if err := m.copyInto(ctx, tmp, spec); err != nil {
			return err
		}
	} else if err := errors.Join(os.Chown(tmp, int(spec.UID), int(spec.GID)), unix.Chmod(tmp, spec.Mode)); err != nil {
		return err
	}
	err = unix.Renameat2(unix.AT_FDCWD, tmp, unix.AT_FDCWD, data, unix.RENAME_NOREPLACE)
	if err == unix.EEXIST && m.fresh {
		err = unix.Renameat2(unix.AT_FDCWD, tmp, unix.AT_FDCWD, data, unix.RENAME_EXCHANGE)
		replaced = err == nil
	}
	if err == unix.EEXIST { // another build was faster
		return nil
	}
	return err
}

// sweepCache removes what caches that began anew have left in dir, unless
// somebody uses one of them: then the next sweep does.
func sweepCache(dir string) error {
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR, 0o600)
	if err != nil {
		return nil // the cache is gone
	}
	defer f.Close()
	if unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) != nil {
		return nil
	}
	old, err := filepath.Glob(filepath.Join(dir, ".new-*"))
	if err != nil {
		return err
	}
	var errs []error
	for _, name := range old {
		errs = append(errs, os.RemoveAll(name))
	}
	return errors.Join(errs...)
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
