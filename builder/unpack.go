package builder

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"cooper/layers"
)

// unpackBatch bounds what ADD holds in memory of an archive before writing it.
const (
	unpackBatchFiles = 2000
	unpackBatchBytes = 16 << 20
	unpackSpool      = 4 << 20 // a file this large goes through a temporary one
)

// archive is a file that may be a tar, plain or compressed.
type archive struct {
	name    string
	modTime time.Time
	open    func() (*os.File, error)
}

// unpackLocal writes the files of the archive f into the destination. It
// returns false when f is not an archive.
func (w *copyWork) unpackLocal(ctx context.Context, t *target, sn *layers.Snapshot, f layers.Info) (bool, error) {
	if !f.IsRegular() || f.Size == 0 {
		return false, nil
	}
	return unpack(ctx, t, sn, archive{f.Path, f.ModTime, func() (*os.File, error) { return w.src.view.Open(f.Path) }})
}

func unpack(ctx context.Context, t *target, sn *layers.Snapshot, a archive) (bool, error) {
	ok, err := a.isTar()
	if err != nil || !ok {
		return false, err
	}
	// Archives bring their own modes: --chmod is not even for the destination.
	defer func(mode uint32) { t.dirMode = mode }(t.dirMode)
	t.dirMode = 0o755
	if !t.isDir {
		if err := t.makeDir(&match{files: []layers.Info{{ModTime: a.modTime}}}); err != nil {
			return false, err
		}
	}
	file, err := a.open()
	if err != nil {
		return false, err
	}
	defer file.Close()
	u := &unpacker{t: t, sn: sn, links: map[string]bool{}}
	defer u.discard()
	if err := u.flush(ctx); err != nil { // what came before the archive
		return false, err
	}
	if err := u.extract(ctx, file); err != nil {
		return false, fmt.Errorf("unpack %s: %w", a.name, err)
	}
	return true, nil
}

// isTar reports whether a begins as one.
func (a archive) isTar() (bool, error) {
	file, err := a.open()
	if err != nil {
		return false, err
	}
	defer file.Close()
	r, err := layers.Decompress(file)
	if err != nil {
		return false, nil
	}
	defer r.Close()
	_, err = tar.NewReader(r).Next()
	return err == nil, nil
}

// unpacker turns a tar into batches of entries below the target. An archive is
// as little trusted as any: a name can't leave the target's root, and a
// symbolic link on the way is followed inside the image only.
type unpacker struct {
	t     *target
	sn    *layers.Snapshot
	links map[string]bool // symbolic links that the archive has made
	held  int64           // bytes in memory
	spool []*os.File
	// later are the hard links to files of earlier batches, name and
	// target; their places are held by empty files.
	later [][2]string
}

func (u *unpacker) extract(ctx context.Context, file io.Reader) error {
	r, err := layers.Decompress(file)
	if err != nil {
		return err
	}
	defer r.Close()
	tr := tar.NewReader(r)
	for {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return u.flush(ctx)
		}
		if err != nil {
			return err
		}
		if err := u.add(ctx, h, tr); err != nil {
			return fmt.Errorf("%s: %w", h.Name, err)
		}
		if len(u.t.entries) >= unpackBatchFiles || u.held >= unpackBatchBytes {
			if err := u.flush(ctx); err != nil {
				return err
			}
		}
	}
}

// flush writes the entries collected so far.
func (u *unpacker) flush(ctx context.Context) error {
	t := u.t
	if len(t.entries) == 0 {
		return nil
	}
	err := u.sn.Write(ctx, t.entries, layers.WriteOptions{
		DirMode: t.dirMode, DirUID: t.owner.uid, DirGID: t.owner.gid, DirTime: t.now, Replace: true,
	})
	t.entries, t.from, t.at = nil, nil, map[string]int{}
	u.held = 0
	u.discard()
	if err != nil {
		return err
	}
	for _, l := range u.later {
		err := u.sn.Link(l[1], l[0])
		if errors.Is(err, fs.ErrNotExist) {
			err = u.copyBelow(ctx, l[0], l[1])
		}
		if err != nil {
			return err
		}
	}
	u.later = nil
	return nil
}

// copyBelow writes name as a copy of target, which only the image below has.
func (u *unpacker) copyBelow(ctx context.Context, name, target string) error {
	info, err := u.t.view.Lstat(target)
	if err != nil {
		return err
	}
	e, err := u.t.view.Entry(info)
	if err != nil {
		return err
	}
	e.Path = name
	return u.sn.Write(ctx, []layers.Entry{e}, layers.WriteOptions{})
}

// discard closes the temporary files.
func (u *unpacker) discard() {
	for _, f := range u.spool {
		_ = f.Close()
	}
	u.spool = nil
}

