package layers

import (
	"fmt"
	"os"
	"path"

	"golang.org/x/sys/unix"
)

// Link makes name, a file written to the snapshot before, a hard link to
// target, a regular file written to it before too. It is for links whose target
// came with an earlier Write; both paths are as in an Entry. A target that only
// a lower layer has answers errors.Is(err, fs.ErrNotExist).
func (sn *Snapshot) Link(target, name string) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("link /%s to /%s: %w", name, target, err)
		}
	}()
	sn.dropStream()
	root, err := unix.Open(sn.area.upper(), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(root)
	from, err := openBeneath(root, path.Dir(target), unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	defer unix.Close(from)
	to, err := openBeneath(root, path.Dir(name), unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	defer unix.Close(to)
	var st unix.Stat_t
	if err := unix.Fstatat(from, path.Base(target), &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		return os.ErrInvalid
	}
	if err := unix.Unlinkat(to, path.Base(name), 0); err != nil && err != unix.ENOENT {
		return err
	}
	return unix.Linkat(from, path.Base(target), to, path.Base(name), 0)
}
