package runner

import (
	"errors"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"cooper/run/internal/wire"
)

// stubTime is every stub's modification time: should a parent directory be copied
// into a layer, it is the same in every build.
var stubTime = time.Unix(0, 0)

// makeStubs makes a directory that holds the stubs and their parents.
func makeStubs(dir string, stubs []wire.Stub) error {
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	dirs := map[string]bool{}
	for _, s := range stubs {
		full := filepath.Join(dir, s.Path)
		parent := filepath.Dir(full)
		if s.Dir {
			parent = full
		}
		if err := os.MkdirAll(parent, 0o755); err != nil {
			return err
		}
		for p := parent; p != dir && !dirs[p]; p = filepath.Dir(p) {
			dirs[p] = true
		}
		if s.Dir {
			continue
		}
		if err := os.WriteFile(full, nil, 0o644); err != nil {
			return err
		}
		if err := os.Chtimes(full, stubTime, stubTime); err != nil {
			return err
		}
	}
	for d := range dirs {
		if err := os.Chtimes(d, stubTime, stubTime); err != nil {
			return err
		}
	}
	return nil
}

// makeMissing makes the stubs that are not seen below root and remembers them.
func (r *rootfs) makeMissing(root string) error {
	for _, s := range r.stubs {
		if err := r.makeOne(root, s.Path, s.Dir); err != nil {
			return err
		}
	}
	return nil
}

// makeOne makes one stub after its parents. The paths hold no symbolic links, and
// no process of the container runs yet, so that plain paths are safe.
func (r *rootfs) makeOne(root, name string, dir bool) error {
	full := filepath.Join(root, name)
	if _, err := os.Lstat(full); err == nil || !errors.Is(err, os.ErrNotExist) {
		return err
	}
	parent := path.Dir(name)
	if parent != "." {
		if err := r.makeOne(root, parent, true); err != nil {
			return err
		}
	}
	r.noteCopies(root, parent)
	restore := keepTimes(filepath.Join(root, parent))
	var err error
	if dir {
		err = os.Mkdir(full, 0o755)
	} else {
		err = os.WriteFile(full, nil, 0o644)
	}
	if err != nil {
		return err
	}
	if uid, gid := r.owner.outside(0, 0); uid != 0 || gid != 0 {
		if err := os.Chown(full, uid, gid); err != nil {
			return err
		}
	}
	r.made = append(r.made, wire.Stub{Path: name, Dir: dir})
	return restore()
}

// copiedDir is a directory that overlayfs copies up because a stub is made in it.
type copiedDir struct {
	name   string
	before unix.Stat_t
}

// noteCopies remembers which of dir and its parents are not in the upper directory.
func (r *rootfs) noteCopies(root, dir string) {
	if r.req.Dir != "" {
		return
	}
	for ; dir != "."; dir = path.Dir(dir) {
		var st unix.Stat_t
		if unix.Lstat(filepath.Join(r.req.Upper, dir), &st) == nil || unix.Lstat(filepath.Join(root, dir), &st) != nil {
			return
		}
		r.copied = append(r.copied, copiedDir{dir, st})
	}
}

// removeCopies removes the directories that were copied up for stubs only: empty
// ones with the owner, mode and time that they had. The layers below still have
// them.
func (r *rootfs) removeCopies() {
	slices.SortFunc(r.copied, func(a, b copiedDir) int { return strings.Compare(b.name, a.name) })
	for _, c := range r.copied {
		var st unix.Stat_t
		full, was := filepath.Join(r.req.Upper, c.name), c.before
		if unix.Lstat(full, &st) != nil || st.Mode != was.Mode || st.Uid != was.Uid || st.Gid != was.Gid || st.Mtim != was.Mtim {
			continue
		}
		restore := keepTimes(filepath.Dir(full))
		if unix.Rmdir(full) == nil {
			restore()
		}
	}
	r.copied = nil
}

// removeMade removes the stubs that makeMissing made, last first, from the upper
// directory, and leaves the times of their parents as the container left them. A
// directory that is not empty any more has become the container's.
func (r *rootfs) removeMade() error {
	base := r.req.Upper
	if r.req.Dir != "" {
		base = r.req.Dir
	}
	var errs []error
	for i := len(r.made) - 1; i >= 0; i-- {
		s := r.made[i]
		full := filepath.Join(base, s.Path)
		var st unix.Stat_t
		if unix.Lstat(full, &st) != nil || (!s.Dir && (st.Mode&unix.S_IFMT != unix.S_IFREG || st.Size != 0)) {
			continue
		}
		restore := keepTimes(filepath.Dir(full))
		err := os.Remove(full)
		if err != nil && !errors.Is(err, unix.ENOTEMPTY) {
			errs = append(errs, err)
		}
		errs = append(errs, restore())
	}
	r.made = nil
	r.removeCopies()
	return errors.Join(errs...)
}

// keepTimes returns a func that gives a directory its present times back.
func keepTimes(dir string) func() error {
	var st unix.Stat_t
	if err := unix.Lstat(dir, &st); err != nil {
		return func() error { return err }
	}
	return func() error {
		return unix.UtimesNanoAt(unix.AT_FDCWD, dir, []unix.Timespec{st.Atim, st.Mtim}, unix.AT_SYMLINK_NOFOLLOW)
	}
}
