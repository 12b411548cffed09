package layers

import (
	"context"
	"fmt"
	"path"
	"slices"

	"golang.org/x/sys/unix"
)

// Squash makes one layer on onto of what all layers above it, up to top, have
// changed; "" as onto squashes them all. A file that one of them made and
// another deleted is in no layer then. The layers stay. onto must be below top.
func (s *Store) Squash(ctx context.Context, top, onto string) (Layer, error) {
	chain, err := s.Chain(top)
	if err != nil {
		return Layer{}, fmt.Errorf("squash: %w", err)
	}
	below := 0
	if onto != "" {
		below = slices.IndexFunc(chain, func(l Layer) bool { return l.ID == onto }) + 1
		if below == 0 {
			return Layer{}, fmt.Errorf("squash: layer %s is not below %s", onto, top)
		}
	}
	if len(chain)-below <= 1 {
		return s.Layer(top) // there is nothing to put together
	}
	l, err := s.squash(ctx, top, onto, len(chain)-below)
	if err != nil {
		return Layer{}, fmt.Errorf("squash: %w", err)
	}
	return l, nil
}

func (s *Store) squash(ctx context.Context, top, onto string, layers int) (_ Layer, err error) {
	now, err := s.View(top)
	if err != nil {
		return Layer{}, err
	}
	defer now.Close()
	before, err := s.View(onto)
	if err != nil {
		return Layer{}, err
	}
	defer before.Close()
	d := &difference{now: now, before: before, layers: layers}
	if s.overlay {
		err = d.dir(ctx, ".", nil, onto != "")
	} else {
		err = d.compare(ctx, s.overlayXattr(), onto != "")
	}
	if err != nil {
		return Layer{}, err
	}
	entries, err := d.entries(ctx)
	if err != nil {
		return Layer{}, err
	}
	parent, err := s.Layer(onto)
	if err != nil {
		return Layer{}, err
	}
	sn, err := s.Prepare(ctx, parent)
	if err != nil {
		return Layer{}, err
	}
	defer func() {
		if removeErr := sn.Remove(); err == nil {
			err = removeErr
		}
	}()
	if err := sn.Hide(ctx, d.gone); err != nil {
		return Layer{}, err
	}
	if err := sn.Write(ctx, entries, WriteOptions{Replace: true}); err != nil {
		return Layer{}, err
	}
	return sn.Commit(ctx).Wait(ctx)
}

// difference gathers what the layers of now that before has not have changed.
type difference struct {
	now, before *View
	layers      int // so many of now's are above before's
	changed     []Info
	gone        []string
}

// dir looks into a directory of now, in the layers that have a share in it; was
// says that before has it too. Only what one of the upper layers holds can have
// changed.
func (d *difference) dir(ctx context.Context, dir string, shares []int, was bool) error {
	if err := context.Cause(ctx); err != nil {
		return err
	}
	now, err := d.now.list(dir, shares)
	if err != nil {
		return fmt.Errorf("read /%s: %w", dir, err)
	}
	old := map[string]Info{}
	if was {
		infos, err := d.before.ReadDir(dir)
		if err != nil {
			return err
		}
		for _, info := range infos {
			old[info.Path] = info
		}
	}
	for i, info := range now.infos {
		before, existed := old[info.Path]
		delete(old, info.Path)
		if info.layer < d.layers {
			d.changed = append(d.changed, info)
		}
		if !info.IsDir() {
			continue
		}
		var below []int
		if now.layers != nil {
			below = now.layers[i]
		}
		if existed && before.IsDir() && below != nil && slices.Min(below) >= d.layers {
			continue
		}
		if err := d.dir(ctx, info.Path, below, existed && before.IsDir()); err != nil {
			return err
		}
	}
	for name := range old {
		d.gone = append(d.gone, name)
	}
	return nil
}

// compare finds the same where each layer is a whole tree: by comparing them.
func (d *difference) compare(ctx context.Context, xattr string, was bool) error {
	if !was {
		return d.now.Walk(ctx, ".", nil, func(info Info) error {
			if info.Path != "." {
				d.changed = append(d.changed, info)
			}
			return nil
		})
	}
	// Without a mark: the trees are no copies of each other.
	c := comparison{now: d.now.layers[0], before: d.before.layers[0], mark: unix.Timespec{}, xattr: xattr}
	found, err := c.compareDir(".")
	if err != nil {
		return err
	}
	for _, f := range found {
		if f.gone {
			d.gone = append(d.gone, f.path)
			continue
		}
		info, err := d.now.Lstat(path.Clean(f.path))
		if err != nil {
			return err
		}
		d.changed = append(d.changed, info)
	}
	return nil
}

// entries are the changed files ready to be written. The root directory is among
// them if it is not as before.
func (d *difference) entries(ctx context.Context) ([]Entry, error) {
	files := slices.DeleteFunc(d.changed, func(i Info) bool { return i.Type() == unix.S_IFSOCK })
	entries, err := d.now.Entries(ctx, files)
	if err != nil {
		return nil, err
	}
	info, err := d.now.Lstat(".")
	if err != nil {
		return nil, err
	}
	root, err := d.now.Entry(info)
	if err != nil {
		return nil, err
	}
	was := Entry{Mode: unix.S_IFDIR | 0o555}
	if len(d.before.layers) > 0 {
		if info, err = d.before.Lstat("."); err == nil {
			was, err = d.before.Entry(info)
		}
	}
	if err == nil && !sameRoot(&root, &was) {
		entries = append(entries, root)
	}
	return entries, err
}
