package cli

import (
	"encoding/csv"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/docker/go-units"

	"cooper/run"
)

// mountSpec is a value of --mount while it is read.
type mountSpec struct {
	run.ContainerMount
	kind   string
	source string
	only   []string // the keys given that belong to one type, "bind-..." and the like
}

// parseMount reads a value of --mount: KEY=VALUE,... with docker's keys and
// podman's. Without a type it is a volume.
func parseMount(s string) (run.ContainerMount, error) {
	m := mountSpec{kind: "volume"}
	fields, err := csv.NewReader(strings.NewReader(s)).Read()
	for i := 0; err == nil && i < len(fields); i++ {
		key, value, found := strings.Cut(fields[i], "=")
		err = m.set(strings.ToLower(strings.TrimSpace(key)), value, found)
	}
	if err == nil {
		err = m.finish()
	}
	if err != nil {
		return run.ContainerMount{}, fmt.Errorf("invalid mount %q: %w", s, err)
	}
	return m.ContainerMount, nil
}

// set applies one KEY=VALUE; a switch may stand without a value.
func (m *mountSpec) set(key, value string, found bool) error {
	if apply, ok := mountSwitches[key]; ok {
		on := true
		if found {
			var err error
			if on, err = strconv.ParseBool(value); err != nil {
				return fmt.Errorf("invalid value for %s: %s: want true or false", key, value)
			}
		}
		apply(m, on)
		m.belongs(key)
		return nil
	}
	apply, ok := mountKeys[key]
	switch {
	case !ok:
		return fmt.Errorf("unknown key %q", key)
	case !found || value == "":
		return fmt.Errorf("invalid field %q: must be a key=value pair", key)
	}
	m.belongs(key)
	if err := apply(m, value); err != nil {
		return fmt.Errorf("%s: %w", key, err)
	}
	return nil
}

// belongs notes a key that goes with one type only.
func (m *mountSpec) belongs(key string) {
	kind, _, found := strings.Cut(key, "-")
	if found {
		m.only = append(m.only, kind)
	}
}

// mountSwitches are the keys of --mount that are true or false.
var mountSwitches = map[string]func(m *mountSpec, on bool){
	"readonly":          func(m *mountSpec, on bool) { m.readOnly(on) },
	"ro":                func(m *mountSpec, on bool) { m.readOnly(on) },
	"rw":                func(m *mountSpec, on bool) { m.readOnly(!on) },
	"bind-nonrecursive": func(m *mountSpec, on bool) { m.recursive(!on) },
	"bind-create-src":   func(m *mountSpec, on bool) { m.MakeSource = on },
	"volume-nocopy":     func(m *mountSpec, on bool) { m.NoCopy = on },
	"u":                 func(m *mountSpec, on bool) { m.Chown = on },
	"chown":             func(m *mountSpec, on bool) { m.Chown = on },
}

func (m *mountSpec) readOnly(on bool) {
	m.Options = slices.DeleteFunc(m.Options, func(o string) bool { return o == "ro" })
	if on {
		m.Options = append(m.Options, "ro")
	}
}

func (m *mountSpec) recursive(on bool) {
	if !on {
		m.Options = append(m.Options, "bind")
	}
}

// mountKeys are the keys of --mount with a value.
var mountKeys = map[string]func(m *mountSpec, value string) error{
	"type":             func(m *mountSpec, v string) error { m.kind = strings.ToLower(v); return nil },
	"source":           func(m *mountSpec, v string) error { m.source = v; return nil },
	"src":              func(m *mountSpec, v string) error { m.source = v; return nil },
	"target":           func(m *mountSpec, v string) error { m.Destination = v; return nil },
	"destination":      func(m *mountSpec, v string) error { m.Destination = v; return nil },
	"dst":              func(m *mountSpec, v string) error { m.Destination = v; return nil },
	"bind-propagation": (*mountSpec).propagation,
	"bind-recursive":   (*mountSpec).bindRecursive,
	"volume-subpath":   (*mountSpec).subpath,
	"image-subpath":    (*mountSpec).subpath,
	"volume-label":     func(m *mountSpec, v string) error { return setPair(&m.Labels, v) },
	"volume-driver":    func(m *mountSpec, v string) error { m.Driver = v; return nil },
	"volume-opt":       func(m *mountSpec, v string) error { return setPair(&m.DriverOptions, v) },
	"tmpfs-size":       (*mountSpec).tmpfsSize,
	"tmpfs-mode":       (*mountSpec).tmpfsMode,
	"consistency":      func(*mountSpec, string) error { return nil },
	"relabel":          func(*mountSpec, string) error { return nil },
}

