package run

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"

	"cooper/layers"
	"cooper/run/internal/wire"
)

// missing lists the mount points that the root file system lacks, by their real
// paths: libcontainer follows symbolic links below the root, and so does View.
func missing(v *layers.View, mounts []specs.Mount, files []wire.File) ([]wire.Stub, error) {
	var stubs []wire.Stub
	add := func(destination string, dir bool) error {
		name, err := v.Resolve(strings.TrimPrefix(path.Clean(destination), "/"))
		if err != nil {
			return fmt.Errorf("mount point %s: %w", destination, err)
		}
		if _, err := v.Lstat(name); err == nil {
			return nil
		} else if !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("mount point %s: %w", destination, err)
		}
		stubs = append(stubs, wire.Stub{Path: name, Dir: dir})
		return nil
	}
	var fresh []string // destinations of file systems that are empty at first
	for _, m := range mounts {
		if below(m.Destination, fresh) {
			continue
		}
		dir := true
		if m.Type == "bind" {
			st, err := os.Stat(m.Source)
			if err != nil {
				return nil, fmt.Errorf("bind mount: %w", err)
			}
			dir = st.IsDir()
		}
		if err := add(m.Destination, dir); err != nil {
			return nil, err
		}
		fresh = append(fresh, m.Destination)
	}
	for _, f := range files {
		if below(f.Path, fresh) {
			continue
		}
		if err := add(f.Path, false); err != nil {
			return nil, err
		}
	}
	return stubs, nil
}

// below reports whether name is inside one of dirs.
func below(name string, dirs []string) bool {
	for _, d := range dirs {
		if strings.HasPrefix(name, d+"/") {
			return true
		}
	}
	return false
}
