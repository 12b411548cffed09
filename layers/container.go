package layers

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	digest "github.com/opencontainers/go-digest"
	"go.podman.io/storage"
	"go.podman.io/storage/types"
)

// ContainerLayer is the writable layer of a container that outlives the process
// that made it. In the storage library's terms it is a container: whoever uses
// the store sees it, and its image can't be removed as long as it exists. Its
// methods may be called concurrently; what the container writes meanwhile they
// may or may not see.
type ContainerLayer struct {
	// ID is the container's, Image the ID of its image.
	ID, Image string

	store    *Store
	layer    string
	volatile bool
	owners   Owners
}

// ContainerLayerOptions say how a ContainerLayer is made.
type ContainerLayerOptions struct {
	// Volatile: what is written need not outlive a crash of the machine,
	// and nobody waits for it to be on disk.
	Volatile bool
	// Owners are those of a container with a user namespace of its own: what
	// it writes belongs on disk to the ids outside. Tars have those inside.
	Owners Owners
}

// containerLayerID is the ID of the layer of the container with this ID. That it
// follows from the container's saves a look into the store's tables.
func containerLayerID(id string) string { return digest.FromString("container " + id).Encoded() }

// CreateContainerLayer makes a writable layer on an image, for the container
// with this ID (64 hexadecimal digits).
func (s *Store) CreateContainerLayer(ctx context.Context, id, image string, o ContainerLayerOptions) (*ContainerLayer, error) {
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	host := types.IDMappingOptions{HostUIDMapping: true, HostGIDMapping: true}
	_, err := s.store.CreateContainer(id, nil, image, containerLayerID(id), "", &storage.ContainerOptions{
		IDMappingOptions: host, Volatile: o.Volatile,
	})
	if err != nil {
		return nil, fmt.Errorf("create layer of container %s: %w", id, notFound(image, err))
	}
	c := s.containerLayer(id, image, o)
	if err := c.giveAway(); err != nil {
		return nil, errors.Join(fmt.Errorf("create layer of container %s: %w", id, err), s.RemoveContainerLayer(id))
	}
	return c, nil
}

// ContainerLayer looks the layer of a container up. The error wraps ErrNotFound
// if the store has none.
func (s *Store) ContainerLayer(id, image string, o ContainerLayerOptions) (*ContainerLayer, error) {
	c := s.containerLayer(id, image, o)
	if !s.driver.Exists(c.layer) {
		return nil, fmt.Errorf("layer of container %s: %w", id, ErrNotFound)
	}
	return c, nil
}

func (s *Store) containerLayer(id, image string, o ContainerLayerOptions) *ContainerLayer {
	return &ContainerLayer{ID: id, Image: image, store: s, layer: containerLayerID(id), volatile: o.Volatile, owners: o.Owners}
}

// giveAway gives the layer, which is new, to its container's ids.
func (c *ContainerLayer) giveAway() error {
	if c.owners.IsZero() {
		return nil
	}
	r, err := c.Rootfs()
	if err != nil {
		return err
	}
	return r.GiveTo(c.owners)
}

// RemoveContainerLayer removes the writable layer of a container, which must not
// be mounted. That there is none is no error.
func (s *Store) RemoveContainerLayer(id string) error {
	err := s.store.DeleteContainer(id)
	if errors.Is(err, storage.ErrNotAContainer) || errors.Is(err, storage.ErrContainerUnknown) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("remove layer of container %s: %w", id, err)
	}
	return nil
}

// dirs returns the layer's own directory and those below it, top first.
func (c *ContainerLayer) dirs() ([]dir, error) {
	dirs, err := c.store.driverDirs(c.layer)
	if errors.Is(err, fs.ErrNotExist) {
		err = ErrNotFound
	}
	if err != nil {
		return nil, fmt.Errorf("layer of container %s: %w", c.ID, err)
	}
	return dirs, nil
}

// Upper returns the directory that holds what the container wrote (with vfs: the
// whole tree).
func (c *ContainerLayer) Upper() (string, error) {
	dirs, err := c.dirs()
	if err != nil {
		return "", err
	}
	return dirs[0].path, nil
}

// Rootfs returns what to mount.
func (c *ContainerLayer) Rootfs() (Rootfs, error) {
	dirs, err := c.dirs()
	if err != nil {
		return Rootfs{}, err
	}
	if !c.store.overlay {
		return Rootfs{Dir: dirs[0].path}, nil
	}
	home := filepath.Dir(dirs[0].path)
	r := Rootfs{Upper: dirs[0].path, Work: filepath.Join(home, "work"), Options: c.store.mountOptions()}
	if !c.volatile {
		r.Options = slices.DeleteFunc(r.Options, func(o string) bool { return o == "volatile" })
	}
	for _, d := range dirs[1:] {
		r.Lower = append(r.Lower, d.path)
	}
	if len(r.Lower) == 0 {
		// overlayfs needs one, and so does the library.
		r.Lower = []string{filepath.Join(home, "empty")}
		if err := os.MkdirAll(r.Lower[0], 0o700); err != nil {
			return Rootfs{}, err
		}
	}
	r.LowerFiles = make([]*os.File, len(r.Lower))
	return r, nil
}

// View opens a view of the container's files without mounting them. The caller
// closes it.
func (c *ContainerLayer) View() (*View, error) {
	dirs, err := c.dirs()
	if err != nil {
		return nil, err
	}
	v, err := c.store.view(dirs)
	if err != nil {
		return nil, err
	}
	return v.OwnedBy(c.owners), nil
}

// MappedOwners are the ids that other tools' containers in the store have outside of
// their user namespaces.
func (s *Store) MappedOwners() (Owners, error) {
	all, err := s.store.Containers()
	if err != nil {
		return Owners{}, fmt.Errorf("list containers: %w", err)
	}
	var o Owners
	for _, c := range all {
		for _, m := range c.UIDMap {
			o.UIDs = append(o.UIDs, IDRange{uint32(m.ContainerID), uint32(m.HostID), uint32(m.Size)})
		}
		for _, m := range c.GIDMap {
			o.GIDs = append(o.GIDs, IDRange{uint32(m.ContainerID), uint32(m.HostID), uint32(m.Size)})
		}
	}
	return o, nil
}
