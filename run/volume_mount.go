package run

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"cooper/layers"
)

// prepareMounts makes what the container's mounts need when it is created:
// volumes, filled with what the image has at their place, and missing
// directories. It completes c.opts().Mounts.
func (c *Container) prepareMounts(ctx context.Context) error {
	view, err := c.View()
	if err != nil {
		return err
	}
	defer view.Close()
	c.opts().Mounts = slices.Clone(c.opts().Mounts)
	for i := range c.opts().Mounts {
		if err := c.prepareMount(ctx, view, &c.opts().Mounts[i]); err != nil {
			return fmt.Errorf("mount %s: %w", c.opts().Mounts[i].Destination, err)
		}
	}
	return nil
}

func (c *Container) prepareMount(ctx context.Context, view *layers.View, m *ContainerMount) error {
	switch m.Type {
	case "volume":
		o := VolumeOptions{Labels: m.Labels, Options: m.DriverOptions}
		if !m.NoCopy && m.Subpath == "" {
			o.fill = func(dir string) error { return c.fillVolume(ctx, view, m.Destination, dir) }
		}
		v, err := c.cs.CreateVolume(m.Name, o)
		if err != nil {
			return err
		}
		m.Anonymous = m.Name == ""
		m.Name, m.Source = v.Name, v.Mountpoint
	case "bind":
		if err := m.checkSource(); err != nil {
			return err
		}
	case "image":
		img, err := c.cs.store.Image(m.Source)
		if err != nil {
			return fmt.Errorf("%w: pull or build it first", err)
		}
		m.ImageID = img.ID
	}
	if m.Chown {
		user, _, err := c.opts().Config.lookupUser(view)
		if err != nil {
			return err
		}
		uid, gid := c.opts().Config.UserNS.owners().Outside(user.UID, user.GID)
		return ChownTree(ctx, m.Source, int(uid), int(gid))
	}
	return nil
}

// checkSource makes the source of a bind mount if that is wanted.
func (m *ContainerMount) checkSource() error {
	_, err := os.Stat(m.Source)
	if errors.Is(err, fs.ErrNotExist) && m.MakeSource {
		return os.MkdirAll(m.Source, 0o755)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("bind source path does not exist: %s", m.Source)
	}
	return err
}

// fillVolume gives dir, which is empty, what the image has at dest: content,
// owners and modes, those of the directory itself as well.
func (c *Container) fillVolume(ctx context.Context, view *layers.View, dest, dir string) error {
	st, err := view.Stat(dest)
	if errors.Is(err, fs.ErrNotExist) || err == nil && !st.IsDir() {
		return c.giveEmptyVolume(view, dir)
	}
	if err != nil {
		return err
	}
	if _, err = view.Extract(ctx, dir, layers.ExtractOptions{Root: dest}); err != nil {
		return err
	}
	return c.giveVolume(dir)
}

// giveEmptyVolume gives a volume that nobody has got yet to the user of a container with
// a user namespace of its own, as podman does.
func (c *Container) giveEmptyVolume(view *layers.View, dir string) error {
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); c.opts().Config.UserNS == nil || err != nil || st.Uid != 0 || st.Gid != 0 {
		return err
	}
	user, _, err := c.opts().Config.lookupUser(view)
	if err != nil {
		return err
	}
	uid, gid := c.opts().Config.UserNS.owners().Outside(user.UID, user.GID)
	return os.Chown(dir, int(uid), int(gid))
}

// giveVolume gives a new volume to the ids of the container's user namespace.
func (c *Container) giveVolume(dir string) error {
	if o := c.opts().Config.UserNS.owners(); !o.IsZero() {
		return o.GiveTree(dir)
	}
	return nil
}

// ChownTree gives dir and all below it to a user.
func ChownTree(ctx context.Context, dir string, uid, gid int) error {
	return filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err == nil {
			err = context.Cause(ctx)
		}
		if err == nil {
			err = os.Lchown(path, uid, gid)
		}
		return err
	})
}

