package cli

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/docker/go-units"

	"cooper/layers"
	"cooper/run"
)

// containers opens the store's containers.
func (e *Env) containers(ctx context.Context) (*run.Containers, error) {
	store, err := e.Store(ctx)
	if err != nil {
		return nil, err
	}
	cs, err := run.OpenContainers(store)
	if err != nil {
		return nil, err
	}
	cs.Warn = func(text string) { fmt.Fprintf(e.Stderr, "WARNING: %s\n", text) }
	return cs, nil
}

// eachContainer calls do for the named containers, in their order, and prints the
// name of each with which it went well, as docker does. An error with one does
// not keep it from the others. With ignore, names that no container has are no
// error.
func (e *Env) eachContainer(ctx context.Context, names []string, ignore bool, do func(*run.Container) error) error {
	cs, err := e.containers(ctx)
	if err != nil {
		return err
	}
	var errs []error
	for _, name := range names {
		c, err := cs.Find(name)
		if err == nil {
			err = do(c)
		}
		if err == nil {
			_, err = fmt.Fprintln(e.Stdout, name)
		}
		if ignore && errors.Is(err, run.ErrNoContainer) {
			err = nil
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// labelSet are labels; as text they are separated by commas.
type labelSet map[string]string

func (l labelSet) String() string {
	words := make([]string, 0, len(l))
	for _, name := range slices.Sorted(maps.Keys(l)) {
		words = append(words, name+"="+l[name])
	}
	return strings.Join(words, ",")
}

// MarshalText makes the labels one string in JSON, as docker has it.
func (l labelSet) MarshalText() ([]byte, error) { return []byte(l.String()), nil }

// containerRow is a line of ps: docker's fields.
type containerRow map[string]any

// Label returns the value of one label, for templates.
func (r containerRow) Label(name string) string {
	labels, _ := r["Labels"].(labelSet)
	return labels[name]
}

// containerUse is what takes time to find out and only some ask for: the bytes
// that a container wrote, and those with its image's.
type containerUse struct{ written, virtual int64 }

func (u containerUse) String() string {
	return fmt.Sprintf("%s (virtual %s)", humanSize(u.written), humanSize(u.virtual))
}

// newContainerRow describes a container as ps does.
func newContainerRow(o run.ContainerOptions, st run.State, now time.Time, noTrunc bool) containerRow {
	id, command := o.ID, commandText(o.Config.Args)
	if !noTrunc {
		id, command = shortID(id), ellipsis(command, 20)
	}
	names, volumes := mountNames(o.Mounts, noTrunc)
	return containerRow{
		"ID":           id,
		"Image":        shownImage(o, noTrunc),
		"Command":      fmt.Sprintf("%q", command),
		"CreatedAt":    o.Created.Local().Format("2006-01-02 15:04:05 -0700 MST"),
		"RunningFor":   ago(now, o.Created),
		"Ports":        portsText(o, st),
		"State":        st.Status,
		"Status":       statusText(st, now),
		"Size":         "0B",
		"Names":        o.Name,
		"Labels":       labelSet(o.Labels),
		"Mounts":       strings.Join(names, ","),
		"LocalVolumes": fmt.Sprint(volumes),
		"Networks":     strings.Join(networkNames(o), ","),
	}
}

// commandText is a command line as ps shows it: arguments with spaces are quoted.
func commandText(args []string) string {
	words := slices.Clone(args)
	for i, word := range words {
		if i > 0 && strings.Contains(word, " ") {
			words[i] = "'" + word + "'"
		}
	}
	return strings.Join(words, " ")
}

// shownImage is the image as ps shows it.
func shownImage(o run.ContainerOptions, noTrunc bool) string {
	switch {
	case o.Rootfs != "":
		return o.Rootfs
	case !noTrunc && o.Image == o.ImageID:
		return shortID(o.ImageID)
	}
	return o.Image
}

// ellipsis cuts s to n letters, the last of which then says so.
func ellipsis(s string, n int) string {
	if r := []rune(s); len(r) > n {
		return string(r[:n-1]) + "…"
	}
	return s
}

// mountNames are what is mounted, by name or source, and how many of it are
// volumes.
func mountNames(mounts []run.ContainerMount, noTrunc bool) (names []string, volumes int) {
	for _, m := range mounts {
		name := m.Source
		if m.Type == "volume" {
			volumes++
			name = m.Name
		}
		if name == "" {
			continue
		}
		if !noTrunc {
			name = ellipsis(name, 15)
		}
		names = append(names, name)
	}
	return names, volumes
}

// networkNames are the networks that a container is on, the first is that of its
// default route.
func networkNames(o run.ContainerOptions) []string {
	var names []string
	for _, n := range o.Networks {
		names = append(names, n.Network)
	}
	if len(names) == 0 && !o.Disconnected {
		names = append(names, o.NetworkMode)
	}
	return names
}

// statusText is docker's text of a state: "Up 2 minutes (healthy)".
func statusText(st run.State, now time.Time) string {
	since := func(t time.Time) string { return units.HumanDuration(now.Sub(t)) }
	switch st.Status {
	case run.StatusCreated:
		return "Created"
	case run.StatusDead:
		return "Dead"
	case run.StatusExited:
		return fmt.Sprintf("Exited (%d) %s ago", st.ExitCode, since(st.Finished))
	case run.StatusRestarting:
		return fmt.Sprintf("Restarting (%d) %s ago", st.ExitCode, since(st.Finished))
	case run.StatusPaused:
		return "Up " + since(st.Started) + " (Paused)"
	case run.StatusRunning:
		return "Up " + since(st.Started) + healthText(st.Health)
	}
	return st.Status
}

func healthText(h *run.HealthState) string {
	switch {
	case h == nil:
		return ""
	case h.Status == "starting":
		return " (health: starting)"
	}
	return " (" + h.Status + ")"
}

// layerUse measures what a container wrote. One without a layer of its own, in
// the foreground, counts as empty.
func layerUse(ctx context.Context, store *layers.Store, c *run.Container) (containerUse, error) {
	var use containerUse
	if id := c.Options().ImageID; id != "" {
		if image, err := store.Image(id); err == nil {
			use.virtual = image.Size
		}
	}
	layer, err := c.Layer()
	if errors.Is(err, layers.ErrNotFound) {
		return use, nil
	}
	if err != nil {
		return use, err
	}
	use.written, err = layer.Size(ctx)
	use.virtual += use.written
	return use, err
}
