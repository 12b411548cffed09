package quadlet

import (
	"path/filepath"
	"strings"
)

// buildKeys are the keys of [Build] in the order of the command line.
var buildKeys = []key{
	{"SetWorkingDirectory", nil}, {"File", nil},

	{"ImageTag", each("-t")},
	{"Target", text("--target")},
	{"BuildArg", words("--build-arg")},
	{"IgnoreFile", (*maker).ignoreFile},
	{"Environment", words("--env")},
	{"Label", words("--label")},
	{"Annotation", words("--annotation")},
	{"Arch", (*maker).platform},
	{"OS", (*maker).withArch},
	{"Variant", (*maker).withArch},
	{"Pull", joined("--pull")},
	{"Network", (*maker).buildNetwork},
	{"DNS", each("--dns")},
	{"DNSOption", each("--dns-option")},
	{"DNSSearch", each("--dns-search")},
	{"Volume", (*maker).volumes},
	{"Secret", each("--secret")},
	{"AuthFile", text("--authfile")},
	{"TLSVerify", choice("--tls-verify")},

	{"ForceRM", ignored("builds leave no containers behind")},
	{"Retry", ignored(ownRetries)},
	{"RetryDelay", ignored(ownRetries)},
	{"GroupAdd", refused("steps have the groups that the image gives their user")},
	{"ContainersConfModule", refused("cooper reads no containers.conf")},
}

// build makes the service of a .build file.
func (m *maker) build() error {
	if _, err := m.resource(); err != nil {
		return err
	}
	flags, err := m.arguments(buildKeys)
	if err != nil {
		return err
	}
	where, err := m.buildContext()
	if err != nil {
		return err
	}
	return m.oneshot("build", flags, where...)
}

// buildContext is the Dockerfile and the build context. SetWorkingDirectory says
// where the context is; else it is the working directory that [Service] has, or
// that of the Dockerfile.
func (m *maker) buildContext() ([]string, error) {
	own, service := m.own(), m.unit.section("Service")
	file, hasFile := own.last("File")
	remote := strings.HasPrefix(file.value, "http://") || strings.HasPrefix(file.value, "https://")
	name := file.value
	where, context := own.last("SetWorkingDirectory")
	dir := ""
	switch {
	case !context:
	case where.value == "unit":
		dir = filepath.Dir(m.source.Path)
	case where.value == "file" && (!hasFile || remote):
		return nil, where.errorf("SetWorkingDirectory=file needs File= with a path")
	case where.value == "file":
		dir = filepath.Dir(filepath.Join(filepath.Dir(m.source.Path), file.value))
		if filepath.IsAbs(file.value) {
			dir = filepath.Dir(file.value)
		}
		name = filepath.Join(dir, filepath.Base(file.value))
	case strings.Contains(where.value, "://") || strings.HasPrefix(where.value, "git@"):
		return buildArgs(name, where.value), nil
	default:
		return buildArgs(name, m.relative(where.value)), nil
	}
	if dir != "" {
		m.fallback(service, "WorkingDirectory", literalPath(dir))
		return buildArgs(name, "."), nil
	}
	if _, ok := service.last("WorkingDirectory"); ok {
		return buildArgs(name, "."), nil
	}
	if !hasFile || !filepath.IsAbs(name) {
		return nil, entry{path: m.source.Path, line: 1}.errorf("there is no build context: add SetWorkingDirectory=unit or File= with an absolute path")
	}
	return buildArgs(name, filepath.Dir(name)), nil
}

func buildArgs(file, context string) []string {
	if file == "" {
		return []string{context}
	}
	return []string{"-f", file, context}
}

func (m *maker) ignoreFile(values []entry) ([]string, error) {
	return []string{"--ignorefile", m.relative(values[len(values)-1].value)}, nil
}

// platform puts OS=, Arch= and Variant= together.
func (m *maker) platform(values []entry) ([]string, error) {
	own := m.own()
	platform := "linux/"
	if e, ok := own.last("OS"); ok {
		platform = e.value + "/"
	}
	platform += values[len(values)-1].value
	if e, ok := own.last("Variant"); ok {
		platform += "/" + e.value
	}
	return []string{"--platform", platform}, nil
}

// withArch refuses a key that Arch= is needed for; platform reads its value.
func (m *maker) withArch(values []entry) ([]string, error) {
	if _, ok := m.own().last("Arch"); !ok {
		return nil, values[0].errorf("%s= needs Arch= as well", values[0].key)
	}
	return nil, nil
}

// buildNetwork accepts the networks that steps of builds can have.
func (m *maker) buildNetwork(values []entry) ([]string, error) {
	e := values[len(values)-1]
	if e.value != "host" && e.value != "none" {
		return nil, e.errorf("Network=%s is not supported: steps of builds have the network host or none", e.value)
	}
	return []string{"--network", e.value}, nil
}

