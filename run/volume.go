package run

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// ErrNoVolume is wrapped by the error of a lookup of a volume that does not
// exist.
var ErrNoVolume = errors.New("no such volume")

// ErrVolumeInUse is wrapped by the error of RemoveVolume when a container has the
// volume.
var ErrVolumeInUse = errors.New("volume is in use")

// Volume is a directory that outlives the containers it is mounted in.
type Volume struct {
	Name    string
	Created time.Time
	// Driver is "local".
	Driver string
	Labels map[string]string `json:",omitempty"`
	// Options are those of mount(8): type, device and o. With them the volume
	// is not its own directory but what they name.
	Options map[string]string `json:",omitempty"`
	// Anonymous volumes were made for a container without a name.
	Anonymous bool `json:",omitempty"`
	// Mountpoint is the volume's own directory.
	Mountpoint string `json:"-"`
}

// VolumeOptions say how a volume is made.
type VolumeOptions struct {
	Labels map[string]string
	// Options are type, device and o, as in Volume.
	Options map[string]string

	fill func(dir string) error // makes an empty volume's first content
}

// anonymousLabel marks anonymous volumes, as docker does.
const anonymousLabel = "com.docker.volume.anonymous"

// CheckVolumeName refuses what docker refuses as a volume's name, see IsName.
func CheckVolumeName(name string) error {
	if !IsName(name) {
		return fmt.Errorf("%q includes invalid characters for a local volume name, only \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed", name)
	}
	return nil
}

// Of a volume's directory, Store.Dir("volumes")/NAME.
const (
	volumeFile = "volume.json"
	volumeDir  = "_data"
	// unfinished begins the name of a directory that is being made or removed.
	unfinished = ".tmp-"
)

// CreateVolume makes a volume, or returns the one there is by that name, if it has
// the same options. "" is a new name, for an anonymous volume.
func (cs *Containers) CreateVolume(name string, o VolumeOptions) (Volume, error) {
	v := Volume{Name: name, Created: time.Now(), Driver: "local", Labels: o.Labels, Options: o.Options}
	if name == "" {
		v.Name, v.Anonymous = newContainerID(), true
		v.Labels = map[string]string{anonymousLabel: ""}
		maps.Copy(v.Labels, o.Labels)
	}
	if err := CheckVolumeName(v.Name); err != nil {
		return Volume{}, fmt.Errorf("create %s: %w", v.Name, err)
	}
	if err := checkVolumeOptions(o.Options); err != nil {
		return Volume{}, fmt.Errorf("create %s: %w", v.Name, err)
	}
	made := false
	err := cs.lockedVolumes(unix.LOCK_SH, func() (err error) {
		made, err = cs.makeVolume(&v, o.fill)
		return err
	})
	if err != nil {
		return Volume{}, fmt.Errorf("create %s: %w", v.Name, err)
	}
	if made {
		return v, nil
	}
	there, err := cs.Volume(name)
	if err != nil {
		return there, err
	}
	if len(o.Options) > 0 && !sameOptions(there.Options, o.Options) {
		return there, fmt.Errorf("create %s: a volume of that name exists with other options", name)
	}
	return there, there.fillEmpty(o.fill)
}

// fillEmpty fills a volume that is there but empty.
func (v Volume) fillEmpty(fill func(dir string) error) error {
	if fill == nil || len(v.Options) > 0 {
		return nil
	}
	lock, err := lockDir(filepath.Dir(v.Mountpoint)) // one at a time
	if err != nil {
		return fmt.Errorf("fill volume %s: %w", v.Name, err)
	}
	defer lock.Close()
	entries, err := os.ReadDir(v.Mountpoint)
	if err == nil && len(entries) == 0 {
		err = fill(v.Mountpoint)
	}
	if err != nil {
		return fmt.Errorf("fill volume %s: %w", v.Name, err)
	}
	return nil
}

