package run

import (
	"context"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"cooper/layers"
	"cooper/run/internal/idmap"
	"cooper/run/internal/spawn"
)

// chooseIDs completes the user namespace that o asks for. Until release is called, when
// o is written, no other container is given ids.
func (cs *Containers) chooseIDs(o *ContainerOptions) (release func(), err error) {
	release = func() {}
	if o.Config.UserNS == nil {
		return release, nil
	}
	u := *o.Config.UserNS
	o.Config.UserNS = &u
	if u.kind() == "auto" {
		lock, err := lockDir(cs.dir)
		if err != nil {
			return release, err
		}
		release = func() { lock.Close() }
	}
	image, err := cs.imageView(o)
	if err == nil {
		defer image.Close()
		err = cs.resolve(&u, o, image)
	}
	if err == nil && o.Snapshot != nil {
		err = o.Snapshot.GiveTo(u.Owners)
	}
	if err != nil {
		release()
		return func() {}, err
	}
	return release, nil
}

// imageView shows the files that a new container begins with.
func (cs *Containers) imageView(o *ContainerOptions) (*layers.View, error) {
	if o.Rootfs != "" {
		return layers.OpenView(o.Rootfs)
	}
	img, err := cs.store.Image(o.ImageID)
	if err != nil {
		return nil, err
	}
	return cs.store.View(img.Layer)
}

// mountRootfs returns the container's root file system as it is to be mounted: with
// the owners that its user namespace has. One that the user has named is as it is.
func (c *Container) mountRootfs() (layers.Rootfs, error) {
	r, err := c.Rootfs()
	if err != nil || c.opts().Config.UserNS == nil || c.opts().Rootfs != "" {
		return r, err
	}
	layer, err := c.imageLayer()
	if err != nil {
		return r, err
	}
	return c.withOwners(r, layer)
}

func (c *Container) imageLayer() (string, error) {
	img, err := c.cs.store.Image(c.opts().ImageID)
	return img.Layer, err
}

// withOwners changes the lower directories of r, which are those of a layer. Root has
// the kernel show them with other owners, where the file system can do that.
func (c *Container) withOwners(r layers.Rootfs, layer string) (layers.Rootfs, error) {
	u := c.opts().Config.UserNS
	if u == nil || r.Dir != "" {
		return r, nil
	}
	if !spawn.InUserNamespace() && len(r.Lower) > 0 && idmap.Possible(r.Lower[0], mappings(u.Owners.UIDs), mappings(u.Owners.GIDs)) {
		r.MapLower = true
		return r, nil
	}
	return c.cs.store.ShiftLayer(context.Background(), layer, u.Owners, r, func() {
		c.cs.warn(fmt.Sprintf("--userns=%s: the image's files are copied to change their owners, which takes a while: from Linux 6.16 on that is not needed", u.Mode))
	})
}

// forgetIDs removes the files that were made for the container's ids, if nobody else
// can have these.
func (c *Container) forgetIDs() error {
	u := c.opts().Config.UserNS
	if u.kind() != "auto" || c.opts().Rootfs != "" {
		return nil
	}
	layer, err := c.imageLayer()
	if err != nil {
		return nil // it is gone, and what was made of it too
	}
	return c.cs.store.RemoveShifted(layer, u.Owners)
}

// giveUpper gives the upper directory of r to those who have the lower one.
func giveUpper(r layers.Rootfs, u *UserNS) error {
	if u == nil || r.Dir != "" || len(r.Lower) == 0 {
		return nil
	}
	var st unix.Stat_t
	if err := unix.Stat(r.Lower[0], &st); err != nil {
		return &os.PathError{Op: "stat", Path: r.Lower[0], Err: err}
	}
	uid, gid := u.Owners.Outside(st.Uid, st.Gid)
	return os.Chown(r.Upper, int(uid), int(gid))
}

// addAccounts gives the container the lines of passwd and group that its user needs.
func (c *Container) addAccounts(t *Task, conf *Config) error {
	if conf.UserNS == nil {
		return nil
	}
	files, err := conf.UserNS.files(t.View)
	if err != nil {
		return err
	}
	for _, m := range conf.Mounts {
		delete(files, m.Destination)
	}
	if t.Files == nil {
		t.Files = map[string]File{}
	}
	for name, f := range files {
		t.Files[name] = f
	}
	return nil
}

// joinUserNS makes the path of a user namespace that is another container's.
func (c *Container) joinUserNS(conf *Config) error {
	if conf.UserNS.kind() != "container" {
		return nil
	}
	path, err := c.namespaceOf(conf.UserNS.Mode, "user")
	if err != nil {
		return err
	}
	u := *conf.UserNS
	u.Mode = userNSPath + path
	conf.UserNS = &u
	return nil
}

// Owners returns what changes the owners of files between this process and a container
// with a user namespace of its own, nil for others.
func (c *Container) Owners() (inside, outside func(uid, gid int) (int, int)) {
	if c.opts().Config.UserNS == nil {
		return nil, nil
	}
	o := c.opts().Config.UserNS.Owners
	number := func(f func(uid, gid uint32) (uint32, uint32)) func(uid, gid int) (int, int) {
		return func(uid, gid int) (int, int) {
			u, g := f(uint32(uid), uint32(gid))
			return int(u), int(g)
		}
	}
	return number(o.Inside), number(o.Outside)
}
