package quadlet

import (
	"slices"
	"strings"
)

const (
	noPods      = "cooper has no pods; put the containers on a .network of their own"
	noMapping   = "use UserNS= or UIDMap= and GIDMap="
	noStartup   = "use HealthStartPeriod= to give the program time to start"
	noSecrets   = "cooper keeps no secrets; mount a file with Volume=, or use EnvironmentFile="
	ownRetries  = "cooper tries pulls again by itself"
	noHealthLog = "cooper inspect shows the last five checks, 4096 bytes of each"
)

// containerKeys are the keys of [Container] in the order of the command line.
var containerKeys = []key{
	{"Image", nil}, {"Rootfs", nil}, {"Exec", nil}, {"ContainerName", nil}, {"Notify", nil},
	{"ReloadCmd", nil}, {"ReloadSignal", nil}, {"ReadOnlyTmpfs", nil},

	{"Pull", text("--pull")},
	{"Entrypoint", text("--entrypoint")}, // an empty one: see container
	{"Environment", words("--env")},
	{"EnvironmentFile", (*maker).environmentFiles},
	{"EnvironmentHost", boolean("--env-host")},
	{"HttpProxy", choice("--http-proxy")},
	{"WorkingDir", text("--workdir")},
	{"User", (*maker).user},
	{"Group", (*maker).withUser},
	{"GroupAdd", each("--group-add")},
	{"Umask", text("--umask")},
	{"HostName", text("--hostname")},
	{"AddHost", each("--add-host")},
	{"DNS", each("--dns")},
	{"DNSOption", each("--dns-option")},
	{"DNSSearch", each("--dns-search")},
	{"Network", (*maker).networks},
	{"NetworkAlias", each("--network-alias")},
	{"IP", text("--ip")},
	{"IP6", text("--ip6")},
	{"PublishPort", each("--publish")},
	{"ExposeHostPort", each("--expose")},
	{"Volume", (*maker).volumes},
	{"Mount", (*maker).mountSpecs},
	{"Tmpfs", each("--tmpfs")},
	{"VolatileTmp", (*maker).volatileTmp},
	{"ReadOnly", (*maker).readOnly},
	{"AddDevice", (*maker).devices},
	{"ShmSize", text("--shm-size")},
	{"Memory", text("--memory")},
	{"PidsLimit", text("--pids-limit")},
	{"Ulimit", each("--ulimit")},
	{"Sysctl", words("--sysctl")},
	{"CgroupsMode", (*maker).cgroupsMode},
	{"AddCapability", words("--cap-add")},
	{"DropCapability", words("--cap-drop")},
	{"NoNewPrivileges", boolean("--security-opt", "no-new-privileges")},
	{"SeccompProfile", option("--security-opt", "seccomp=")},
	{"SecurityLabelDisable", boolean("--security-opt", "label=disable")},
	{"SecurityLabelFileType", option("--security-opt", "label=filetype:")},
	{"SecurityLabelLevel", option("--security-opt", "label=level:")},
	{"SecurityLabelNested", boolean("--security-opt", "label=nested")},
	{"SecurityLabelType", option("--security-opt", "label=type:")},
	{"AppArmor", option("--security-opt", "apparmor=")},
	{"Mask", option("--security-opt", "mask=")},
	{"Unmask", option("--security-opt", "unmask=")},
	{"UserNS", text("--userns")},
	{"UIDMap", each("--uidmap")},
	{"GIDMap", each("--gidmap")},
	{"SubUIDMap", text("--subuidname")},
	{"SubGIDMap", text("--subgidname")},
	{"RunInit", boolean("--init")},
	{"StopSignal", text("--stop-signal")},
	{"StopTimeout", text("--stop-timeout")},
	{"Timezone", text("--tz")},
	{"LogDriver", text("--log-driver")},
	{"LogOpt", each("--log-opt")},
	{"Label", words("--label")},
	{"Annotation", words("--annotation")},
	{"HealthCmd", text("--health-cmd")},
	{"HealthInterval", text("--health-interval")},
	{"HealthTimeout", text("--health-timeout")},
	{"HealthRetries", text("--health-retries")},
	{"HealthStartPeriod", text("--health-start-period")},

	{"AutoUpdate", ignored("nothing in cooper updates containers by itself")},
	{"Retry", ignored(ownRetries)},
	{"RetryDelay", ignored(ownRetries)},
	{"HealthLogDestination", ignored(noHealthLog)},
	{"HealthMaxLogCount", ignored(noHealthLog)},
	{"HealthMaxLogSize", ignored(noHealthLog)},
	{"HealthOnFailure", (*maker).onUnhealthy},
	{"ImageVolume", (*maker).imageVolume},
	{"HealthStartupCmd", refused(noStartup)},
	{"HealthStartupInterval", refused(noStartup)},
	{"HealthStartupRetries", refused(noStartup)},
	{"HealthStartupSuccess", refused(noStartup)},
	{"HealthStartupTimeout", refused(noStartup)},
	{"ContainersConfModule", refused("cooper reads no containers.conf")},
	{"RemapUsers", refused(noMapping)},
	{"RemapUid", refused(noMapping)},
	{"RemapGid", refused(noMapping)},
	{"RemapUidSize", refused(noMapping)},
	{"Pod", refused(noPods)},
	{"StartWithPod", refused(noPods)},
	{"Secret", refused(noSecrets)},
}

