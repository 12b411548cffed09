package layers

import (
	"context"
	"fmt"
	"os"
	"path"

	"golang.org/x/sys/unix"
)

// lentDir is a directory of somebody else's as the parent of a snapshot.
type lentDir string

// Wait returns no layer: there is none.
func (d lentDir) Wait(context.Context) (Layer, error) { return Layer{}, nil }

func (d lentDir) stack(*Store) ([]dir, error) { return []dir{{path: string(d)}}, nil }

// PrepareDir makes a snapshot that shows the directory at path, so that a process
// may work in it without changing it. It can't become a layer: end it with
// Remove. The files below path must not be changed meanwhile.
func (s *Store) PrepareDir(ctx context.Context, path string) (*Snapshot, error) {
	return s.prepare(ctx, lentDir(path), true)
}

// Hide deletes the files and directories at paths in the snapshot, however many
// files are below them. The paths are as in an Entry and exist.
func (sn *Snapshot) Hide(ctx context.Context, paths []string) error {
	if len(paths) == 0 {
		return nil
	}
	if err := sn.copyUpParents(ctx, paths); err != nil {
		return err
	}
	root, err := os.OpenRoot(sn.area.upper())
	if err != nil {
		return err
	}
	defer root.Close()
	for _, p := range paths {
		if !sn.store.overlay {
			err = root.RemoveAll(p)
		} else {
			err = cover(root, p)
		}
		if err != nil {
			return fmt.Errorf("hide /%s: %w", p, err)
		}
	}
	return nil
}

// cover marks p as deleted in an upper directory.
func cover(root *os.Root, p string) error {
	dir, err := root.Open(path.Dir(p))
	if err != nil {
		return err
	}
	defer dir.Close()
	return unix.Mknodat(int(dir.Fd()), path.Base(p), unix.S_IFCHR, 0)
}

// copyUpParents makes the directories that the paths lie in part of the upper
// directory.
func (sn *Snapshot) copyUpParents(ctx context.Context, paths []string) error {
	view, err := sn.View()
	if err != nil {
		return err
	}
	defer view.Close()
	var dirs []Entry
	seen := map[string]bool{}
	for _, p := range paths {
		for d := path.Dir(p); d != "." && !seen[d]; d = path.Dir(d) {
			seen[d] = true
			info, err := view.Lstat(d)
			if err != nil {
				return err
			}
			e, err := view.Entry(info)
			if err != nil {
				return err
			}
			dirs = append(dirs, e)
		}
	}
	return sn.Write(ctx, dirs, WriteOptions{})
}
