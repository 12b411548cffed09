// Package cdi reads the specifications of the Container Device Interface, which
// say what containers need to use a device.
//
// https://github.com/cncf-tags/container-device-interface/blob/main/SPEC.md
package cdi

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
	"tags.cncf.io/container-device-interface/pkg/parser"
	"tags.cncf.io/container-device-interface/specs-go"
)

// Annotations of devices that BuildKit knows.
const (
	annotationClass     = "org.mobyproject.buildkit.device.class"
	annotationAutoAllow = "org.mobyproject.buildkit.device.autoallow"
)

// Devices are those that specifications describe, by their qualified names
// (vendor.com/class=name).
type Devices struct {
	dirs    []string
	devices map[string]*device
	// problems are what is wrong with files. It is told only with a device
	// that was not found: others may not care.
	problems []error
}

// file is one specification.
type file struct {
	*specs.Spec
	path     string
	priority int
}

type device struct {
	*specs.Device
	file *file
	// rival is another file of the same directory with the same device, so
	// that neither counts.
	rival string
}

// Read reads the specifications in dirs, those in later directories before those
// in earlier ones. A directory that is missing has none.
func Read(dirs ...string) *Devices {
	d := &Devices{dirs: dirs, devices: map[string]*device{}}
	for priority, dir := range dirs {
		entries, err := os.ReadDir(dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			d.problems = append(d.problems, err)
		}
		for _, e := range entries {
			if ext := filepath.Ext(e.Name()); e.IsDir() || ext != ".json" && ext != ".yaml" {
				continue
			}
			f, err := readFile(filepath.Join(dir, e.Name()))
			if err != nil {
				d.problems = append(d.problems, err)
				continue
			}
			f.priority = priority
			d.add(f)
		}
	}
	return d
}

// add takes f's devices, of which f is at least as important as what was added.
func (d *Devices) add(f *file) {
	for i := range f.Devices {
		name := f.Kind + "=" + f.Devices[i].Name
		n := &device{Device: &f.Devices[i], file: f}
		if old := d.devices[name]; old != nil && old.file.priority == f.priority {
			n.rival = old.file.path
		}
		d.devices[name] = n
	}
}