// imageKeys are the keys of [Image] in the order of the command line.
var imageKeys = []key{
	{"Image", nil}, {"ImageTag", nil},

	{"Arch", (*maker).platform},
	{"OS", (*maker).withArch},
	{"Variant", (*maker).withArch},
	{"AuthFile", text("--authfile")},
	{"CertDir", text("--cert-dir")},
	{"Creds", text("--creds")},
	{"TLSVerify", choice("--tls-verify")},

	{"Retry", ignored(ownRetries)},
	{"RetryDelay", ignored(ownRetries)},
	{"Policy", refused("the image is always looked for in its registry")},
	{"AllTags", refused("name each image in a file of its own")},
	{"DecryptionKey", refused("images can't be encrypted here")},
	{"ContainersConfModule", refused("cooper reads no containers.conf")},
}

// image makes the service of an .image file.
func (m *maker) image() error {
	image, ok := m.own().last("Image")
	if !ok {
		return entry{path: m.source.Path, line: 1}.errorf("[Image] needs Image=")
	}
	return m.creates("pull --progress=plain", imageKeys, image.value)
}

// creates makes a service that runs verb with what keys say, for a resource.
func (m *maker) creates(verb string, keys []key, resource string) error {
	flags, err := m.arguments(keys)
	if err != nil {
		return err
	}
	return m.oneshot(verb, flags, resource)
}

// oneshot makes a service that runs one command and then counts as active.
func (m *maker) oneshot(verb string, flags []string, operands ...string) error {
	command, err := m.commandLine(verb, flags, operands...)
	if err != nil {
		return err
	}
	service := m.unit.section("Service")
	m.fallback(service, "Type", "oneshot")
	m.fallback(service, "RemainAfterExit", "yes")
	m.fallback(service, "SyslogIdentifier", "%N")
	service.add("ExecStart", QuoteWords(command...))
	return nil
}

// networkKeys are the keys of [Network] in the order of the command line.
var networkKeys = []key{
	{"NetworkName", nil}, {"NetworkDeleteOnStop", nil},

	{"Driver", text("--driver")},
	{"Subnet", each("--subnet")},
	{"Gateway", each("--gateway")},
	{"IPRange", each("--ip-range")},
	{"IPv6", boolean("--ipv6")},
	{"Internal", boolean("--internal")},
	{"DisableDNS", boolean("--disable-dns")},
	{"Options", each("--opt")},
	{"Label", words("--label")},

	{"DNS", refused("give the containers name servers by DNS= in [Container]")},
	{"InterfaceName", text("--interface-name")},
	{"IPAMDriver", refused("addresses are given out by cooper")},
	{"ContainersConfModule", refused("cooper reads no containers.conf")},
}

// network makes the service of a .network file.
func (m *maker) network() error {
	name, err := m.resource()
	if err != nil {
		return err
	}
	if err := m.creates("network create --ignore", networkKeys, name); err != nil {
		return err
	}
	e, ok := m.own().last("NetworkDeleteOnStop")
	if !ok {
		return nil
	}
	if remove, err := parseBool(e); err != nil || !remove {
		return err
	}
	command, err := m.command("network rm", name)
	m.unit.section("Service").add("ExecStopPost", QuoteWords(command...))
	return err
}

// volumeKeys are the keys of [Volume] in the order of the command line.
var volumeKeys = []key{
	{"VolumeName", nil}, {"Options", nil}, {"User", nil}, {"Group", nil}, {"UID", nil}, {"GID", nil},

	{"Driver", text("--driver")},
	{"Type", option("--opt", "type=")},
	{"Device", option("--opt", "device=")},
	{"Label", words("--label")},

	{"Copy", (*maker).copyUp},
	{"Image", refused("name the image in the container: Mount=type=image,source=IMAGE,destination=DIR")},
	{"ContainersConfModule", refused("cooper reads no containers.conf")},
}

// volume makes the service of a .volume file.
func (m *maker) volume() error {
	name, err := m.resource()
	if err != nil {
		return err
	}
	flags, err := m.arguments(volumeKeys)
	if err != nil {
		return err
	}
	var mount []string
	for _, k := range [][2]string{{"User", "uid="}, {"UID", "uid="}, {"Group", "gid="}, {"GID", "gid="}, {"Options", ""}} {
		if e, ok := m.own().last(k[0]); ok {
			mount = append(mount, k[1]+e.value)
		}
	}
	if len(mount) > 0 {
		flags = append(flags, "--opt", "o="+strings.Join(mount, ","))
	}
	return m.oneshot("volume create --ignore", flags, name)
}

// copyUp accepts the default.
func (m *maker) copyUp(values []entry) ([]string, error) {
	e := values[len(values)-1]
	on, err := parseBool(e)
	if err == nil && !on {
		err = e.errorf("Copy=false is not supported: use Volume=%s:DIR:nocopy in [Container]", m.name)
	}
	return nil, err
}
