package runner

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"cooper/run/internal/idmap"
)

// owner is a container's own user namespace. It lasts over restarts. The methods may
// be called with nil, for a container without one.
type owner struct {
	namespaces *idmap.Namespaces
	uids, gids []specs.LinuxIDMapping
}

// makeUserNS makes the user namespace that the request asks for, with the network
// namespace, so that the container's root has rights over that, or opens the one that
// is to be joined.
func (m *monitor) makeUserNS() (err error) {
	run := &m.req.Run
	if len(run.UIDs) == 0 {
		return nil
	}
	list := run.Spec.Linux.Namespaces
	i := slices.IndexFunc(list, func(n specs.LinuxNamespace) bool { return n.Type == specs.UserNamespace })
	if i < 0 {
		return nil
	}
	o := &owner{uids: run.UIDs, gids: run.GIDs}
	if list[i].Path == "" {
		o.namespaces, err = idmap.Make(run.UIDs, run.GIDs, m.req.Network != nil)
	} else {
		o.namespaces = new(idmap.Namespaces)
		o.namespaces.User, err = os.Open(list[i].Path)
	}
	if err != nil {
		return fmt.Errorf("user namespace: %w", err)
	}
	// By its number: for libcontainer's processes "self" is another one.
	list[i].Path = fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), o.namespaces.User.Fd())
	m.owner = o
	return m.r.reachable(run.Spec.Mounts)
}

func (o *owner) close() {
	if o != nil {
		_ = o.namespaces.Close() // nothing was written
	}
}

// outside is the owner that this process sees.
func (o *owner) outside(uid, gid uint32) (int, int) {
	if o == nil {
		return int(uid), int(gid)
	}
	return idmap.Outside(o.uids, uid), idmap.Outside(o.gids, gid)
}

// giveStreams gives pipes to the user in the container, who may open them by their
// names.
func (o *owner) giveStreams(streams []*os.File, uid uint32) {
	if o == nil {
		return
	}
	for _, f := range streams {
		var st unix.Stat_t
		if unix.Fstat(int(f.Fd()), &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFIFO && st.Mode&unix.S_IFMT != unix.S_IFSOCK {
			continue
		}
		_ = f.Chown(idmap.Outside(o.uids, uid), -1) // else they are used without names
	}
}

// shelters are directories that a tmpfs may hide from this process and its containers.
var shelters = []string{"/mnt", "/media", "/srv", "/opt", "/boot", "/root", "/home"}

// reachable makes the state directory one that the container's root can get to, which
// has no rights over a user's private directories: where it is not, it is a tmpfs on
// another directory, from which nothing is mounted.
func (r *runner) reachable(mounts []specs.Mount) error {
	if searchable(filepath.Dir(r.dir)) {
		return nil
	}
	for _, dir := range shelters {
		if !searchable(filepath.Dir(dir)) || slices.ContainsFunc(mounts, func(m specs.Mount) bool { return m.Type == "bind" && within(m.Source, dir) }) {
			continue
		}
		if st, err := os.Lstat(dir); err != nil || !st.IsDir() {
			continue
		}
		if err := unix.Mount(r.dir, dir, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("mount on %s: %w", dir, err)
		}
		if err := unix.Mount("", dir, "", unix.MS_PRIVATE, ""); err != nil {
			return fmt.Errorf("mount on %s: %w", dir, err)
		}
		r.dir = dir
		return nil
	}
	return fmt.Errorf("the directory %s is private, and things are mounted from all of %v: set XDG_RUNTIME_DIR to another one", r.dir, shelters)
}

// searchable reports whether everybody may go through dir and those above it.
func searchable(dir string) bool {
	for {
		st, err := os.Stat(dir)
		if err != nil || st.Mode().Perm()&0o001 == 0 {
			return false
		}
		if dir == "/" {
			return true
		}
		dir = filepath.Dir(dir)
	}
}

// within reports whether path is dir or below it.
func within(path, dir string) bool {
	rel, err := filepath.Rel(dir, path)
	return err == nil && (rel == "." || filepath.IsLocal(rel))
}

// makeBottom makes the lower directory of mount points.
func (r *rootfs) makeBottom() error {
	if err := makeStubs(r.bottom, r.stubs); err != nil {
		return err
	}
	if r.owner == nil || r.req.MapLower || len(r.req.Lower) == 0 {
		return nil
	}
	uid, gid := r.owner.outside(0, 0)
	return idmap.Adopt(r.bottom, r.req.Lower[0], uid, gid)
}

// mapLower returns the lower directories as they are to be mounted, and those of data.
func (r *rootfs) mapLower() (dirs, data []*os.File, err error) {
	dirs = r.lower
	if r.req.MapLower && r.owner != nil {
		var unmount func()
		dirs, unmount, err = idmap.Mount(r.lower, r.owner.namespaces.User, filepath.Join(r.dir, "lower"))
		r.lower, r.unmap = append(slices.Clone(r.lower), dirs...), unmount
		if err != nil {
			return nil, nil, err
		}
	}
	for _, path := range r.req.Data {
		f, err := openDir(path)
		if err != nil {
			return nil, nil, err
		}
		r.lower = append(r.lower, f)
		data = append(data, f)
	}
	return dirs, data, nil
}

// closeLower lets go of the lower directories.
func (r *rootfs) closeLower() {
	for _, f := range r.lower {
		f.Close()
	}
	r.lower = nil
	if r.unmap != nil {
		r.unmap()
		r.unmap = nil
	}
}
