package cli

import (
	"encoding/csv"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/docker/go-units"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// mountRequest is a mount that the user asked for.
type mountRequest struct {
	specs.Mount
	// anonymous: a fresh volume, filled from the image; Source is empty.
	anonymous bool
	// makeSource: a missing source directory is made, as docker does for -v.
	makeSource bool
}

// parseVolume reads a value of -v: [SOURCE:]DESTINATION[:OPTIONS].
func parseVolume(s string) (mountRequest, error) {
	fail := func(format string, args ...any) (mountRequest, error) {
		return mountRequest{}, fmt.Errorf("invalid volume %q: %w", s, fmt.Errorf(format, args...))
	}
	parts := strings.Split(s, ":")
	if slices.Contains(parts, "") {
		return fail("want SOURCE:DESTINATION[:OPTIONS], no part empty")
	}
	var m mountRequest
	switch len(parts) {
	case 1:
		m = mountRequest{Mount: specs.Mount{Type: "bind", Destination: parts[0]}, anonymous: true}
	case 2, 3:
		source, err := bindSource(parts[0])
		if err != nil {
			return fail("%w", err)
		}
		m = mountRequest{
			Mount:      specs.Mount{Type: "bind", Source: source, Destination: parts[1], Options: []string{"rbind"}},
			makeSource: true,
		}
		if len(parts) == 3 {
			if m.Options, err = bindOptions(parts[2]); err != nil {
				return fail("%w", err)
			}
		}
	default:
		return fail("want SOURCE:DESTINATION[:OPTIONS]")
	}
	if err := checkDestination(m.Destination); err != nil {
		return fail("%w", err)
	}
	return m, nil
}

// bindSource makes the source of a bind mount absolute. What is no path would
// be a named volume.
func bindSource(source string) (string, error) {
	if !strings.HasPrefix(source, "/") && !strings.HasPrefix(source, ".") && !strings.HasPrefix(source, "~/") {
		return "", fmt.Errorf("named volumes are not supported yet; for a directory write ./%s", source)
	}
	return filepath.Abs(source)
}

// checkDestination refuses what cannot be a mount point.
func checkDestination(dest string) error {
	if !path.IsAbs(dest) {
		return fmt.Errorf("the destination %q is not an absolute path", dest)
	}
	if path.Clean(dest) == "/" {
		return errors.New("the destination can't be /")
	}
	return nil
}

// bindOptions reads the third part of a -v value into mount options. Options
// about labels and caches, which have no meaning here, are taken and ignored.
func bindOptions(s string) ([]string, error) {
	options := []string{"rbind"}
	for o := range strings.SplitSeq(s, ",") {
		switch o {
		case "ro", "rw", "shared", "slave", "private", "rshared", "rslave", "rprivate",
			"exec", "noexec", "suid", "nosuid", "dev", "nodev":
			options = append(options, o)
		case "bind":
			options[0] = "bind"
		case "rbind":
		case "z", "Z", "consistent", "cached", "delegated", "nocopy":
		case "readonly":
			options = append(options, "ro")
		case "U", "O", "copy", "idmap":
			return nil, fmt.Errorf("option %q is not supported yet", o)
		default:
			return nil, fmt.Errorf("unknown option %q", o)
		}
	}
	return options, nil
}

// parseTmpfs reads a value of --tmpfs: DESTINATION[:OPTIONS].
func parseTmpfs(s string) (specs.Mount, error) {
	dest, options, _ := strings.Cut(s, ":")
	if err := checkDestination(dest); err != nil {
		return specs.Mount{}, fmt.Errorf("invalid tmpfs %q: %w", s, err)
	}
	m := specs.Mount{Type: "tmpfs", Source: "tmpfs", Destination: dest, Options: []string{"noexec", "nosuid", "nodev"}}
	if options != "" {
		m.Options = append(m.Options, strings.Split(options, ",")...)
	}
	return m, nil
}

// parseMount reads a value of --mount: KEY=VALUE,... with docker's keys.
func parseMount(s string) (mountRequest, error) {
	fail := func(format string, args ...any) (mountRequest, error) {
		return mountRequest{}, fmt.Errorf("invalid mount %q: %w", s, fmt.Errorf(format, args...))
	}
	fields, err := csv.NewReader(strings.NewReader(s)).Read()
	if err != nil {
		return fail("%w", err)
	}
	kind, source, rec := "volume", "", "rbind"
	var m mountRequest
	for _, field := range fields {
		key, value, found := strings.Cut(field, "=")
		switch key = strings.ToLower(key); key {
		case "type":
			kind = value
		case "source", "src":
			source = value
		case "target", "destination", "dst":
			m.Destination = value
		case "readonly", "ro", "rw":
			on := true
			if found {
				if on, err = strconv.ParseBool(value); err != nil {
					return fail("%s: want true or false", key)
				}
			}
			if on == (key != "rw") {
				m.Options = append(m.Options, "ro")
			}
		case "bind-propagation":
			m.Options = append(m.Options, value)
		case "bind-nonrecursive":
			rec = "bind"
		case "tmpfs-size":
			n, err := units.RAMInBytes(value)
			if err != nil {
				return fail("%s: %w", key, err)
			}
			m.Options = append(m.Options, "size="+strconv.FormatInt(n, 10))
		case "tmpfs-mode":
			if _, err := strconv.ParseUint(value, 8, 12); err != nil {
				return fail("%s: want an octal mode", key)
			}
			m.Options = append(m.Options, "mode="+value)
		case "consistency", "volume-nocopy", "relabel":
		default:
			return fail("unknown key %q", key)
		}
	}
	if err := checkDestination(m.Destination); err != nil {
		return fail("%w", err)
	}
	return m.finish(kind, source, rec, fail)
}

// finish fills in what depends on the type of a --mount.
func (m mountRequest) finish(kind, source, rec string, fail func(string, ...any) (mountRequest, error)) (mountRequest, error) {
	switch kind {
	case "bind":
		if source == "" {
			return fail("a bind mount needs source=")
		}
		abs, err := filepath.Abs(source)
		if err != nil {
			return fail("%w", err)
		}
		m.Type, m.Source = "bind", abs
		m.Options = append([]string{rec}, m.Options...)
	case "tmpfs":
		if source != "" {
			return fail("a tmpfs has no source")
		}
		m.Type, m.Source = "tmpfs", "tmpfs"
		m.Options = append([]string{"noexec", "nosuid", "nodev"}, m.Options...)
	case "volume":
		if source != "" {
			return fail("named volumes are not supported yet; for a directory use type=bind")
		}
		m.Type, m.anonymous = "bind", true
	default:
		return fail("type %q is not supported: use bind, tmpfs or volume", kind)
	}
	return m, nil
}

// prepareSource checks the source of a bind mount, or makes it where docker
// would.
func (m *mountRequest) prepareSource() error {
	if m.Type != "bind" || m.anonymous {
		return nil
	}
	_, err := os.Stat(m.Source)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, os.ErrNotExist) && m.makeSource:
		return os.MkdirAll(m.Source, 0o755)
	case errors.Is(err, os.ErrNotExist):
		return fmt.Errorf("bind source path does not exist: %s", m.Source)
	}
	return fmt.Errorf("bind source: %w", err)
}
