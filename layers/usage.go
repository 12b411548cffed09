package layers

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"

	"go.podman.io/storage"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// Usage says what the parts of the store take on disk. All sizes are in bytes, as
// du counts them.
type Usage struct {
	// Images are all images, in the order of Store.Images.
	Images []ImageUsage
	// ImagesSize is what all layers of images and their documents take, each
	// counted once; ImagesFree what would be free without those images that no
	// container stands on.
	ImagesSize, ImagesFree int64
	// Containers are the sizes of the writable layers, by container ID.
	Containers map[string]int64
	// Cache are the layers that only the build cache keeps, and CacheSize what
	// they take with the cache's own files.
	Cache     []LayerUsage
	CacheSize int64
}

// ImageUsage is an image's part.
type ImageUsage struct {
	Image Image
	// Size is that of all its layers and documents; Shared is what other images
	// have too.
	Size, Shared int64
	// Containers stand on it.
	Containers int
}

// LayerUsage is a layer's part.
type LayerUsage struct {
	Layer Layer
	Size  int64
}

// Usage measures the store. It reads every directory in it.
func (s *Store) Usage(ctx context.Context) (Usage, error) {
	m := &meter{s: s, layers: make(map[string]*measured), usage: Usage{Containers: make(map[string]int64)}}
	if err := m.list(); err != nil {
		return Usage{}, fmt.Errorf("measure store: %w", err)
	}
	if err := m.measure(ctx); err != nil {
		return Usage{}, fmt.Errorf("measure store: %w", err)
	}
	if err := m.add(ctx); err != nil {
		return Usage{}, fmt.Errorf("measure store: %w", err)
	}
	return m.usage, nil
}

// measured is what is known of a layer.
type measured struct {
	layer  storage.Layer
	size   int64
	images int // that have it
	active int // of those, with containers
	owned  bool
}

// meter is one running Usage.
type meter struct {
	s          *Store
	layers     map[string]*measured
	containers []storage.Container
	images     []Image
	tops       map[string][]string // all top layers of an image
	users      map[string]int      // containers of an image
	usage      Usage
}

// list notes what there is and who has it.
func (m *meter) list() error {
	all, err := m.s.store.Layers()
	if err != nil {
		return err
	}
	for _, l := range all {
		m.layers[l.ID] = &measured{layer: l}
	}
	if m.containers, err = m.s.store.Containers(); err != nil {
		return err
	}
	if m.images, err = m.s.Images(); err != nil {
		return err
	}
	m.users = make(map[string]int)
	for _, c := range m.containers {
		m.users[c.ImageID]++
		if l := m.layers[c.LayerID]; l != nil {
			l.owned = true
		}
	}
	records, err := m.s.store.Images()
	if err != nil {
		return err
	}
	m.tops = make(map[string][]string)
	for _, r := range records {
		m.tops[r.ID] = append([]string{r.TopLayer}, r.MappedTopLayers...)
		for id := range m.chain(r.ID) {
			m.layers[id].images++
			if m.users[r.ID] > 0 {
				m.layers[id].active++
			}
		}
	}
	return nil
}

// chain returns the layers of an image.
func (m *meter) chain(image string) map[string]bool {
	chain := make(map[string]bool)
	for _, id := range m.tops[image] {
		for l := m.layers[id]; l != nil && !chain[id]; l = m.layers[id] {
			chain[id] = true
			id = l.layer.Parent
		}
	}
	return chain
}

// measure finds out how large the layers are.
func (m *meter) measure(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(runtime.GOMAXPROCS(0))
	for id, l := range m.layers {
		g.Go(func() (err error) {
			dir := m.s.layerHome(id)
			if l.size, err = diskUsage(ctx, dir); err != nil {
				return err
			}
			record, err := diskUsage(ctx, filepath.Join(m.s.Root(), m.s.DriverName()+"-layers", id+".tar-split.gz"))
			l.size += record
			return err
		})
	}
	return g.Wait()
}

// layerHome is the directory of all that the driver keeps of a layer.
func (s *Store) layerHome(id string) string {
	if s.overlay {
		return filepath.Join(s.Root(), "overlay", id)
	}
	return filepath.Join(s.Root(), s.DriverName(), "dir", id)
}

