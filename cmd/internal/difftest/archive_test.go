package difftest

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// readArchive reads the only image of an OCI archive, merging its layers by
// itself: nothing of ours has a part in what ours is compared with.
func readArchive(name string) (*built, error) {
	files, err := readTar(name)
	if err != nil {
		return nil, err
	}
	type descriptor struct{ Digest string }
	var index struct{ Manifests []descriptor }
	var manifest struct {
		Config descriptor
		Layers []descriptor
	}
	blob := func(d descriptor) []byte { return files["blobs/"+strings.Replace(d.Digest, ":", "/", 1)] }
	if err := json.Unmarshal(files["index.json"], &index); err != nil {
		return nil, fmt.Errorf("index.json: %w", err)
	}
	if len(index.Manifests) != 1 {
		return nil, fmt.Errorf("%d manifests, want 1", len(index.Manifests))
	}
	if err := json.Unmarshal(blob(index.Manifests[0]), &manifest); err != nil {
		return nil, fmt.Errorf("manifest: %w", err)
	}
	var layers [][]byte
	for _, l := range manifest.Layers {
		layers = append(layers, blob(l))
	}
	return merge(blob(manifest.Config), layers)
}

// readTar returns the regular files of a tar.
func readTar(name string) (map[string][]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	files := map[string][]byte{}
	for tr := tar.NewReader(f); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return files, nil
		}
		if err != nil {
			return nil, err
		}
		if files[path.Clean(h.Name)], err = io.ReadAll(tr); err != nil {
			return nil, err
		}
	}
}

// merge applies layers on each other.
func merge(config []byte, layers [][]byte) (*built, error) {
	m := merger{tree: map[string]file{".": {mode: unix.S_IFDIR | 0o755}}}
	for _, l := range layers {
		if err := m.apply(l); err != nil {
			return nil, fmt.Errorf("layer: %w", err)
		}
	}
	return &built{Config: config, Tree: describe(m.tree)}, nil
}

type merger struct {
	tree   map[string]file
	inodes int64
}

// apply applies one layer, compressed or not.
func (m *merger) apply(layer []byte) error {
	var r io.Reader = bytes.NewReader(layer)
	if z, err := gzip.NewReader(r); err == nil {
		r = z
	} else {
		r = bytes.NewReader(layer)
	}
	here := map[string]bool{} // what this layer holds
	for tr := tar.NewReader(r); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		p := path.Clean(strings.TrimPrefix(h.Name, "/"))
		dir, base := path.Split(p)
		switch {
		case base == ".wh..wh..opq":
			m.removeBelow(path.Clean(dir), here)
		case strings.HasPrefix(base, ".wh."):
			gone := dir + strings.TrimPrefix(base, ".wh.")
			delete(m.tree, gone)
			m.removeBelow(gone, here)
		default:
			if err := m.add(p, h, tr); err != nil {
				return fmt.Errorf("%s: %w", h.Name, err)
			}
			here[p] = true
		}
	}
}

// removeBelow removes what is in dir and not among keep.
func (m *merger) removeBelow(dir string, keep map[string]bool) {
	for p := range m.tree {
		if (dir == "." && p != "." || strings.HasPrefix(p, dir+"/")) && !keep[p] {
			delete(m.tree, p)
		}
	}
}

// add puts the file that h describes at p.
func (m *merger) add(p string, h *tar.Header, r io.Reader) error {
	types := map[byte]uint32{
		tar.TypeReg: unix.S_IFREG, tar.TypeDir: unix.S_IFDIR, tar.TypeSymlink: unix.S_IFLNK,
		tar.TypeChar: unix.S_IFCHR, tar.TypeBlock: unix.S_IFBLK, tar.TypeFifo: unix.S_IFIFO,
	}
	if h.Typeflag == tar.TypeLink {
		return m.hardlink(p, path.Clean(strings.TrimPrefix(h.Linkname, "/")))
	}
	kind, ok := types[h.Typeflag]
	if !ok {
		return fmt.Errorf("unexpected type %q", h.Typeflag)
	}
	f := file{
		mode: kind | uint32(h.Mode)&0o7777, uid: uint32(h.Uid), gid: uint32(h.Gid), link: h.Linkname,
		rdev: unix.Mkdev(uint32(h.Devmajor), uint32(h.Devminor)),
	}
	for k, v := range h.PAXRecords {
		if name, ok := strings.CutPrefix(k, "SCHILY.xattr."); ok {
			if f.xattrs == nil {
				f.xattrs = map[string]string{}
			}
			f.xattrs[name] = v
		}
	}
	var err error
	if kind == unix.S_IFREG {
		f.content, err = content(r)
	}
	if old, ok := m.tree[p]; ok && (kind != unix.S_IFDIR || old.mode&unix.S_IFMT != unix.S_IFDIR) {
		m.removeBelow(p, nil)
	}
	m.tree[p] = f
	return err
}

func (m *merger) hardlink(p, target string) error {
	f, ok := m.tree[target]
	if !ok {
		return fmt.Errorf("hard link to %s, which is not there", target)
	}
	if f.inode == 0 {
		m.inodes++
		f.inode = m.inodes
		m.tree[target] = f
	}
	m.removeBelow(p, nil)
	m.tree[p] = f
	return nil
}
