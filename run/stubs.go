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

// mountPoint is where something gets mounted in the container.
type mountPoint struct {
	path string // absolute
	dir  bool
	file bool // one of the request's files: nothing can lie below it
}

// mountPoints lists them in the order of the mounts: the specification's, the
// trees, the files.
func mountPoints(t *Task, mounts []specs.Mount, files []wire.File) ([]mountPoint, error) {
	var points []mountPoint
	for _, m := range mounts {
		dir := true
		if m.Type == "bind" {
			st, err := os.Stat(m.Source)
			if err != nil {
				return nil, fmt.Errorf("bind mount: %w", err)
			}
			dir = st.IsDir()
		}
		points = append(points, mountPoint{path: path.Clean(m.Destination), dir: dir})
	}
	for _, tree := range t.Trees {
		points = append(points, mountPoint{path: path.Clean(tree.Target), dir: tree.Dir})
	}
	for _, f := range files {
		points = append(points, mountPoint{path: f.Path, file: true})
	}
	return points, nil
}

// missing lists the mount points that the root file system lacks, by their real
// paths: libcontainer follows symbolic links below the root, and so does View.
// Those below another mount are not the root file system's.
func missing(v *layers.View, points []mountPoint) ([]wire.Stub, error) {
	var stubs []wire.Stub
	var above []string
	for _, p := range points {
		if !p.file {
			above = append(above, p.path)
		}
	}
	for _, p := range points {
		if below(p.path, above) {
			continue
		}
		name, err := v.Resolve(strings.TrimPrefix(p.path, "/"))
		if err != nil {
			return nil, fmt.Errorf("mount point %s: %w", p.path, err)
		}
		if _, err := v.Lstat(name); errors.Is(err, fs.ErrNotExist) {
			stubs = append(stubs, wire.Stub{Path: name, Dir: p.dir})
		} else if err != nil {
			return nil, fmt.Errorf("mount point %s: %w", p.path, err)
		}
	}
	return stubs, nil
}

// nestedStubs are the mount points below a tree's target, as paths in the tree.
func nestedStubs(t Tree, points []mountPoint) []wire.Stub {
	var stubs []wire.Stub
	for _, p := range points {
		if below(p.path, []string{path.Clean(t.Target)}) {
			rel := strings.TrimPrefix(p.path, path.Clean(t.Target)+"/")
			stubs = append(stubs, wire.Stub{Path: path.Join(t.Path, rel), Dir: p.dir})
		}
	}
	return stubs
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