// add adds up.
func (m *meter) add(ctx context.Context) error {
	for _, l := range m.layers {
		switch {
		case l.images > 0:
			m.usage.ImagesSize += l.size
			if l.active == 0 {
				m.usage.ImagesFree += l.size
			}
		case !l.owned && !l.layer.ReadOnly:
			m.usage.Cache = append(m.usage.Cache, LayerUsage{Size: l.size, Layer: Layer{
				ID: l.layer.ID, Parent: l.layer.Parent, DiffID: l.layer.UncompressedDigest, Size: l.layer.UncompressedSize,
			}})
			m.usage.CacheSize += l.size
		}
	}
	slices.SortFunc(m.usage.Cache, func(a, b LayerUsage) int {
		return m.layers[b.Layer.ID].layer.Created.Compare(m.layers[a.Layer.ID].layer.Created)
	})
	for _, c := range m.containers {
		if l := m.layers[c.LayerID]; l != nil {
			m.usage.Containers[c.ID] = l.size
		}
	}
	for _, image := range m.images {
		documents, err := diskUsage(ctx, filepath.Join(m.s.Root(), m.s.DriverName()+"-images", image.ID))
		if err != nil {
			return err
		}
		u := ImageUsage{Image: image, Size: documents, Containers: m.users[image.ID]}
		for id := range m.chain(image.ID) {
			u.Size += m.layers[id].size
			if m.layers[id].images > 1 {
				u.Shared += m.layers[id].size
			}
		}
		m.usage.Images = append(m.usage.Images, u)
		m.usage.ImagesSize += documents
		if u.Containers == 0 {
			m.usage.ImagesFree += documents
		}
	}
	records, err := diskUsage(ctx, filepath.Join(m.s.Root(), "cooper", "cache"))
	m.usage.CacheSize += records
	return err
}

// DiskUsage returns how many bytes the file or directory at path takes on disk, as
// du counts them. What does not exist takes none, and what is removed meanwhile is
// not counted.
func DiskUsage(ctx context.Context, path string) (int64, error) { return diskUsage(ctx, path) }

func diskUsage(ctx context.Context, path string) (int64, error) {
	var size int64
	linked := make(map[inode]bool)
	err := filepath.WalkDir(path, func(path string, d fs.DirEntry, err error) error {
		var st unix.Stat_t
		if err == nil {
			err = context.Cause(ctx)
		}
		if err == nil {
			err = unix.Lstat(path, &st)
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		if !d.IsDir() && st.Nlink > 1 {
			if linked[inode{st.Dev, st.Ino}] {
				return nil
			}
			linked[inode{st.Dev, st.Ino}] = true
		}
		size += st.Blocks * 512
		return nil
	})
	return size, err
}

// errBusy says why the cache can not be pruned now.
var errBusy = fmt.Errorf("%w by a build or container at work: try again later", ErrInUse)

// PruneCache removes the build cache: all records, and the layers that no image and
// no container has. It returns how many layers went and how many bytes they took.
// The error wraps ErrInUse while a build is at work on the store, or a container in
// the foreground: what they stand on must not go.
func (s *Store) PruneCache(ctx context.Context) (removed int, freed int64, err error) {
	if err := s.forgetRecords(); err != nil {
		return 0, 0, fmt.Errorf("prune cache: %w", err)
	}
	usage, err := s.Usage(ctx)
	if err != nil {
		return 0, 0, err
	}
	above := make(map[string]int)
	for _, l := range usage.Cache {
		above[l.Layer.Parent]++
	}
	for left := usage.Cache; len(left) > 0; {
		var later []LayerUsage
		for _, l := range left {
			if above[l.Layer.ID] > 0 {
				later = append(later, l)
				continue
			}
			if err := s.store.DeleteLayer(l.Layer.ID); err != nil {
				return removed, freed, fmt.Errorf("prune cache: layer %s: %w", l.Layer.ID, err)
			}
			above[l.Layer.Parent]--
			removed++
			freed += l.Size
		}
		if len(later) == len(left) {
			return removed, freed, errors.New("prune cache: the layers stand on each other")
		}
		left = later
	}
	return removed, freed, nil
}

// forgetRecords removes all records while nobody is at work on the store, and makes
// sure that nobody has begun to be with what they said.
func (s *Store) forgetRecords() error {
	if busy, err := s.busy(); busy || err != nil {
		return cmp.Or(err, errBusy)
	}
	records, err := s.Records()
	if err != nil {
		return err
	}
	for _, r := range records {
		if err := s.DeleteRecord(r.Key); err != nil {
			return err
		}
	}
	busy, err := s.busy()
	if busy {
		return cmp.Or(err, errBusy)
	}
	return err
}

// busy reports whether somebody writes a snapshot: its directory is locked.
func (s *Store) busy() (bool, error) {
	places := []struct {
		dir, lock string
		try       func(fd int) error
	}{
		{filepath.Join(s.Root(), "overlay", "staging"), "staging.lock", tryRecordLock},
		{filepath.Join(s.Root(), "cooper", "areas"), "lock", tryFileLock},
	}
	for _, p := range places {
		entries, err := os.ReadDir(p.dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return false, err
		}
		for _, e := range entries {
			path := filepath.Join(p.dir, e.Name())
			if _, ours := ownAreas.Load(path); ours {
				return true, nil
			}
			f, err := os.OpenFile(filepath.Join(path, p.lock), os.O_RDWR, 0)
			if err != nil {
				continue
			}
			held := p.try(int(f.Fd())) != nil
			f.Close()
			if held {
				return true, nil
			}
		}
	}
	return false, nil
}