func (m *mountSpec) propagation(v string) error {
	if !slices.Contains([]string{"private", "rprivate", "slave", "rslave", "shared", "rshared"}, v) {
		return fmt.Errorf("invalid propagation %q: want private, slave or shared, with or without an r in front", v)
	}
	m.Options = append(m.Options, v)
	return nil
}

func (m *mountSpec) bindRecursive(v string) error {
	switch v {
	case "enabled":
	case "writable":
		m.Options = append(m.Options, "norro")
	case "disabled":
		m.recursive(false)
	case "readonly":
		m.Options = append(m.Options, "rro")
	default:
		return fmt.Errorf("invalid value %q: want enabled, disabled, writable or readonly", v)
	}
	return nil
}

func (m *mountSpec) subpath(v string) error {
	if !filepath.IsLocal(v) {
		return fmt.Errorf("%q must be a relative path that stays inside", v)
	}
	m.Subpath = filepath.Clean(v)
	return nil
}

func (m *mountSpec) tmpfsSize(v string) error {
	n, err := units.RAMInBytes(v)
	if err != nil || n < 0 {
		return fmt.Errorf("invalid size %q", v)
	}
	m.Options = append(m.Options, "size="+strconv.FormatInt(n, 10))
	return nil
}

func (m *mountSpec) tmpfsMode(v string) error {
	if _, err := strconv.ParseUint(v, 8, 12); err != nil {
		return fmt.Errorf("invalid mode %q: want octal digits", v)
	}
	m.Options = append(m.Options, "mode="+v)
	return nil
}

// setPair puts KEY=VALUE into a map that is made when it is nil.
func setPair(to *map[string]string, s string) error {
	key, value, found := strings.Cut(s, "=")
	if key == "" || !found {
		return fmt.Errorf("%q is not KEY=VALUE", s)
	}
	if *to == nil {
		*to = make(map[string]string)
	}
	(*to)[key] = value
	return nil
}

// finish checks what depends on the type.
func (m *mountSpec) finish() (err error) {
	if err := checkDestination(m.Destination); err != nil {
		return err
	}
	for _, kind := range m.only {
		if kind != m.kind {
			return fmt.Errorf("cannot mix '%s-*' options with mount type '%s'", kind, m.kind)
		}
	}
	m.Type = m.kind
	switch m.kind {
	case "bind":
		if m.source == "" {
			return errors.New("a bind mount needs source=")
		}
		m.Source, err = filepath.Abs(m.source)
	case "tmpfs":
		if m.source != "" {
			return errors.New("a tmpfs has no source")
		}
	case "volume":
		if m.source != "" {
			m.Name = m.source
			err = run.CheckVolumeName(m.Name)
		}
		if m.Driver != "" && m.Driver != "local" {
			return fmt.Errorf("volume driver %q is not there: use local", m.Driver)
		}
	case "image":
		if m.source == "" {
			return errors.New("an image mount needs source=")
		}
		m.Source = m.source
		m.readOnly(true)
	default:
		return fmt.Errorf("type %q is not supported: use bind, volume, tmpfs or image", m.kind)
	}
	if m.Chown && m.kind != "bind" && m.kind != "volume" {
		return fmt.Errorf("cannot change the owner with mount type '%s'", m.kind)
	}
	return err
}
