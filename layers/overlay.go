package layers

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"go.podman.io/storage"
	graphdriver "go.podman.io/storage/drivers"
	"go.podman.io/storage/pkg/archive"
	"golang.org/x/sys/unix"
)

// overlayXattr returns the prefix of overlayfs' own attributes here.
func (s *Store) overlayXattr() string {
	if Rootless() {
		return "user.overlay."
	}
	return "trusted.overlay."
}

// overlayArea is a staging directory of the storage library. It is in the
// layout that the library renames into a layer, and swept by any user of the
// store once its process is gone:
//
//	staging.lock   locked by us
//	dir            the upper directory
//	work, empty, merged
type overlayArea struct {
	s       *Store
	out     graphdriver.DriverWithDifferOutput
	tar     archive.TarOptions // how to unpack here
	staging string
	once    sync.Once
}

// stagingArea is a Differ that only asks where the staging directory is. The
// library expects it to be filled when ApplyDiff returns; in fact it looks at
// it not before ApplyStagedLayer.
type stagingArea struct {
	dir string
	tar archive.TarOptions
}

func (d *stagingArea) ApplyDiff(_ string, tar *archive.TarOptions, o *graphdriver.DifferOptions) (graphdriver.DriverWithDifferOutput, error) {
	d.dir, d.tar = o.StagingDirectory, *tar
	return graphdriver.DriverWithDifferOutput{}, nil
}

func (d *stagingArea) Close() error { return nil }

// stagingTries bounds the retries when somebody sweeps a new staging directory
// before the library has locked it.
const stagingTries = 5

func (s *Store) newOverlayArea() (area, error) {
	driver, ok := s.driver.(graphdriver.DriverWithDiffer)
	if !ok {
		return nil, fmt.Errorf("storage driver %s: %w", s.DriverName(), errors.ErrUnsupported)
	}
	var err error
	for range stagingTries {
		var d stagingArea
		var out graphdriver.DriverWithDifferOutput
		if out, err = driver.ApplyDiffWithDiffer(nil, &d); err != nil {
			if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EACCES) {
				continue
			}
			return nil, err
		}
		a := &overlayArea{s: s, out: out, tar: d.tar, staging: d.dir}
		ownAreas.Store(a.staging, nil)
		if err = a.furnish(); err == nil {
			return a, nil
		}
		err = errors.Join(err, a.remove())
		if !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	return nil, err
}

// furnish makes what an overlay mount needs beside the upper directory. The error
// answers fs.ErrNotExist if somebody has swept the staging directory.
func (a *overlayArea) furnish() error {
	for _, name := range []string{"work", "empty"} {
		if err := os.Mkdir(filepath.Join(a.staging, name), 0o700); err != nil {
			return err
		}
	}
	_, err := os.Lstat(a.upper())
	return err
}

func (a *overlayArea) upper() string { return a.out.Target }

func (a *overlayArea) rootfs(lower []dir) Rootfs {
	r := Rootfs{
		Upper:   a.upper(),
		Work:    filepath.Join(a.staging, "work"),
		Options: a.s.mountOptions(),
	}
	for _, d := range lower {
		path := d.path
		if d.file != nil {
			path = procPath(d.file)
		}
		r.Lower = append(r.Lower, path)
		r.LowerFiles = append(r.LowerFiles, d.file)
	}
	if len(lower) == 0 {
		r.Lower, r.LowerFiles = []string{filepath.Join(a.staging, "empty")}, []*os.File{nil}
	}
	return r
}

func (a *overlayArea) stream(ctx context.Context, sn *Snapshot) (_ *stream, err error) {
	upper, err := dir{path: a.upper()}.open()
	if err != nil {
		return nil, err
	}
	defer upper.Close()
	lowers, err := openDirs(sn.lower)
	if err != nil {
		return nil, err
	}
	defer closeFiles(lowers)
	w, err := newStreamWriter(nil)
	if err != nil {
		return nil, err
	}
	defer w.close()
	c := changes{w: w, root: sn.root, xattr: a.s.overlayXattr(), limit: sn.limit, lowers: lowers, links: make(map[inode]string), walk: walkUpper(upper, false)}
	if err := c.write(ctx); err != nil {
		return nil, err
	}
	return w.finish()
}

func (a *overlayArea) commit(id, parent string, st *stream) error {
	st2, err := os.Stat(a.upper())
	if err != nil {
		return err
	}
	mode := st2.Mode()
	a.out.UncompressedDigest, a.out.Size = st.digest, st.size
	a.out.CompressedDigest = st.blob.Digest
	a.out.UIDs, a.out.GIDs = st.uids, st.gids
	a.out.TarSplit, a.out.RootDirMode = st.split, &mode
	st.split = nil // the store closes it
	_, err = a.s.store.ApplyStagedLayer(storage.ApplyStagedLayerOptions{ID: id, ParentLayer: parent, DiffOutput: &a.out})
	return err
}

func (a *overlayArea) remove() (err error) {
	a.once.Do(func() {
		err = a.s.driver.(graphdriver.DriverWithDiffer).CleanupStagingDirectory(a.out.Target)
		ownAreas.Delete(a.staging)
	})
	return err
}

// mountOptions returns the overlay options for snapshots: nothing that an upper
// directory in tar form could not say (redirects, metadata-only copies), and no
// flushing of what a crash would make us throw away anyway.
func (s *Store) mountOptions() []string {
	s.mountOnce.Do(func() {
		want := []string{"volatile", "index=off", "metacopy=off", "redirect_dir=off"}
		if Rootless() {
			// userxattr refuses redirect_dir and implies "nofollow".
			want = []string{"userxattr", "volatile", "index=off", "metacopy=off"}
		}
		s.mounts = acceptedOptions(want)
	})
	return append([]string(nil), s.mounts...)
}

// acceptedOptions drops the options that the kernel's overlayfs does not know.
// It asks without mounting. Kernels before 6.5 look at options only when a
// mount is made; for them the well known ones stay.
func acceptedOptions(want []string) []string {
	fd, err := unix.Fsopen("overlay", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return want
	}
	defer unix.Close(fd)
	var accepted []string
	for _, option := range want {
		if key, value, ok := strings.Cut(option, "="); ok {
			err = unix.FsconfigSetString(fd, key, value)
		} else {
			err = unix.FsconfigSetFlag(fd, key)
		}
		if err == nil {
			accepted = append(accepted, option)
		}
	}
	return accepted
}

// layerDirs returns the directories that make up a layer, top first.
func (s *Store) layerDirs(id string) ([]dir, error) {
	if id == "" {
		return nil, nil
	}
	if _, err := s.Layer(id); err != nil {
		return nil, err
	}
	dirs, err := s.driverDirs(id)
	if err != nil {
		return nil, fmt.Errorf("layer %s: %w", id, err)
	}
	return dirs, nil
}

// driverDirs returns the directories that make up what the driver calls id, top
// first. The error answers fs.ErrNotExist when there is none.
func (s *Store) driverDirs(id string) ([]dir, error) {
	if !s.overlay {
		path, err := s.driver.Get(id, graphdriver.MountOpts{})
		if err != nil {
			return nil, err
		}
		return []dir{{path: path}}, nil
	}
	md, err := s.driver.Metadata(id)
	if err != nil {
		return nil, err
	}
	dirs := []dir{{path: md["UpperDir"]}}
	if md["LowerDir"] != "" {
		for path := range strings.SplitSeq(md["LowerDir"], ":") {
			dirs = append(dirs, dir{path: path})
		}
	}
	return dirs, nil
}