// makeVolume makes the directory of v: aside, then by one rename, so that a volume
// is there as a whole or not at all. It reports whether none was there before.
func (cs *Containers) makeVolume(v *Volume, fill func(dir string) error) (made bool, err error) {
	all, err := cs.store.Dir("volumes")
	if err != nil {
		return false, err
	}
	dir := filepath.Join(all, v.Name)
	v.Mountpoint = filepath.Join(dir, volumeDir)
	if _, err := os.Stat(dir); err == nil {
		return false, nil
	}
	aside, err := os.MkdirTemp(all, unfinished)
	if err != nil {
		return false, err
	}
	defer os.RemoveAll(aside)
	if err := os.Mkdir(filepath.Join(aside, volumeDir), 0o755); err != nil {
		return false, err
	}
	if err := os.Chmod(filepath.Join(aside, volumeDir), 0o755); err != nil { // whatever the umask
		return false, err
	}
	if fill != nil && len(v.Options) == 0 {
		if err := fill(filepath.Join(aside, volumeDir)); err != nil {
			return false, err
		}
	}
	if err := writeJSON(filepath.Join(aside, volumeFile), v); err != nil {
		return false, err
	}
	if err := os.Chmod(aside, 0o711); err != nil {
		return false, err
	}
	err = unix.Renameat2(unix.AT_FDCWD, aside, unix.AT_FDCWD, dir, unix.RENAME_NOREPLACE)
	if err == unix.EEXIST {
		return false, nil
	}
	return err == nil, err
}

// checkVolumeOptions knows what the local driver of docker knows.
func checkVolumeOptions(options map[string]string) error {
	for key := range options {
		if !slices.Contains([]string{"type", "device", "o"}, key) {
			return fmt.Errorf("invalid option: %q: want type, device or o", key)
		}
	}
	if len(options) > 0 && options["type"] == "" && options["o"] == "" {
		return errors.New("missing required option: \"type\"")
	}
	if len(options) > 0 && options["type"] != "tmpfs" && options["device"] == "" {
		return errors.New("missing device in volume options")
	}
	return nil
}

func sameOptions(a, b map[string]string) bool {
	for _, key := range []string{"type", "device", "o"} {
		if a[key] != b[key] {
			return false
		}
	}
	return true
}

// Volume finds a volume by name. The error wraps ErrNoVolume if there is none.
func (cs *Containers) Volume(name string) (Volume, error) {
	all, err := cs.store.Dir("volumes")
	if err != nil {
		return Volume{}, err
	}
	var v Volume
	if CheckVolumeName(name) != nil {
		return v, fmt.Errorf("%w: %s", ErrNoVolume, name)
	}
	err = readJSON(filepath.Join(all, name, volumeFile), &v)
	if errors.Is(err, fs.ErrNotExist) {
		return v, fmt.Errorf("%w: %s", ErrNoVolume, name)
	}
	if err != nil {
		return v, fmt.Errorf("volume %s: %w", name, err)
	}
	v.Mountpoint = filepath.Join(all, name, volumeDir)
	return v, nil
}

// Volumes lists all volumes by name.
func (cs *Containers) Volumes() ([]Volume, error) {
	all, err := cs.store.Dir("volumes")
	if err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(all)
	if err != nil {
		return nil, fmt.Errorf("list volumes: %w", err)
	}
	var list []Volume
	for _, e := range entries {
		v, err := cs.Volume(e.Name())
		if errors.Is(err, ErrNoVolume) {
			continue // being made or removed
		}
		if err != nil {
			return nil, err
		}
		list = append(list, v)
	}
	return list, nil
}

// RemoveVolume removes a volume with its content. The error wraps ErrVolumeInUse
// if a container has it, running or not, and ErrNoVolume if there is none.
func (cs *Containers) RemoveVolume(name string) error {
	v, err := cs.Volume(name)
	if err != nil {
		return err
	}
	return cs.lockedVolumes(unix.LOCK_EX, func() error {
		users, err := cs.VolumeUsers()
		if err != nil {
			return err
		}
		if ids := users[name]; len(ids) > 0 {
			return fmt.Errorf("remove %s: %w - [%s]", name, ErrVolumeInUse, strings.Join(ids, ", "))
		}
		return v.remove()
	})
}

// remove takes the volume out of sight by one rename and then removes it.
func (v Volume) remove() error {
	dir := filepath.Dir(v.Mountpoint)
	aside := filepath.Join(filepath.Dir(dir), unfinished+newContainerID()[:16])
	if err := os.Rename(dir, aside); err != nil {
		return fmt.Errorf("remove volume %s: %w", v.Name, err)
	}
	if err := os.RemoveAll(aside); err != nil {
		return fmt.Errorf("remove volume %s: %w", v.Name, err)
	}
	return nil
}