// container makes the service of a .container file.
func (m *maker) container() error {
	own, service := m.own(), m.unit.section("Service")
	name, err := m.resource()
	if err != nil {
		return err
	}
	oneshot, err := serviceType(service)
	if err != nil {
		return err
	}
	lifetime, err := m.lifetime(own, oneshot)
	if err != nil {
		return err
	}
	flags, err := m.arguments(containerKeys)
	if err != nil {
		return err
	}
	what, err := m.program(own)
	if err != nil {
		return err
	}
	args := slices.Concat([]string{"--name", name, "--replace", "--rm"}, lifetime, flags)
	if own.cleared("Entrypoint") {
		args = append(args, "--entrypoint", "")
	}
	command, err := m.commandLine("run", args, what...)
	if err != nil {
		return err
	}
	if err := m.reload(own, service, name); err != nil {
		return err
	}
	if err := m.ending(service, name); err != nil {
		return err
	}
	m.fallback(service, "KillMode", "mixed")
	m.fallback(service, "Delegate", "yes")
	m.fallback(service, "SuccessExitStatus", EndedBySignal)
	if !oneshot {
		m.fallback(service, "Type", "notify")
		m.fallback(service, "NotifyAccess", "all")
	}
	m.fallback(service, "SyslogIdentifier", "%N")
	service.add("ExecStart", QuoteWords(command...))
	return nil
}

// ending stops and removes the container. systemd runs both commands also when
// it has ended by itself and is gone: they may fail.
func (m *maker) ending(service *section, name string) error {
	stop, err := m.command("stop", name)
	if err != nil {
		return err
	}
	remove, err := m.command("rm", "-f", "-v", name)
	if err != nil {
		return err
	}
	service.add("ExecStop", "-"+QuoteWords(stop...))
	service.add("ExecStopPost", "-"+QuoteWords(remove...))
	return nil
}

// EndedBySignal are the exit statuses of containers that were stopped, by SIGINT and
// SIGTERM, as SuccessExitStatus= has them: no failures, as those signals are none
// for services without containers.
const EndedBySignal = "130 143"

// serviceType reports whether the container is one that ends by itself, which
// Type=oneshot says.
func serviceType(service *section) (oneshot bool, err error) {
	e, ok := service.last("Type")
	switch {
	case ok && e.value == "oneshot":
		return true, nil
	case ok && e.value != "notify":
		return false, e.errorf("invalid Type=%s: want notify, the default, or oneshot for a container that ends by itself", e.value)
	}
	return false, nil
}

// lifetime are the flags that let systemd follow the container.
func (m *maker) lifetime(own *section, oneshot bool) ([]string, error) {
	if oneshot {
		return nil, nil
	}
	mode := "conmon"
	if e, ok := own.last("Notify"); ok && e.value == "healthy" {
		mode = "healthy"
	} else if ok {
		inside, err := parseBool(e)
		if err != nil {
			return nil, e.errorf("invalid Notify=%s: want true, false or healthy", e.value)
		}
		if inside {
			mode = "container"
		}
	}
	return []string{"-d", "--sdnotify=" + mode}, nil
}

// program is the image or root directory, and the command in it.
func (m *maker) program(own *section) ([]string, error) {
	image, hasImage := own.last("Image")
	rootfs, hasRootfs := own.last("Rootfs")
	var args []string
	switch {
	case hasImage && hasRootfs:
		return nil, rootfs.errorf("Rootfs= and Image= exclude each other")
	case hasRootfs:
		args = []string{"--rootfs", m.relative(rootfs.value)}
	case hasImage:
		name, err := m.imageName(image)
		if err != nil {
			return nil, err
		}
		args = []string{name}
	default:
		return nil, entry{path: m.source.Path, line: 1}.errorf("[Container] needs Image= or Rootfs=")
	}
	if e, ok := own.last("Exec"); ok {
		command, err := SplitWords(e.value)
		if err != nil {
			return nil, e.errorf("Exec=: %w", err)
		}
		args = append(args, command...)
	}
	return args, nil
}

