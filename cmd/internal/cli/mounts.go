package cli

import (
	"errors"
	"fmt"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"cooper/run"
)

// mountFlags are the flags about what is mounted in a container.
type mountFlags struct {
	volumes, mounts, tmpfs []string
	volumesFrom            []string
	volumeDriver           string
}

func (f *mountFlags) declare(fs *pflag.FlagSet) {
	fs.StringArrayVarP(&f.volumes, "volume", "v", nil, "Mount a directory, file or volume: `[SOURCE:]DESTINATION[:OPTIONS]` (repeatable)")
	fs.StringArrayVar(&f.mounts, "mount", nil, "Mount `SPEC`: type=bind, volume, tmpfs or image, source=, target=, readonly and more, separated by commas (repeatable)")
	fs.StringArrayVar(&f.tmpfs, "tmpfs", nil, "Mount a tmpfs: `DESTINATION[:OPTIONS]` (repeatable)")
	fs.StringArrayVar(&f.volumesFrom, "volumes-from", nil, "Mount what `CONTAINER[:ro]` has mounted (repeatable)")
	fs.StringVar(&f.volumeDriver, "volume-driver", "", "Make volumes with `DRIVER` (local)")
}

// list reads the flags.
func (f *mountFlags) list() ([]run.ContainerMount, error) {
	if f.volumeDriver != "" && f.volumeDriver != "local" {
		return nil, fmt.Errorf("volume driver %q is not there: use local", f.volumeDriver)
	}
	var list []run.ContainerMount
	for _, flag := range []struct {
		values []string
		parse  func(string) (run.ContainerMount, error)
	}{{f.volumes, parseVolume}, {f.mounts, parseMount}, {f.tmpfs, parseTmpfs}} {
		for _, s := range flag.values {
			m, err := flag.parse(s)
			if err != nil {
				return nil, err
			}
			m.Destination = path.Clean(m.Destination)
			if covers(list, m.Destination) {
				return nil, fmt.Errorf("duplicate mount point: %s", m.Destination)
			}
			list = append(list, m)
		}
	}
	return list, nil
}

// covers reports whether something in list is mounted at dest.
func covers(list []run.ContainerMount, dest string) bool {
	return slices.ContainsFunc(list, func(m run.ContainerMount) bool { return m.Destination == dest })
}

// parseVolume reads a value of -v: [SOURCE:]DESTINATION[:OPTIONS].
func parseVolume(s string) (run.ContainerMount, error) {
	fail := func(format string, args ...any) (run.ContainerMount, error) {
		return run.ContainerMount{}, fmt.Errorf("invalid volume %q: %w", s, fmt.Errorf(format, args...))
	}
	parts := strings.Split(s, ":")
	if slices.Contains(parts, "") {
		return fail("want [SOURCE:]DESTINATION[:OPTIONS], no part empty")
	}
	m := run.ContainerMount{Type: "volume"}
	switch len(parts) {
	case 1:
		m.Destination = parts[0]
	case 2, 3:
		m.Destination = parts[1]
		if isPath(parts[0]) {
			source, err := filepath.Abs(parts[0])
			if err != nil {
				return fail("%w", err)
			}
			m.Type, m.Source, m.MakeSource = "bind", source, true
		} else if err := run.CheckVolumeName(parts[0]); err != nil {
			return fail("%w; for a directory write ./%s", err, parts[0])
		} else {
			m.Name = parts[0]
		}
	default:
		return fail("want [SOURCE:]DESTINATION[:OPTIONS]")
	}
	if err := checkDestination(m.Destination); err != nil {
		return fail("%w", err)
	}
	if len(parts) == 3 {
		for o := range strings.SplitSeq(parts[2], ",") {
			if err := volumeOption(&m, o); err != nil {
				return fail("%w", err)
			}
		}
	}
	return m, nil
}

// isPath reports whether the source of -v is a path, else it is a volume's name.
func isPath(source string) bool {
	return strings.HasPrefix(source, "/") || strings.HasPrefix(source, ".")
}

// checkDestination refuses what cannot be a mount point.
func checkDestination(dest string) error {
	switch {
	case dest == "":
		return errors.New("target is required")
	case !path.IsAbs(dest):
		return fmt.Errorf("the destination %q is not an absolute path", dest)
	case path.Clean(dest) == "/":
		return errors.New("the destination can't be /")
	}
	return nil
}

// volumeOption applies one option of -v. Those about labels and caches have no
// meaning here; they are taken and ignored.
func volumeOption(m *run.ContainerMount, o string) error {
	switch o {
	case "ro", "rw", "exec", "noexec", "suid", "nosuid", "dev", "nodev", "bind", "rbind":
		m.Options = append(m.Options, o)
	case "readonly":
		m.Options = append(m.Options, "ro")
	case "shared", "slave", "private", "rshared", "rslave", "rprivate":
		if m.Type != "bind" {
			return fmt.Errorf("option %q is for directories and files of the host, not for volumes", o)
		}
		m.Options = append(m.Options, o)
	case "nocopy":
		if m.Type != "volume" {
			return errors.New("option \"nocopy\" is for volumes")
		}
		m.NoCopy = true
	case "U":
		m.Chown = true
	case "O":
		m.Overlay = true
	case "z", "Z", "consistent", "cached", "delegated", "copy":
	case "idmap":
		return fmt.Errorf("option %q is not possible here; U gives the files to the container's user", o)
	default:
		return fmt.Errorf("unknown option %q", o)
	}
	return nil
}

// parseTmpfs reads a value of --tmpfs: DESTINATION[:OPTIONS].
func parseTmpfs(s string) (run.ContainerMount, error) {
	dest, options, _ := strings.Cut(s, ":")
	if err := checkDestination(dest); err != nil {
		return run.ContainerMount{}, fmt.Errorf("invalid tmpfs %q: %w", s, err)
	}
	m := run.ContainerMount{Type: "tmpfs", Destination: dest}
	if options != "" {
		m.Options = strings.Split(options, ",")
	}
	return m, nil
}
