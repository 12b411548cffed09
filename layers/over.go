package layers

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// ErrNoOverlay is wrapped by the error of what needs overlayfs when the store's
// driver is another one.
var ErrNoOverlay = errors.New("the storage driver is not overlay")

// LayerRootfs says how to mount the layer with this ID and all below it, for
// reading only: with vfs it is the layer's own directory. What overlayfs needs
// beside the layer is made in the directory to, which is made if it is missing and
// has to be on a file system that overlayfs can write on, as those of Dir are.
func (s *Store) LayerRootfs(id, to string) (Rootfs, error) {
	dirs, err := s.layerDirs(id)
	if err != nil {
		return Rootfs{}, err
	}
	if len(dirs) == 0 {
		return Rootfs{}, errors.New("nothing to mount: the image has no layers")
	}
	if !s.overlay {
		return Rootfs{Dir: dirs[0].path}, nil
	}
	return s.over(dirs, to)
}

// OverDir says how to mount a directory of the host in a way that keeps what is
// written in the directory to, as LayerRootfs does. The error wraps ErrNoOverlay
// where that can't be done.
func (s *Store) OverDir(lower, to string) (Rootfs, error) {
	if !s.overlay {
		return Rootfs{}, fmt.Errorf("mount over %s: %w", lower, ErrNoOverlay)
	}
	return s.over([]dir{{path: lower}}, to)
}

func (s *Store) over(lower []dir, to string) (Rootfs, error) {
	r := Rootfs{Upper: filepath.Join(to, "upper"), Work: filepath.Join(to, "work"), Options: s.mountOptions()}
	if err := os.RemoveAll(r.Work); err != nil { // a volatile overlay wants it new
		return Rootfs{}, err
	}
	for _, d := range lower {
		r.Lower = append(r.Lower, d.path)
	}
	r.LowerFiles = make([]*os.File, len(lower))
	if err := os.MkdirAll(r.Work, 0o700); err != nil {
		return Rootfs{}, err
	}
	if err := os.Mkdir(r.Upper, 0o755); errors.Is(err, fs.ErrExist) {
		return r, nil
	} else if err != nil {
		return Rootfs{}, err
	}
	root, err := s.describeRoot(lower[0])
	if err != nil {
		return Rootfs{}, err
	}
	return r, root.giveTo(r.Upper)
}
