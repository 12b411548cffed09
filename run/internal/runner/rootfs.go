package runner

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"cooper/run/internal/idmap"
	"cooper/run/internal/wire"
)

// rootfs mounts a container's root file system and takes it away again without a
// trace in its upper directory.
//
// A container needs mount points (dev, proc, etc/hosts, ...) that an image may
// lack. They must not become part of a layer, so they come from one more lower
// directory at the very bottom, which lies beside the overlay's work directory: on
// the layers' file system, because overlayfs shows one device number only if all
// layers share theirs. Where it is not seen (a whiteout or an opaque directory
// above it hides it, or there is no overlay) the mount points are made in the
// mounted file system and removed from the upper directory afterwards.
type rootfs struct {
	dir   string // of the container
	path  string // where it is mounted: an empty directory
	req   *wire.Rootfs
	files []*os.File
	stubs []wire.Stub
	owner *owner // of a user namespace of its own; nil without

	bottom  string // the stubs' lower directory
	lower   []*os.File
	unmap   func() // takes mounts of lower directories away; may be nil
	mounted bool
	made    []wire.Stub // in the upper directory, to be removed
	copied  []copiedDir // copied up for them
}

func (r *rootfs) mount() error {
	if r.req.Dir != "" {
		return r.bindDir()
	}
	r.bottom = filepath.Join(filepath.Dir(r.req.Work), "stubs-"+filepath.Base(r.dir)+"-"+strconv.Itoa(os.Getpid()))
	if err := r.makeBottom(); err != nil {
		return err
	}
	opts, err := r.options()
	if err != nil {
		return err
	}
	err = unix.Mount("overlay", r.path, "overlay", 0, opts)
	r.closeLower()
	if err != nil {
		return fmt.Errorf("overlay on %d layers: %w", len(r.req.Lower), err)
	}
	r.mounted = true
	return r.makeMissing(r.path)
}

// bindDir uses a plain directory. It is bound, because a root must be a mount.
func (r *rootfs) bindDir() error {
	if err := unix.Mount(r.req.Dir, r.path, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("bind %s: %w", r.req.Dir, err)
	}
	r.mounted = true
	return r.makeMissing(r.path)
}

// options opens the lower directories and returns overlayfs' option string. The
// directories are named by descriptor: short, so that hundreds of layers fit in the
// page that mount(2) takes, and safe from being renamed.
func (r *rootfs) options() (string, error) {
	for i, path := range r.req.Lower {
		var same *os.File
		if i < len(r.req.LowerFile) && r.req.LowerFile[i] >= 0 && r.req.LowerFile[i] < len(r.files) {
			same = r.files[r.req.LowerFile[i]]
		}
		f, err := openLower(path, same)
		if err != nil {
			return "", err
		}
		r.lower = append(r.lower, f)
	}
	bottom, err := openDir(r.bottom)
	if err != nil {
		return "", err
	}
	r.lower = append(r.lower, bottom)
	dirs, data, err := r.mapLower()
	if err != nil {
		return "", err
	}
	opts := append([]string{"lowerdir=" + idmap.LowerOption(dirs, data)}, r.req.Options...)
	if r.req.Upper != "" {
		opts = append(opts, "upperdir="+escape(r.req.Upper), "workdir="+escape(r.req.Work))
	}
	return strings.Join(opts, ","), nil
}

// escape protects what overlayfs' option parser would split.
func escape(path string) string {
	return strings.NewReplacer(`\`, `\\`, `,`, `\,`, `:`, `\:`).Replace(path)
}

func openDir(path string) (*os.File, error) {
	return os.OpenFile(path, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
}

// openLower opens a lower directory in this mount namespace. A descriptor of the
// Runtime's namespace cannot be mounted from here, but it tells the present path
// of a directory that may be renamed at any time; opening that path is tried until
// it is the same directory.
func openLower(path string, same *os.File) (*os.File, error) {
	if same == nil {
		return openDir(path)
	}
	var want, got unix.Stat_t
	if err := unix.Fstat(int(same.Fd()), &want); err != nil {
		return nil, os.NewSyscallError("fstat", err)
	}
	link := "/proc/self/fd/" + strconv.Itoa(int(same.Fd()))
	var lastErr error
	for range 100 {
		now, err := os.Readlink(link)
		if err != nil {
			return nil, err
		}
		f, err := openDir(now)
		if err != nil {
			lastErr = err
			continue
		}
		if err := unix.Fstat(int(f.Fd()), &got); err == nil && got.Dev == want.Dev && got.Ino == want.Ino {
			return f, nil
		}
		f.Close()
		lastErr = fmt.Errorf("%s is another directory now", now)
	}
	return nil, fmt.Errorf("layer directory %s: %w", path, lastErr)
}

// unmount undoes mount. It may be called after mount failed.
func (r *rootfs) unmount() error {
	r.closeLower()
	var errs []error
	if r.mounted {
		// The container's processes are gone; a busy mount is somebody
		// else's short look at it (a virus scanner, a shell).
		err := unix.Unmount(r.path, unix.UMOUNT_NOFOLLOW)
		if err == unix.EBUSY {
			err = unix.Unmount(r.path, unix.UMOUNT_NOFOLLOW|unix.MNT_DETACH)
		}
		errs = append(errs, os.NewSyscallError("unmount", err))
	}
	if r.bottom != "" {
		errs = append(errs, os.RemoveAll(r.bottom))
	}
	errs = append(errs, r.removeMade(), r.cleanWork())
	return errors.Join(errs...)
}

// cleanWork empties the work directory: a volatile overlay refuses to be mounted
// on one that was used before.
func (r *rootfs) cleanWork() error {
	if r.req.Work == "" || !r.mounted {
		return nil
	}
	return os.RemoveAll(filepath.Join(r.req.Work, "work"))
}

// bindFile is the mount of a file of ours. Docker's are writable too: a program
// may change its own /etc/hosts for the time of the run.
func bindFile(source, destination string) specs.Mount {
	return specs.Mount{
		Type: "bind", Source: source, Destination: destination,
		Options: []string{"bind", "rprivate"},
	}
}
