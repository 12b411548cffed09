package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"cooper/layers"
	"cooper/run"
)

// containerFilter says which containers are meant. The zero value means all.
type containerFilter struct {
	// states says that one asks for states, and so for containers that do
	// not run as well.
	states bool
	// kinds are the filters by key: of most one has to match, of labels all.
	kinds map[string][]func(listed) bool
	// ancestors, before and since name things that have to be looked up.
	ancestors, before, since []string
}

// filterKeys are the keys of --filter, in alphabetical order; those of prune are
// label, label! and until.
var (
	filterKeys = []string{
		"ancestor", "before", "exited", "expose", "health", "id", "label", "name", "network", "publish", "restart-policy", "should-start-on-boot", "since", "status", "volume",
	}
	pruneKeys = []string{"label", "label!", "until"}
)

// parseContainerFilters reads --filter values, those of ps or those of prune.
func parseContainerFilters(values []string, prune bool) (*containerFilter, error) {
	f := &containerFilter{kinds: make(map[string][]func(listed) bool)}
	known := filterKeys
	if prune {
		known = pruneKeys
	}
	for _, v := range values {
		key, value, found := strings.Cut(v, "=")
		if key == "label" && strings.HasPrefix(value, "=") {
			return nil, fmt.Errorf("invalid filter %q: the label has no name", v)
		}
		if prune && found && strings.HasSuffix(key, "!") {
			key = strings.TrimSuffix(key, "!") + "!"
		}
		if !found || !slices.Contains(known, key) {
			return nil, fmt.Errorf("invalid filter %q: want KEY=VALUE with one of the keys %s", v, strings.Join(known, ", "))
		}
		if err := f.add(key, value); err != nil {
			return nil, fmt.Errorf("invalid filter %q: %w", v, err)
		}
	}
	return f, nil
}

// add adds one filter.
func (f *containerFilter) add(key, value string) error {
	switch key {
	case "ancestor":
		f.ancestors = append(f.ancestors, value)
		return nil
	case "before":
		f.before = append(f.before, value)
		return nil
	case "since":
		f.since = append(f.since, value)
		return nil
	}
	match, err := containerMatcher(key, value)
	if err != nil {
		return err
	}
	f.states = f.states || key == "status"
	f.kinds[key] = append(f.kinds[key], match)
	return nil
}

// containerMatcher makes a filter that needs nothing but the container.
func containerMatcher(key, value string) (func(listed) bool, error) {
	switch key {
	case "exited":
		code, err := strconv.Atoi(value)
		return func(c listed) bool { return c.state.Status == run.StatusExited && c.state.ExitCode == code }, err
	case "expose", "publish":
		return portMatcher(value, key == "expose")
	case "health":
		if !slices.Contains([]string{"starting", "healthy", "unhealthy", "none"}, value) {
			return nil, errors.New("want starting, healthy, unhealthy or none")
		}
		return func(c listed) bool { return healthOf(c.state) == value }, nil
	case "id":
		return func(c listed) bool { return strings.HasPrefix(c.options.ID, value) }, nil
	case "label", "label!":
		name, want, exact := strings.Cut(value, "=")
		return func(c listed) bool {
			got, has := c.options.Labels[name]
			return (has && (!exact || got == want)) == (key == "label")
		}, nil
	case "name":
		pattern, err := regexp.Compile(value)
		if err != nil {
			return nil, err
		}
		return func(c listed) bool {
			return pattern.MatchString(c.options.Name) || pattern.MatchString("/"+c.options.Name)
		}, nil
	case "network":
		return func(c listed) bool { return slices.Contains(networkNames(c.options), value) }, nil
	case "restart-policy":
		return func(c listed) bool { return cmp.Or(c.options.Restart.Name, "no") == value }, nil
	case "should-start-on-boot":
		want, err := strconv.ParseBool(value)
		return func(c listed) bool { return startsOnBoot(c) == want }, err
	case "status":
		known := []string{"created", "restarting", "running", "paused", "exited", "dead", "removing"}
		if !slices.Contains(known, value) {
			return nil, fmt.Errorf("want one of %s", strings.Join(known, ", "))
		}
		return func(c listed) bool { return c.state.Status == value }, nil
	case "until":
		limit, err := parseTime(value, time.Now())
		return func(c listed) bool { return c.options.Created.Before(limit) }, err
	default: // volume
		return func(c listed) bool { return mounts(c.options, value) }, nil
	}
}

// startsOnBoot reports whether docker's daemon would start c with the machine.
func startsOnBoot(c listed) bool {
	switch c.options.Restart.Name {
	case "always":
		return !c.state.Started.IsZero()
	case "unless-stopped":
		return !c.state.Started.IsZero() && !c.state.StoppedByUser
	}
	return false
}

func healthOf(st run.State) string {
	if st.Health == nil {
		return "none"
	}
	return st.Health.Status
}

// mounts reports whether a volume's name, or a path on the host or in the
// container, is that of a mount.
func mounts(o run.ContainerOptions, what string) bool {
	return slices.ContainsFunc(o.Mounts, func(m run.ContainerMount) bool {
		return m.Name == what || m.Source == what || m.Destination == what
	})
}