// PruneOptions choose what PruneVolumes removes.
type PruneOptions struct {
	// Keep, if not nil, says which volumes are left although nothing uses them.
	Keep func(Volume) bool
}

// PruneVolumes removes the volumes that no container has, and returns them with
// the bytes that were freed.
func (cs *Containers) PruneVolumes(ctx context.Context, o PruneOptions) (removed []Volume, freed int64, err error) {
	list, err := cs.Volumes()
	if err != nil {
		return nil, 0, err
	}
	err = cs.lockedVolumes(unix.LOCK_EX, func() error {
		users, err := cs.VolumeUsers()
		if err != nil {
			return err
		}
		for _, v := range list {
			if err := context.Cause(ctx); err != nil {
				return err
			}
			if len(users[v.Name]) > 0 || o.Keep != nil && o.Keep(v) {
				continue
			}
			size, err := v.Size()
			if err != nil {
				return err
			}
			if err := v.remove(); err != nil {
				return err
			}
			removed, freed = append(removed, v), freed+size
		}
		return nil
	})
	return removed, freed, err
}

// Size is how many bytes the volume takes on disk.
func (v Volume) Size() (int64, error) {
	var size int64
	seen := make(map[[2]uint64]bool)
	err := filepath.WalkDir(v.Mountpoint, func(path string, _ fs.DirEntry, err error) error {
		var st unix.Stat_t
		if err == nil {
			err = unix.Lstat(path, &st)
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if id := [2]uint64{st.Dev, st.Ino}; err == nil && !seen[id] {
			seen[id] = st.Nlink > 1 && st.Mode&unix.S_IFMT != unix.S_IFDIR
			size += st.Blocks * 512
		}
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("size of volume %s: %w", v.Name, err)
	}
	return size, nil
}

// VolumeUsers returns the IDs of the containers that have a volume, by its name.
func (cs *Containers) VolumeUsers() (map[string][]string, error) {
	ids, err := cs.ids()
	if err != nil {
		return nil, err
	}
	users := make(map[string][]string)
	for _, id := range ids {
		c, err := cs.open(id)
		if errors.Is(err, ErrNoContainer) {
			continue // it is being made, or removed
		}
		if err != nil {
			return nil, err
		}
		for _, m := range c.opts().Mounts {
			if m.Type == "volume" && m.Name != "" {
				users[m.Name] = append(users[m.Name], id)
			}
		}
	}
	return users, nil
}

// lockedVolumes calls f with a lock: LOCK_EX to remove volumes, LOCK_SH to make
// them, also for a container that nobody can see yet. Nobody is at work on what is
// unfinished when all are locked out: then it is removed.
func (cs *Containers) lockedVolumes(how int, f func() error) error {
	all, err := cs.store.Dir("volumes")
	if err != nil {
		return err
	}
	lock, err := os.Open(all)
	if err != nil {
		return err
	}
	defer lock.Close()
	for err = unix.EINTR; err == unix.EINTR; {
		err = unix.Flock(int(lock.Fd()), how)
	}
	if err != nil {
		return fmt.Errorf("lock volumes: %w", err)
	}
	if how == unix.LOCK_EX {
		if err := sweepVolumes(all); err != nil {
			return err
		}
	}
	return f()
}

// sweepVolumes removes what processes that were killed have left.
func sweepVolumes(all string) error {
	entries, err := os.ReadDir(all)
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), unfinished) {
			err = errors.Join(err, os.RemoveAll(filepath.Join(all, e.Name())))
		}
	}
	return err
}

// source is what is mounted for the volume, and the type and options for it.
func (v Volume) source() (kind, source string, options []string) {
	if len(v.Options) == 0 {
		return "bind", v.Mountpoint, nil
	}
	for o := range strings.SplitSeq(v.Options["o"], ",") {
		if o != "" {
			options = append(options, o)
		}
	}
	kind = cmp.Or(v.Options["type"], "none")
	if slices.Contains(options, "bind") || slices.Contains(options, "rbind") || kind == "none" {
		kind = "bind"
	}
	return kind, cmp.Or(v.Options["device"], kind), options
}
