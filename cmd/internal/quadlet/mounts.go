package quadlet

import (
	"encoding/csv"
	"slices"
	"strings"
)

// readOnly keeps the directories writable in which programs expect to write,
// unless ReadOnlyTmpfs=false or something is mounted there.
func (m *maker) readOnly(values []entry) ([]string, error) {
	on, err := parseBool(values[len(values)-1])
	if err != nil || !on {
		return nil, err
	}
	args := []string{"--read-only"}
	own := m.own()
	if e, ok := own.last("ReadOnlyTmpfs"); ok {
		if on, err := parseBool(e); err != nil || !on {
			return args, err
		}
	}
	points := m.mountPoints()
	if e, ok := own.last("VolatileTmp"); ok {
		if on, err := parseBool(e); err != nil {
			return nil, err
		} else if on {
			points = append(points, "/tmp")
		}
	}
	for _, dir := range []string{"/run", "/tmp", "/var/tmp"} {
		if !slices.Contains(points, dir) {
			args = append(args, "--tmpfs", dir)
		}
	}
	return args, nil
}

// volatileTmp gives the container a /tmp in memory, unless something is mounted
// there. It is podman's older word for Tmpfs=/tmp.
func (m *maker) volatileTmp(values []entry) ([]string, error) {
	on, err := parseBool(values[len(values)-1])
	if err != nil || !on || slices.Contains(m.mountPoints(), "/tmp") {
		return nil, err
	}
	return []string{"--tmpfs", "/tmp"}, nil
}

// mountPoints are where the file mounts something.
func (m *maker) mountPoints() []string {
	own := m.own()
	var points []string
	for _, e := range own.values("Tmpfs") {
		dir, _, _ := strings.Cut(e.value, ":")
		points = append(points, dir)
	}
	for _, e := range own.values("Volume") {
		if fields := strings.Split(e.value, ":"); len(fields) > 1 {
			points = append(points, fields[1])
		} else {
			points = append(points, e.value)
		}
	}
	for _, e := range own.values("Mount") {
		for field := range strings.SplitSeq(e.value, ",") {
			switch name, dir, _ := strings.Cut(field, "="); name {
			case "destination", "dst", "target":
				points = append(points, dir)
			}
		}
	}
	return points
}

// volumes gives --volume the volumes that .volume files make, and directories
// relative to the quadlet file.
func (m *maker) volumes(values []entry) ([]string, error) {
	var args []string
	for _, e := range values {
		source, rest, found := strings.Cut(e.value, ":")
		if found {
			var err error
			if source, err = m.mountSource(e, source); err != nil {
				return nil, err
			}
			source += ":" + rest
		}
		args = append(args, "--volume", source)
	}
	return args, nil
}

// mountSource is where a mount comes from. A directory of the host must be
// mounted there before the service starts.
func (m *maker) mountSource(e entry, source string) (string, error) {
	switch {
	case strings.HasSuffix(source, ".volume"):
		return m.need(e, source)
	case strings.HasPrefix(source, "."):
		source = m.relative(source)
		m.mounts = append(m.mounts, strings.ReplaceAll(source, "$$", "$"))
	case strings.HasPrefix(source, "/"):
		m.mounts = append(m.mounts, source)
	}
	return source, nil
}

// mountSpecs gives --mount the volumes and images of other quadlet files, and
// directories relative to the quadlet file.
func (m *maker) mountSpecs(values []entry) ([]string, error) {
	var args []string
	for _, e := range values {
		fields, err := csv.NewReader(strings.NewReader(e.value)).Read()
		if err != nil {
			return nil, e.errorf("Mount=%s: %w", e.value, err)
		}
		kind := "volume"
		for _, f := range fields {
			if value, ok := strings.CutPrefix(f, "type="); ok {
				kind = value
			}
		}
		for i, f := range fields {
			name, value, _ := strings.Cut(f, "=")
			if name != "source" && name != "src" {
				continue
			}
			if kind == "image" {
				value, err = m.imageName(entry{key: e.key, value: value, path: e.path, line: e.line})
			} else if kind == "volume" || kind == "bind" || kind == "glob" {
				value, err = m.mountSource(e, value)
			}
			if err != nil {
				return nil, err
			}
			fields[i] = name + "=" + value
		}
		var b strings.Builder
		w := csv.NewWriter(&b)
		if err := w.Write(fields); err != nil {
			return nil, e.errorf("Mount=%s: %w", e.value, err)
		}
		w.Flush()
		args = append(args, "--mount", strings.TrimSuffix(b.String(), "\n"))
	}
	return args, nil
}