// portMatcher makes a filter of published or, too, of exposed ports.
func portMatcher(value string, exposed bool) (func(listed) bool, error) {
	wanted, err := parsePortRange(value)
	if err != nil {
		return nil, err
	}
	return func(c listed) bool {
		o := c.options
		if slices.ContainsFunc(o.Ports, func(p run.PortMapping) bool { return wanted(p.ContainerPort, p.Protocol) }) {
			return true
		}
		return exposed && slices.ContainsFunc(sortedPorts(o.Exposed), func(p portRange) bool { return wanted(p.first, p.protocol) })
	}, nil
}

// parsePortRange reads "80", "80/udp" or "8000-8080/tcp"; what it returns reports
// whether a port is in it.
func parsePortRange(value string) (func(port uint16, protocol string) bool, error) {
	numbers, protocol, found := strings.Cut(value, "/")
	if !found {
		protocol = "tcp"
	}
	from, to, isRange := strings.Cut(numbers, "-")
	if !isRange {
		to = from
	}
	low, err := strconv.ParseUint(from, 10, 16)
	if err != nil {
		return nil, errors.New("want PORT[-PORT][/PROTOCOL]")
	}
	high, err := strconv.ParseUint(to, 10, 16)
	if err != nil || high < low {
		return nil, errors.New("want PORT[-PORT][/PROTOCOL]")
	}
	return func(port uint16, p string) bool { return p == protocol && uint64(port) >= low && uint64(port) <= high }, nil
}

// resolve looks up what ancestor, before and since name.
func (f *containerFilter) resolve(ctx context.Context, e *Env, all []listed) error {
	for _, side := range []struct {
		names []string
		want  int
	}{{f.before, -1}, {f.since, 1}} {
		for _, name := range side.names {
			i := slices.IndexFunc(all, func(c listed) bool {
				return c.options.Name == strings.TrimPrefix(name, "/") || strings.HasPrefix(c.options.ID, name)
			})
			if i < 0 {
				return fmt.Errorf("%w: %s", run.ErrNoContainer, name)
			}
			mark := all[i].options.Created
			f.kinds["made"+name] = append(f.kinds["made"+name], func(c listed) bool { return c.options.Created.Compare(mark) == side.want })
		}
	}
	if len(f.ancestors) == 0 {
		return nil
	}
	store, err := e.Store(ctx)
	if err != nil {
		return err
	}
	for _, name := range f.ancestors {
		match, err := ancestorMatcher(store, name)
		if err != nil {
			return err
		}
		f.kinds["ancestor"] = append(f.kinds["ancestor"], match)
	}
	return nil
}

// ancestorMatcher finds containers of an image, or of one made on top of it. The
// image may be gone: then its name as it was given counts.
func ancestorMatcher(store *layers.Store, name string) (func(listed) bool, error) {
	image, err := store.Image(name)
	if errors.Is(err, layers.ErrNotFound) {
		return func(c listed) bool { return c.options.Image == name }, nil
	}
	if err != nil {
		return nil, err
	}
	descends := make(map[string]bool)
	return func(c listed) bool {
		id := c.options.ImageID
		known, seen := descends[id]
		if !seen {
			known = id == image.ID || standsOn(store, id, image)
			descends[id] = known
		}
		return known
	}, nil
}

// standsOn reports whether the image with this ID has all layers of base below
// its own.
func standsOn(store *layers.Store, id string, base layers.Image) bool {
	image, err := store.Image(id)
	if err != nil || base.Layer == "" {
		return false
	}
	chain, err := store.Chain(image.Layer)
	return err == nil && slices.ContainsFunc(chain, func(l layers.Layer) bool { return l.ID == base.Layer })
}

// match reports whether a container is meant.
func (f *containerFilter) match(c listed) bool {
	for key, some := range f.kinds {
		passes := func(m func(listed) bool) bool { return m(c) }
		if strings.HasPrefix(key, "label") {
			if slices.ContainsFunc(some, func(m func(listed) bool) bool { return !m(c) }) {
				return false
			}
		} else if !slices.ContainsFunc(some, passes) {
			return false
		}
	}
	return true
}

// parseTime reads a moment as docker's --since and --until do: a duration before
// now ("10m", "1h30m"), a Unix time with or without a fraction, or a date with as
// much of the time of day as one likes, in the local zone unless it has one.
func parseTime(text string, now time.Time) (time.Time, error) {
	if d, err := time.ParseDuration(text); err == nil {
		return now.Add(-d), nil
	}
	if seconds, fraction, _ := strings.Cut(text, "."); seconds != "" && strings.Trim(seconds+fraction, "0123456789") == "" {
		s, err := strconv.ParseInt(seconds, 10, 64)
		if err != nil || len(fraction) > 9 {
			return time.Time{}, fmt.Errorf("invalid time %q", text)
		}
		ns, err := strconv.ParseInt((fraction + "000000000")[:9], 10, 64)
		return time.Unix(s, ns), err
	}
	for _, layout := range []string{
		time.RFC3339Nano, "2006-01-02T15:04:05.999999999", "2006-01-02T15:04", "2006-01-02T15", "2006-01-02",
		"2006-01-02Z07:00", "2006-01-02T15:04Z07:00", "2006-01-02 15:04:05", "2006-01-02 15:04:05 -0700 MST",
	} {
		if t, err := time.ParseInLocation(layout, text, time.Local); err == nil {
			return t, nil
		}
	}
	return time.Time{}, fmt.Errorf("invalid time %q: want a duration such as 10m, a date such as 2006-01-02T15:04:05, or seconds since 1970", text)
}
