package layers

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"path"
	"runtime"
	"sync/atomic"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// contentFile is a regular file opened for Write. It is lighter than an
// os.File: no poller and no finalizer, which 20,000 small files would notice.
type contentFile struct {
	fd int
}

func (f *contentFile) Read(p []byte) (int, error) {
	n, err := read(f.fd, p)
	if err == nil && n == 0 && len(p) > 0 {
		err = io.EOF
	}
	return n, err
}

// Fd lets Write look for holes.
func (f *contentFile) Fd() uintptr { return uintptr(f.fd) }

func (f *contentFile) Close() error { return unix.Close(f.fd) }

// openRegular opens info's file for reading. The type is asked again after
// opening, because the tree may have changed since info was made; a FIFO does
// not block.
func (v *View) openRegular(info *Info) (int, error) {
	if !info.IsRegular() {
		return -1, fmt.Errorf("not a regular file")
	}
	flags := unix.O_RDONLY | unix.O_NONBLOCK | unix.O_NOCTTY
	fd, err := openBeneath(int(v.layers[info.layer].Fd()), info.Path, flags)
	if err != nil {
		return -1, err
	}
	var st unix.Stat_t
	err = unix.Fstat(fd, &st)
	if err == nil && st.Mode&unix.S_IFMT != unix.S_IFREG {
		err = fmt.Errorf("not a regular file any more")
	}
	if err == nil && v.merged() && st.Size > 0 && st.Blocks == 0 {
		err = v.refuseMetacopy(fd)
	}
	if err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// refuseMetacopy fails for a file whose content overlayfs would take from a
// lower layer: reading it here would give zeros.
func (v *View) refuseMetacopy(fd int) error {
	for _, prefix := range overlayXattrPrefixes {
		if _, err := unix.Fgetxattr(fd, prefix+"metacopy", nil); err == nil {
			return fmt.Errorf("layer made with metacopy=on: %w", unix.EOPNOTSUPP)
		}
	}
	return nil
}

// Entry returns info's file ready for Snapshot.Write. Its content is opened
// only when Write asks for it.
func (v *View) Entry(info Info) (Entry, error) {
	e := v.entry(&info)
	x, err := v.xattrs(&info)
	if err != nil {
		return Entry{}, &fs.PathError{Op: "xattrs", Path: info.Path, Err: err}
	}
	e.Xattrs = x
	return e, nil
}

// Entries is Entry for many files, in parallel. Files that are hard links of
// an earlier one among infos become links to it.
func (v *View) Entries(ctx context.Context, infos []Info) ([]Entry, error) {
	entries := make([]Entry, len(infos))
	type inode struct{ dev, ino uint64 }
	first := map[inode]string{}
	for i := range infos {
		info := &infos[i]
		entries[i] = v.entry(info)
		if info.Nlink < 2 || !info.IsRegular() {
			continue
		}
		id := inode{info.Dev, info.Ino}
		if target, ok := first[id]; ok {
			entries[i].Hardlink, entries[i].Linkname = true, target
			entries[i].Open, entries[i].Size = nil, 0
			continue
		}
		first[id] = info.Path
	}
	return entries, v.addXattrs(ctx, infos, entries)
}

// addXattrs fills the xattrs of entries, a run of files at a time.
func (v *View) addXattrs(ctx context.Context, infos []Info, entries []Entry) error {
	const run = 256
	var next atomic.Int64
	g, ctx := errgroup.WithContext(ctx)
	for range max(runtime.GOMAXPROCS(0), 2) {
		g.Go(func() error {
			for ctx.Err() == nil {
				end := int(next.Add(run))
				if end-run >= len(infos) {
					return nil
				}
				if err := v.addXattrsRun(infos[end-run:min(end, len(infos))], entries[end-run:]); err != nil {
					return err
				}
			}
			return context.Cause(ctx)
		})
	}
	return g.Wait()
}

func (v *View) addXattrsRun(infos []Info, entries []Entry) error {
	r := xattrReader{v: v, fd: -1}
	defer r.close()
	for i := range infos {
		if entries[i].Hardlink {
			continue
		}
		x, err := r.read(&infos[i])
		if err != nil {
			return &fs.PathError{Op: "xattrs", Path: infos[i].Path, Err: err}
		}
		entries[i].Xattrs = x
	}
	return nil
}

// entry is Entry without xattrs.
func (v *View) entry(info *Info) Entry {
	e := Entry{Path: info.Path, Mode: info.Mode, UID: info.UID, GID: info.GID, ModTime: info.ModTime,
		Linkname: info.Linkname, Rdev: info.Rdev}
	if info.layer == 0 {
		e.UID, e.GID = v.owners.Inside(e.UID, e.GID)
	}
	if info.IsRegular() {
		file := *info
		e.Size = info.Size
		e.Open = func() (io.ReadCloser, error) {
			fd, err := v.openRegular(&file)
			if err != nil {
				return nil, &fs.PathError{Op: "open", Path: file.Path, Err: err}
			}
			return &contentFile{fd}, nil
		}
	}
	return e
}

// xattrs returns the extended attributes of info's file that layers keep.
func (v *View) xattrs(info *Info) (map[string]string, error) {
	r := xattrReader{v: v, fd: -1}
	defer r.close()
	return r.read(info)
}

// xattrReader reads the xattrs of one file after another, holding the last
// file's directory open.
type xattrReader struct {
	v     *View
	dir   string
	layer int
	fd    int // -1 before the first
}

func (r *xattrReader) close() {
	if r.fd >= 0 {
		unix.Close(r.fd)
	}
}

func (r *xattrReader) read(info *Info) (map[string]string, error) {
	if info.layer < 0 {
		return nil, nil // the root of an empty View
	}
	dir, name := path.Split(info.Path)
	if info.Path == "." {
		dir, name = "", "."
	}
	if r.fd < 0 || dir != r.dir || info.layer != r.layer {
		parent := "."
		if dir != "" {
			parent = dir[:len(dir)-1]
		}
		fd, err := openBeneath(int(r.v.layers[info.layer].Fd()), parent, unix.O_PATH|unix.O_DIRECTORY)
		if err != nil {
			return nil, err
		}
		r.close()
		r.fd, r.dir, r.layer = fd, dir, info.layer
	}
	return xattrsAt(r.fd, name)
}