// removeVolumes removes the container's anonymous volumes, but for those that
// another container has too.
func (c *Container) removeVolumes() error {
	var errs []error
	for _, m := range c.opts().Mounts {
		if m.Type != "volume" || !m.Anonymous {
			continue
		}
		err := c.cs.RemoveVolume(m.Name)
		if !errors.Is(err, ErrNoVolume) && !errors.Is(err, ErrVolumeInUse) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// mounts are what is mounted in the container beside the default mounts: those of
// the specification, and trees of their own.
func (c *Container) mounts() (mounts []specs.Mount, trees []Tree, err error) {
	for i, m := range c.opts().Mounts {
		over := filepath.Join(c.dir, "over", strconv.Itoa(i))
		var tree *Tree
		var mount specs.Mount
		switch {
		case m.Type == "image":
			tree, err = c.imageTree(m, over)
		case m.Overlay:
			tree, err = c.cs.overlayTree(m, over)
		case m.Type == "volume":
			mount, err = c.cs.volumeMount(m)
		case m.Type == "bind":
			err = m.checkSource()
			mount = specs.Mount{Type: "bind", Source: m.Source, Destination: m.Destination, Options: bindOptions(m.Options)}
		default:
			mount = specs.Mount{Type: m.Type, Destination: m.Destination, Options: m.Options}
		}
		if err != nil {
			return nil, nil, fmt.Errorf("mount %s: %w", m.Destination, err)
		}
		if tree != nil {
			trees = append(trees, *tree)
		} else {
			mounts = append(mounts, mount)
		}
	}
	return mounts, trees, nil
}

// Beside the mount options that the kernel has, "norro" says that what is mounted
// below a read-only mount stays writable.
const writableBelow = "norro"

// bindOptions makes a read-only mount read-only in all its depth where the kernel
// can do that, as docker does.
func bindOptions(options []string) []string {
	has := func(o string) bool { return slices.Contains(options, o) }
	if has("ro") && !has("bind") && !has("rro") && !has(writableBelow) && hasRecursiveReadOnly() {
		options = append(slices.Clone(options), "rro")
	}
	return slices.DeleteFunc(slices.Clone(options), func(o string) bool { return o == writableBelow })
}

// volumeMount mounts a volume or a part of it.
func (cs *Containers) volumeMount(m ContainerMount) (specs.Mount, error) {
	v, err := cs.Volume(m.Name)
	if err != nil {
		return specs.Mount{}, err
	}
	kind, source, options := v.source()
	if m.Subpath != "" {
		if kind != "bind" {
			return specs.Mount{}, fmt.Errorf("volume %s is a %s: it can only be mounted as a whole", v.Name, kind)
		}
		if source, err = subpath(source, m.Subpath); err != nil {
			return specs.Mount{}, fmt.Errorf("volume %s: %w", v.Name, err)
		}
	}
	options = append(options, m.Options...)
	if kind == "bind" {
		options = bindOptions(options)
	}
	return specs.Mount{Type: kind, Source: source, Destination: m.Destination, Options: options}, nil
}

// subpath returns the path of name in root, where no link leads out of root.
func subpath(root, name string) (string, error) {
	dir, err := unix.Open(root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", &fs.PathError{Op: "open", Path: root, Err: err}
	}
	defer unix.Close(dir)
	fd, err := unix.Openat2(dir, name, &unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS})
	if err != nil {
		return "", &fs.PathError{Op: "open", Path: name, Err: err}
	}
	defer unix.Close(fd)
	return os.Readlink("/proc/self/fd/" + strconv.Itoa(fd))
}

// overlayTree mounts a directory or volume so that what is written goes to over.
func (cs *Containers) overlayTree(m ContainerMount, over string) (*Tree, error) {
	source := m.Source
	if m.Type == "volume" {
		mount, err := cs.volumeMount(m)
		if err != nil {
			return nil, err
		}
		if mount.Type != "bind" {
			return nil, fmt.Errorf("volume %s is a %s: nothing can be mounted over it", m.Name, mount.Type)
		}
		source = mount.Source
	}
	if st, err := os.Stat(source); err != nil {
		return nil, err
	} else if !st.IsDir() {
		return nil, fmt.Errorf("option O needs a directory, and %s is none", source)
	}
	r, err := cs.store.OverDir(source, over)
	if err != nil {
		return nil, err
	}
	return &Tree{Target: m.Destination, Rootfs: r, Path: ".", Dir: true, ReadOnly: slices.Contains(m.Options, "ro")}, nil
}

// imageTree mounts an image or a part of it, read-only.
func (c *Container) imageTree(m ContainerMount, over string) (*Tree, error) {
	store := c.cs.store
	img, err := store.Image(m.ImageID)
	if err != nil {
		return nil, err
	}
	view, err := store.View(img.Layer)
	if err != nil {
		return nil, err
	}
	defer view.Close()
	part, err := view.Resolve(m.Subpath)
	if err != nil {
		return nil, err
	}
	st, err := view.Lstat(part)
	if err != nil {
		return nil, err
	}
	r, err := store.LayerRootfs(img.Layer, over)
	if err == nil {
		err = giveUpper(r, c.opts().Config.UserNS)
	}
	if err == nil {
		r, err = c.withOwners(r, img.Layer)
	}
	if err != nil {
		return nil, err
	}
	return &Tree{Target: m.Destination, Rootfs: r, Path: part, Dir: st.IsDir(), ReadOnly: true}, nil
}