func readFile(path string) (*file, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	s, err := parse(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return &file{Spec: s, path: path}, nil
}

// parse reads a specification, which is YAML or, as a part of that, JSON.
func parse(b []byte) (*specs.Spec, error) {
	var s specs.Spec
	dec := yaml.NewDecoder(bytes.NewReader(b))
	dec.KnownFields(true)
	if err := dec.Decode(&s); err != nil {
		return nil, err
	}
	if slices.Contains(s.ContainerEdits.DeviceNodes, nil) || slices.Contains(s.ContainerEdits.Mounts, nil) {
		return nil, errEmptyEdit
	}
	for i := range s.Devices {
		if e := &s.Devices[i].ContainerEdits; slices.Contains(e.DeviceNodes, nil) || slices.Contains(e.Mounts, nil) {
			return nil, errEmptyEdit
		}
	}
	if err := specs.ValidateVersion(&s); err != nil {
		return nil, err
	}
	vendor, class := parser.ParseQualifier(s.Kind)
	if err := errors.Join(parser.ValidateVendorName(vendor), parser.ValidateClassName(class)); err != nil {
		return nil, fmt.Errorf("kind %q: %w", s.Kind, err)
	}
	if len(s.Devices) == 0 {
		return nil, errors.New("no devices")
	}
	if err := check(&s.ContainerEdits); err != nil {
		return nil, err
	}
	seen := map[string]bool{}
	for i := range s.Devices {
		dev := &s.Devices[i]
		if err := errors.Join(parser.ValidateDeviceName(dev.Name), check(&dev.ContainerEdits)); err != nil {
			return nil, fmt.Errorf("device %q: %w", dev.Name, err)
		}
		if seen[dev.Name] {
			return nil, fmt.Errorf("device %q is there twice", dev.Name)
		}
		seen[dev.Name] = true
	}
	return &s, nil
}

var errEmptyEdit = errors.New("an entry of deviceNodes or mounts is empty")

// check refuses edits that make no sense.
func check(e *specs.ContainerEdits) error {
	for _, v := range e.Env {
		if strings.IndexByte(v, '=') <= 0 {
			return fmt.Errorf("environment variable %q is not NAME=VALUE", v)
		}
	}
	for _, n := range e.DeviceNodes {
		switch {
		case !filepath.IsAbs(n.Path) || n.HostPath != "" && !filepath.IsAbs(n.HostPath):
			return fmt.Errorf("device node %q: its paths are not absolute", n.Path)
		case !slices.Contains([]string{"", "b", "c", "u", "p"}, n.Type):
			return fmt.Errorf("device node %s: type %q is not known", n.Path, n.Type)
		case n.Permissions != "none" && strings.Trim(n.Permissions, "rwm") != "":
			return fmt.Errorf("device node %s: permissions %q are not known", n.Path, n.Permissions)
		}
	}
	for _, m := range e.Mounts {
		if m.HostPath == "" || m.ContainerPath == "" {
			return fmt.Errorf("mount of %q at %q: a path is missing", m.HostPath, m.ContainerPath)
		}
	}
	return nil
}

// Find returns the qualified names of the devices that name stands for, as
// BuildKit understands it: vendor.com/class=name is one device, vendor.com/class
// the first of the class, vendor.com/class=* all of it. What is not found so may
// be the value of the annotation org.mobyproject.buildkit.device.class. There may
// be none.
func (d *Devices) Find(name string) []string {
	all := slices.Sorted(maps.Keys(d.devices))
	all = slices.DeleteFunc(all, func(q string) bool { return d.devices[q].rival != "" })
	kind, one, _ := strings.Cut(name, "=")
	var found []string
	if vendor, _ := parser.ParseQualifier(kind); vendor != "" {
		found = slices.DeleteFunc(slices.Clone(all), func(q string) bool {
			return q != name && (one != "" && one != "*" || !strings.HasPrefix(q, kind+"="))
		})
		if one == "" && len(found) > 1 {
			found = found[:1]
		}
	}
	if len(found) > 0 {
		return found
	}
	return slices.DeleteFunc(all, func(q string) bool {
		class, ok := d.devices[q].annotation(annotationClass)
		return !ok || class != name
	})
}

// AutoAllow reports whether the device with that qualified name says that every
// build may use it.
func (d *Devices) AutoAllow(name string) bool {
	dev := d.devices[name]
	if dev == nil {
		return false
	}
	value, _ := dev.annotation(annotationAutoAllow)
	ok, _ := strconv.ParseBool(value)
	return ok
}

// annotation returns an annotation of the device or of its specification.
func (d *device) annotation(key string) (string, bool) {
	if value, ok := d.Annotations[key]; ok {
		return value, true
	}
	value, ok := d.file.Annotations[key]
	return value, ok
}

// Edits returns what a container needs that has the devices with these qualified
// names. The edits of a specification as a whole are there once, before those of
// its devices. Hooks, network devices and classes of resctrl are errors.
func (d *Devices) Edits(names ...string) (*specs.ContainerEdits, error) {
	var sum specs.ContainerEdits
	seen := map[*specs.ContainerEdits]bool{}
	for _, name := range names {
		dev := d.devices[name]
		if dev == nil || dev.rival != "" {
			return nil, d.Missing(name)
		}
		for _, e := range []*specs.ContainerEdits{&dev.file.ContainerEdits, &dev.ContainerEdits} {
			if seen[e] {
				continue
			}
			seen[e] = true
			if err := supported(e); err != nil {
				return nil, fmt.Errorf("device %s: %s wants %w", name, dev.file.path, err)
			}
			sum.Env = append(sum.Env, e.Env...)
			sum.DeviceNodes = append(sum.DeviceNodes, e.DeviceNodes...)
			sum.Mounts = append(sum.Mounts, e.Mounts...)
			sum.AdditionalGIDs = append(sum.AdditionalGIDs, e.AdditionalGIDs...)
		}
	}
	return &sum, nil
}

// supported refuses what containers are not given.
func supported(e *specs.ContainerEdits) error {
	switch {
	case len(e.Hooks) > 0 && e.Hooks[0] != nil:
		return fmt.Errorf("a %s hook (%s), and hooks are not run: make a specification without hooks", e.Hooks[0].HookName, e.Hooks[0].Path)
	case len(e.Hooks) > 0:
		return errors.New("a hook, and hooks are not run: make a specification without hooks")
	case len(e.NetDevices) > 0:
		return errors.New("a network device (netDevices), which containers can't be given")
	case e.IntelRdt != nil:
		return errors.New("limits of caches and memory bandwidth (intelRdt), which containers can't be given")
	}
	return nil
}

// Missing says that there is no device with a name, and why that may be.
func (d *Devices) Missing(name string) error {
	if dev := d.devices[name]; dev != nil && dev.rival != "" {
		return fmt.Errorf("device %s is described twice, in %s and in %s: remove one of them", name, dev.rival, dev.file.path)
	}
	err := fmt.Errorf("device %s is not registered: no CDI specification in %s describes it", name, strings.Join(d.dirs, " or "))
	if len(d.problems) > 0 {
		err = fmt.Errorf("%w (not read: %w)", err, errors.Join(d.problems...))
	}
	return err
}