// place maps a name in the archive to a path in the image.
func (u *unpacker) place(ctx context.Context, name string) (string, error) {
	p := path.Join(u.t.dest, clean(name))
	dir := path.Dir(p)
	if !u.crossesLink(dir) {
		return p, nil
	}
	if err := u.flush(ctx); err != nil {
		return "", err
	}
	view, err := u.sn.View()
	if err != nil {
		return "", err
	}
	defer view.Close()
	real, err := view.Resolve(dir)
	return path.Join(real, path.Base(p)), err
}

// crossesLink reports whether dir may lead through a symbolic link, one of the
// archive's or one that was in the image before.
func (u *unpacker) crossesLink(dir string) bool {
	for d := dir; d != "." && d != u.t.dest; d = path.Dir(d) {
		if u.links[d] {
			return true
		}
	}
	if dir == "." {
		return false
	}
	real, err := u.t.view.Resolve(dir)
	return err != nil || real != dir
}

func (u *unpacker) add(ctx context.Context, h *tar.Header, content io.Reader) error {
	p, err := u.place(ctx, h.Name)
	if err != nil {
		return err
	}
	if p == "." || p == u.t.dest && h.Typeflag == tar.TypeDir {
		return nil
	}
	e := layers.Entry{
		Path: p, Mode: uint32(h.Mode & 0o7777), UID: uint32(h.Uid), GID: uint32(h.Gid),
		ModTime: h.ModTime, Xattrs: xattrsOf(h),
	}
	if u.t.owned {
		e.UID, e.GID = u.t.owner.uid, u.t.owner.gid
	}
	delete(u.links, p)
	switch h.Typeflag {
	case tar.TypeReg, tar.TypeGNUSparse:
		e.Mode |= unix.S_IFREG
		if err := u.hold(&e, h.Size, content); err != nil {
			return err
		}
	case tar.TypeDir:
		e.Mode |= unix.S_IFDIR
	case tar.TypeSymlink:
		e.Mode, e.Linkname = unix.S_IFLNK|0o777, h.Linkname
		u.links[p] = true
	case tar.TypeLink:
		target, err := u.place(ctx, h.Linkname)
		if err != nil {
			return err
		}
		return u.link(ctx, e, target)
	case tar.TypeChar, tar.TypeBlock, tar.TypeFifo:
		e.Mode |= map[byte]uint32{tar.TypeChar: unix.S_IFCHR, tar.TypeBlock: unix.S_IFBLK, tar.TypeFifo: unix.S_IFIFO}[h.Typeflag]
		e.Rdev = unix.Mkdev(uint32(h.Devmajor), uint32(h.Devminor))
	default: // global headers and the like carry no file
		return nil
	}
	return u.put(ctx, e)
}

// put adds e, in a batch of its own if it replaces an entry of another type.
func (u *unpacker) put(ctx context.Context, e layers.Entry) error {
	if i, ok := u.t.at[e.Path]; ok && u.t.entries[i].IsDir() != e.IsDir() {
		if err := u.flush(ctx); err != nil {
			return err
		}
	}
	return u.t.put(e, "")
}

// link adds a hard link. Its target is in this batch, in an earlier one, or a
// file that was in the image before, which is copied: layers can't share inodes.
func (u *unpacker) link(ctx context.Context, e layers.Entry, target string) error {
	e.Mode = unix.S_IFREG
	if _, ok := u.t.at[target]; ok {
		e.Hardlink, e.Linkname = true, target
		return u.t.put(e, "")
	}
	u.later = append(u.later, [2]string{e.Path, target})
	return u.put(ctx, e)
}

// hold keeps a file's content until the batch is written.
func (u *unpacker) hold(e *layers.Entry, size int64, content io.Reader) error {
	e.Size = size
	if size < unpackSpool {
		data, err := io.ReadAll(content)
		if err != nil {
			return err
		}
		u.held += int64(len(data))
		e.Size = int64(len(data))
		e.Open = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(data)), nil }
		return nil
	}
	f, err := os.CreateTemp("", "cooper-add-")
	if err != nil {
		return err
	}
	u.spool = append(u.spool, f)
	if err := os.Remove(f.Name()); err != nil {
		return err
	}
	if e.Size, err = io.Copy(f, content); err != nil {
		return err
	}
	n := e.Size
	e.Open = func() (io.ReadCloser, error) { return io.NopCloser(io.NewSectionReader(f, 0, n)), nil }
	return nil
}

// xattrsOf returns the extended attributes that a tar header carries.
func xattrsOf(h *tar.Header) map[string]string {
	var out map[string]string
	for k, v := range h.PAXRecords {
		if name, ok := strings.CutPrefix(k, "SCHILY.xattr."); ok {
			if out == nil {
				out = map[string]string{}
			}
			out[name] = v
		}
	}
	return out
}
