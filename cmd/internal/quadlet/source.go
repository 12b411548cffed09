package quadlet

import (
	"fmt"
	"path"
	"path/filepath"
	"strings"
	"unicode"
)

// Source is a quadlet file.
type Source struct {
	// Path is the file's absolute path; its last element is the name that
	// says what it is: web.container, job@.container, job@nightly.container.
	// Relative paths in the file start at its directory.
	Path string
	Text []byte
	// DropIns are merged into the file in this order, see DropInDirs.
	DropIns []DropIn
}

// DropIn is a file that adds to a Source.
type DropIn struct {
	Path string
	Text []byte
}

// kinds are the extensions of quadlet files; the sections are named alike.
var kinds = map[string]kind{
	".container": {section: "Container", make: (*maker).container},
	".build":     {section: "Build", suffix: "-build", make: (*maker).build},
	".image":     {section: "Image", suffix: "-image", make: (*maker).image},
	".network":   {section: "Network", suffix: "-network", make: (*maker).network},
	".volume":    {section: "Volume", suffix: "-volume", make: (*maker).volume},
}

// kind is what a quadlet file can be.
type kind struct {
	section string
	// suffix is what the service's name has more than the file's.
	suffix string
	// make makes the [Service] section.
	make func(*maker) error
}

// IsSource reports whether a file of this name is a quadlet file.
func IsSource(name string) bool {
	_, known := kinds[path.Ext(name)]
	return known && strings.TrimSuffix(name, path.Ext(name)) != ""
}

// Foreign reports whether podman would read a file of this name that cooper has
// nothing for.
func Foreign(name string) bool {
	switch path.Ext(name) {
	case ".pod", ".kube", ".artifact":
		return true
	}
	return false
}

// DropInDirs lists the names of the directories that drop-ins of a file of this
// name are in, the least specific first: of two drop-ins of the same name that
// in the later directory counts. For front-web.container they are container.d,
// front-.container.d and front-web.container.d.
func DropInDirs(name string) []string {
	ext := path.Ext(name)
	stem := strings.TrimSuffix(name, ext)
	dirs := []string{strings.TrimPrefix(ext, ".") + ".d"}
	template, instance, templated := strings.Cut(stem, "@")
	for i := range len(template) {
		if template[i] == '-' && i+1 < len(template) {
			dirs = append(dirs, template[:i+1]+ext+".d")
		}
	}
	if templated && instance != "" {
		dirs = append(dirs, template+"@"+ext+".d")
	}
	return append(dirs, name+".d")
}

// parsed is a source that has been read.
type parsed struct {
	source *Source
	name   string // web.container
	stem   string // web
	kind   kind
	file   unitFile
}

// read parses a source and its drop-ins.
func read(s *Source) (*parsed, error) {
	name := filepath.Base(s.Path)
	ext := path.Ext(name)
	p := &parsed{source: s, name: name, stem: strings.TrimSuffix(name, ext), kind: kinds[ext]}
	if !IsSource(name) {
		return nil, fmt.Errorf("%s: not a quadlet file", s.Path)
	}
	if strings.ContainsFunc(name, notInUnitName) || strings.ContainsFunc(s.Path, unicode.IsControl) {
		return nil, fmt.Errorf("%q: systemd has no units of such a name: use letters, digits and :-_.@", s.Path)
	}
	if ext != ".container" && strings.Contains(p.stem, "@") {
		return nil, fmt.Errorf("%s: only .container files can be templates", s.Path)
	}
	if err := p.file.parse(s.Path, s.Text); err != nil {
		return nil, err
	}
	for _, d := range s.DropIns {
		if err := p.file.parse(d.Path, d.Text); err != nil {
			return nil, err
		}
	}
	if !p.file.has(p.kind.section) {
		return nil, fmt.Errorf("%s: there is no [%s] section", s.Path, p.kind.section)
	}
	return p, nil
}

// notInUnitName reports whether r can't be in a unit's name, see systemd.unit(5).
func notInUnitName(r rune) bool {
	letter := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9'
	return !letter && !strings.ContainsRune(`:-_.\@`, r)
}

// own is the section that the kind of file is about.
func (p *parsed) own() *section { return p.file.section(p.kind.section) }

// service is the name of the unit that p becomes.
func (p *parsed) service() string {
	if e, ok := p.own().last("ServiceName"); ok {
		return strings.TrimSuffix(e.value, ".service") + ".service"
	}
	template, instance, templated := strings.Cut(p.stem, "@")
	name := template + p.kind.suffix
	if templated {
		name += "@" + instance
	}
	return name + ".service"
}

// resource is the name of the container, volume, network or image that the
// service makes. Those of volumes and networks begin with systemd-, as podman
// has them, to be apart from what people make by hand.
func (p *parsed) resource() (string, error) {
	own := p.own()
	key, fallback := p.kind.section+"Name", "systemd-"+p.stem
	switch p.kind.section {
	case "Container":
		if fallback = "systemd-%N"; strings.Contains(p.stem, "@") {
			fallback = "systemd-%p_%i" // a container's name has no @
		}
	case "Build", "Image":
		key, fallback = "ImageTag", ""
		if e, ok := own.last("Image"); ok && p.kind.section == "Image" {
			fallback = e.value
		}
	}
	if all := own.values(key); len(all) > 0 {
		if p.kind.section == "Build" {
			return all[0].value, nil
		}
		return all[len(all)-1].value, nil
	}
	if fallback == "" {
		return "", fmt.Errorf("%s: the image has no name: add %s=", p.source.Path, key)
	}
	return fallback, nil
}