// imageName is the image that an entry names, itself or by a quadlet file.
func (m *maker) imageName(e entry) (string, error) {
	if strings.HasSuffix(e.value, ".image") || strings.HasSuffix(e.value, ".build") {
		return m.need(e, e.value)
	}
	return e.value, nil
}

// reload makes what systemctl reload does.
func (m *maker) reload(own, service *section, name string) error {
	command, hasCommand := own.last("ReloadCmd")
	signal, hasSignal := own.last("ReloadSignal")
	var args []string
	var err error
	switch {
	case hasCommand && hasSignal:
		return signal.errorf("ReloadSignal= and ReloadCmd= exclude each other")
	case hasSignal:
		args, err = m.command("kill", "--signal", signal.value, name)
	case hasCommand:
		var inside []string
		if inside, err = SplitWords(command.value); err != nil {
			return command.errorf("ReloadCmd=: %w", err)
		}
		args, err = m.command("exec", append([]string{name}, inside...)...)
	}
	if err == nil && args != nil {
		service.add("ExecReload", QuoteWords(args...))
	}
	return err
}

// user puts User= and Group= together.
func (m *maker) user(values []entry) ([]string, error) {
	user := values[len(values)-1].value
	if g, ok := m.own().last("Group"); ok {
		user += ":" + g.value
	}
	return []string{"--user", user}, nil
}

// withUser refuses a group without a user; user reads its value.
func (m *maker) withUser(values []entry) ([]string, error) {
	if _, ok := m.own().last("User"); !ok {
		return nil, values[0].errorf("Group= needs User= as well")
	}
	return nil, nil
}

// environmentFiles reads files relative to the quadlet file.
func (m *maker) environmentFiles(values []entry) ([]string, error) {
	var args []string
	for _, e := range values {
		name, optional := strings.CutPrefix(e.value, "-")
		if name = m.relative(name); optional && !m.exists(name) {
			continue
		}
		args = append(args, "--env-file", name)
	}
	return args, nil
}

func (m *maker) exists(path string) bool {
	return m.o.Exists != nil && m.o.Exists(strings.ReplaceAll(strings.ReplaceAll(path, "%%", "%"), "$$", "$"))
}

// devices leaves out those with a - before them that are not there.
func (m *maker) devices(values []entry) ([]string, error) {
	var args []string
	for _, e := range values {
		device, optional := strings.CutPrefix(e.value, "-")
		if host, _, _ := strings.Cut(device, ":"); optional && !m.exists(host) {
			continue
		}
		args = append(args, "--device", device)
	}
	return args, nil
}

// cgroupsMode accepts what comes to what cooper does anyway: the monitor in the
// service's cgroup, the container in one below it.
func (m *maker) cgroupsMode(values []entry) ([]string, error) {
	e := values[len(values)-1]
	if e.value == "split" {
		return nil, nil
	}
	return nil, e.errorf("CgroupsMode=%s is not supported: containers have a cgroup below their service's (split)", e.value)
}

// onUnhealthy accepts what cooper does anyway.
func (m *maker) onUnhealthy(values []entry) ([]string, error) {
	e := values[len(values)-1]
	if e.value == "none" {
		return nil, nil
	}
	return nil, e.errorf("HealthOnFailure=%s is not supported: an unhealthy container stays", e.value)
}

// imageVolume accepts what cooper does anyway.
func (m *maker) imageVolume(values []entry) ([]string, error) {
	e := values[len(values)-1]
	if e.value == "anonymous" || e.value == "bind" {
		return nil, nil
	}
	return nil, e.errorf("ImageVolume=%s is not supported: what the image declares becomes a volume; use Tmpfs= or Volume= for those paths", e.value)
}

// networks gives --network the networks that .network files make, and the
// containers of .container files.
func (m *maker) networks(values []entry) ([]string, error) {
	var args []string
	for _, e := range values {
		name, options, hasOptions := strings.Cut(e.value, ":")
		switch {
		case strings.HasSuffix(name, ".network"):
			resource, err := m.need(e, name)
			if err != nil {
				return nil, err
			}
			name = resource
		case strings.HasSuffix(name, ".container"):
			resource, err := m.need(e, name)
			if err != nil {
				return nil, err
			}
			if hasOptions {
				return nil, e.errorf("Network=%s: the network of another container takes no options", e.value)
			}
			name = "container:" + resource
		}
		if hasOptions {
			name += ":" + options
		}
		args = append(args, "--network", name)
	}
	return args, nil
}
