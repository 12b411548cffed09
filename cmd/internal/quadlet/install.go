package quadlet

import (
	"path"
	"strings"
)

// installKeys are the keys of [Install] that become links, and what the
// directories of the links end with.
var installKeys = map[string]string{
	"Alias": "", "WantedBy": ".wants", "RequiredBy": ".requires", "UpheldBy": ".upholds",
}

// links are what systemctl enable would make. systemd does not enable units
// that a generator made, so the generator does. A template has none, unless
// DefaultInstance= says which instance is meant.
func (p *parsed) links(service string) ([]Link, error) {
	install := p.file.section("Install")
	for _, e := range install.entries {
		if _, known := installKeys[e.key]; !known && e.key != "DefaultInstance" {
			return nil, e.errorf("unknown key %s in [Install]: want Alias, WantedBy, RequiredBy, UpheldBy or DefaultInstance", e.key)
		}
	}
	instance := service
	if strings.HasSuffix(service, "@.service") {
		e, ok := install.last("DefaultInstance")
		if !ok {
			return nil, nil
		}
		instance = strings.TrimSuffix(service, ".service") + e.value + ".service"
	}
	var links []Link
	for _, key := range []string{"Alias", "WantedBy", "RequiredBy", "UpheldBy"} {
		for _, e := range install.values(key) {
			for _, name := range strings.Fields(e.value) {
				if strings.Contains(name, "/") || name == "." || name == ".." {
					return nil, e.errorf("invalid unit %q in %s=: want a name without directories", name, key)
				}
				if key == "Alias" {
					links = append(links, Link{Name: name, Target: service})
					continue
				}
				links = append(links, Link{Name: path.Join(name+installKeys[key], instance), Target: "../" + service})
			}
		}
	}
	return links, nil
}
