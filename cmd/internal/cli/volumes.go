package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"cooper/layers"
	"cooper/run"
)

// volumes makes a container's fresh volumes: directories filled with what the
// image has at their place, which live as long as the container. Each is the
// upper directory of a snapshot of nothing.
type volumes struct {
	store     *layers.Store
	view      *layers.View // of the container's root file system
	snapshots []*layers.Snapshot
}

// add puts the mounts into config.
func (v *volumes) add(ctx context.Context, config *run.Config, mounts []run.ContainerMount) error {
	for _, m := range mounts {
		switch {
		case m.Type == "volume" && m.Name == "":
			source, err := v.make(ctx, m.Destination)
			if err != nil {
				return err
			}
			m.Source, m.Options = source, append([]string{"rbind"}, m.Options...)
		case m.MakeSource:
			if err := os.MkdirAll(m.Source, 0o755); err != nil && !errors.Is(err, unix.EEXIST) && !errors.Is(err, unix.ENOTDIR) {
				return err
			}
		}
		config.Mounts = append(config.Mounts, m.Mount())
	}
	return nil
}

// make makes a volume for dest and returns its directory.
func (v *volumes) make(ctx context.Context, dest string) (string, error) {
	entries, err := v.entries(ctx, dest)
	if err != nil {
		return "", fmt.Errorf("volume %s: %w", dest, err)
	}
	snapshot, err := v.store.Prepare(ctx, layers.Layer{})
	if err != nil {
		return "", fmt.Errorf("volume %s: %w", dest, err)
	}
	v.snapshots = append(v.snapshots, snapshot)
	if err := snapshot.Write(ctx, entries, layers.WriteOptions{}); err != nil {
		return "", fmt.Errorf("volume %s: %w", dest, err)
	}
	return snapshot.Upper(), nil
}

// entries lists what the image has at dest, relative to it.
func (v *volumes) entries(ctx context.Context, dest string) ([]layers.Entry, error) {
	root, err := v.view.Stat(dest)
	if errors.Is(err, fs.ErrNotExist) || err == nil && !root.IsDir() {
		return []layers.Entry{{Path: ".", Mode: unix.S_IFDIR | 0o755, ModTime: time.Now()}}, nil
	}
	if err != nil {
		return nil, err
	}
	var entries []layers.Entry
	links := make(map[[2]uint64]string) // by device and inode: where the first name is
	err = v.view.Walk(ctx, root.Path, nil, func(info layers.Info) error {
		entry, err := v.view.Entry(info)
		if err != nil {
			return err
		}
		entry.Path = relative(root.Path, info.Path)
		if info.IsRegular() && info.Nlink > 1 {
			inode := [2]uint64{info.Dev, info.Ino}
			if first, known := links[inode]; known {
				entry.Hardlink, entry.Linkname = true, first
			} else {
				links[inode] = entry.Path
			}
		}
		entries = append(entries, entry)
		return nil
	})
	return entries, err
}

// relative makes name, in or at root, relative to root.
func relative(root, name string) string {
	if name == root {
		return "."
	}
	if root == "." {
		return name
	}
	return strings.TrimPrefix(name, root+"/")
}

// remove removes the volumes.
func (v *volumes) remove() error {
	var errs []error
	for _, s := range v.snapshots {
		errs = append(errs, s.Remove())
	}
	return errors.Join(errs...)
}
