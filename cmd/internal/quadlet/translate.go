package quadlet

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
)

// Options say for whom units are made.
type Options struct {
	// Command is the absolute path of the cooper program.
	Command string
	// User makes units of a user's systemd rather than the system's.
	User bool
	// Exists reports whether a path exists, for devices that may be missing
	// (AddDevice=-/dev/kvm). nil means that nothing does.
	Exists func(path string) bool
}

// Unit is the service that a source became.
type Unit struct {
	// Name is the unit's file name: web.service.
	Name string
	// Source is the path of the quadlet file.
	Source string
	Text   []byte
	// Links are symbolic links to make beside the unit, that systemctl
	// enable would make from [Install]: multi-user.target.wants/web.service.
	Links []Link
	// Warnings name what was left out.
	Warnings []string
}

// Link is a symbolic link; both ends are relative to the directory of the
// units.
type Link struct{ Name, Target string }

// Translate makes units of sources. The error joins one for each source that
// could not be translated; the units of the others are returned beside it.
// Of sources of the same name the first counts.
func Translate(sources []Source, o Options) ([]Unit, error) {
	var errs []error
	all := map[string]*parsed{}
	var order []*parsed
	for i := range sources {
		name := filepath.Base(sources[i].Path)
		if _, seen := all[name]; seen {
			continue
		}
		p, err := read(&sources[i])
		if err != nil {
			errs = append(errs, err)
			continue
		}
		all[name] = p
		order = append(order, p)
	}
	var units []Unit
	made := map[string]string{}
	for _, p := range order {
		u, err := translate(p, all, &o)
		if err == nil && made[u.Name] != "" {
			err = fmt.Errorf("%s: %s is made from %s already", p.source.Path, u.Name, made[u.Name])
		}
		if err != nil {
			errs = append(errs, err)
			continue
		}
		made[u.Name] = p.source.Path
		units = append(units, u)
	}
	return units, errors.Join(errs...)
}

// maker makes one unit.
type maker struct {
	*parsed
	all  map[string]*parsed
	o    *Options
	unit unitFile
	// requires and mounts are what the service needs beside what the file
	// says itself.
	requires, mounts []string
	warnings         []string
}

// translate makes the unit of one source.
func translate(p *parsed, all map[string]*parsed, o *Options) (Unit, error) {
	m := &maker{parsed: p, all: all, o: o}
	name := p.service()
	if strings.ContainsFunc(name, notInUnitName) || name == ".service" {
		return Unit{}, fmt.Errorf("%s: invalid service name %q", p.source.Path, name)
	}
	if err := m.unitSection(); err != nil {
		return Unit{}, err
	}
	service := m.unit.section("Service")
	service.entries = append(service.entries, p.file.section("Service").entries...)
	if e, ok := service.last("ExecStart"); ok {
		return Unit{}, e.errorf("ExecStart= is made from [%s]: use Exec= there, or ExecStartPre= and ExecStartPost=", p.kind.section)
	}
	for _, key := range []string{"User", "Group", "DynamicUser"} {
		if e, ok := service.last(key); ok {
			return Unit{}, e.errorf("%s= is not supported in [Service]: use User= and Group= in [Container], or put the file where the user's own systemd finds it", key)
		}
	}
	if err := p.kind.make(m); err != nil {
		return Unit{}, err
	}
	m.dependencies()
	m.passOn()
	links, err := p.links(name)
	if err != nil {
		return Unit{}, err
	}
	text := append([]byte("# Made by cooper quadlet from "+p.source.Path+"\n\n"), m.unit.text()...)
	return Unit{Name: name, Source: p.source.Path, Text: text, Links: links, Warnings: m.warnings}, nil
}

