package builder

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/runtime-spec/specs-go"

	"cooper/dockerfile"
	"cooper/layers"
	"cooper/run"
)

// mounts are what RUN --mount adds to a step's container.
type mounts struct {
	bd      *build
	view    *layers.View // the step's root file system
	fresh   bool         // caches begin empty
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

// add prepares one mount; seed is for caches.
func (m *mounts) add(ctx context.Context, spec dockerfile.Mount, seed digest.Digest) error {
	var err error
	switch spec.Type {
	case dockerfile.MountBind:
		err = m.bind(ctx, spec)
	case dockerfile.MountCache:
		err = m.cache(ctx, spec, seed)
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
		m.files[spec.Target] = run.File{Data: data, Mode: spec.Mode, UID: spec.UID, GID: spec.GID, Secret: true}
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
		if spec.Type == dockerfile.MountCache {
			if w.seeds == nil {
				w.seeds = map[int]digest.Digest{}
			}
			w.seeds[i] = d
		}
	}
	if !found {
		return "", nil
	}
	return k.sum(), nil
}