// unitSection begins [Unit]: what every service has, then what the file says.
func (m *maker) unitSection() error {
	unit := m.unit.section("Unit")
	if online, err := m.wantsNetwork(); err != nil {
		return err
	} else if online {
		unit.add("Wants", "network-online.target")
		unit.add("After", "network-online.target")
	}
	for _, e := range m.file.section("Unit").entries {
		if slices.Contains(dependencyKeys, e.key) {
			value, err := m.serviceNames(e)
			if err != nil {
				return err
			}
			e.value = value
		}
		unit.entries = append(unit.entries, e)
	}
	if _, ok := unit.last("SourcePath"); !ok {
		unit.add("SourcePath", literalPath(m.source.Path))
	}
	unit.add("RequiresMountsFor", "%t/containers")
	return nil
}

// wantsNetwork reports whether the service waits for the network, which an
// image may have to come from. A user's systemd can't wait for the system's
// targets.
func (m *maker) wantsNetwork() (bool, error) {
	wanted := m.kind.section != "Network" && m.kind.section != "Volume"
	for _, e := range m.file.section("Quadlet").entries {
		if e.key != "DefaultDependencies" {
			return false, e.errorf("unknown key %s in [Quadlet]: want DefaultDependencies", e.key)
		}
		on, err := parseBool(e)
		if err != nil {
			return false, err
		}
		wanted = wanted && on
	}
	return wanted && !m.o.User, nil
}

// dependencyKeys are the keys of [Unit] in which quadlet files can be named in
// place of their services.
var dependencyKeys = []string{
	"Wants", "Requires", "Requisite", "BindsTo", "PartOf", "Upholds", "Conflicts", "Before", "After", "OnFailure", "OnSuccess",
	"PropagatesReloadTo", "ReloadPropagatedFrom", "PropagatesStopTo", "StopPropagatedFrom",
}

// serviceNames replaces the names of quadlet files by those of their services.
func (m *maker) serviceNames(e entry) (string, error) {
	names := strings.Fields(e.value)
	for i, name := range names {
		if !IsSource(name) {
			continue
		}
		other, err := m.refer(e, name)
		if err != nil {
			return "", err
		}
		names[i] = other.service()
	}
	return strings.Join(names, " "), nil
}

// refer finds another quadlet file that an entry names.
func (m *maker) refer(e entry, name string) (*parsed, error) {
	other, ok := m.all[name]
	if !ok {
		return nil, e.errorf("%s=%s: there is no file %s, or it has an error", e.key, e.value, name)
	}
	return other, nil
}

// need finds another quadlet file that an entry names, makes the service wait
// for that one's and returns the name of what that makes.
func (m *maker) need(e entry, name string) (string, error) {
	other, err := m.refer(e, name)
	if err != nil {
		return "", err
	}
	m.requires = append(m.requires, other.service())
	if _, named := other.own().last("ContainerName"); other.kind.section == "Container" && !named {
		// Its specifiers would be expanded for the service that refers to it.
		return "systemd-" + strings.ReplaceAll(strings.TrimSuffix(other.service(), ".service"), "@", "_"), nil
	}
	return other.resource()
}

// dependencies adds to [Unit] what the own section asks for by naming others.
func (m *maker) dependencies() {
	unit := m.unit.section("Unit")
	slices.Sort(m.requires)
	for _, service := range slices.Compact(m.requires) {
		unit.add("Requires", service)
		unit.add("After", service)
	}
	for _, dir := range m.mounts {
		unit.add("RequiresMountsFor", QuoteWords(dir))
	}
}

// passOn adds the file's other sections, the own one under a name that systemd
// ignores.
func (m *maker) passOn() {
	for _, s := range m.file.sections {
		name := s.name
		switch name {
		case "Unit", "Service", "Quadlet":
			continue
		case m.kind.section:
			name = "X-" + name
		}
		to := m.unit.section(name)
		to.entries = append(to.entries, s.entries...)
	}
}

// relative makes a path absolute that is relative to the source's directory. One
// that begins with a specifier is left alone, as are absolute ones.
func (m *maker) relative(path string) string {
	if path == "" || strings.HasPrefix(path, "/") || strings.HasPrefix(path, "%") {
		return path
	}
	return filepath.Join(Literal(filepath.Dir(m.source.Path)), path)
}
