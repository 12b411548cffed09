package cli

import (
	"fmt"
	"slices"
	"strings"

	"cooper/run"
)

// joinOthers replaces the names of other containers in o by their ids, so that
// renaming one makes no difference, and adds the mounts of those in --volumes-from.
func (f *runFlags) joinOthers(cs *run.Containers, o *run.ContainerOptions) error {
	for _, mode := range []*string{&o.NetworkMode, &o.Config.PID, &o.Config.IPC} {
		name, found := strings.CutPrefix(*mode, "container:")
		if !found {
			continue
		}
		other, err := cs.Find(name)
		if err != nil {
			return err
		}
		*mode = "container:" + other.ID()
	}
	if u := o.Config.UserNS; u != nil {
		if name, found := strings.CutPrefix(u.Mode, "container:"); found {
			other, err := cs.Find(name)
			if err != nil {
				return err
			}
			u.Mode = "container:" + other.ID()
		}
	}
	for _, s := range f.volumesFrom {
		name, mode, _ := strings.Cut(s, ":")
		if !slices.Contains([]string{"", "ro", "rw", "z", "Z"}, mode) {
			return fmt.Errorf("invalid --volumes-from %q: want CONTAINER[:ro]", s)
		}
		other, err := cs.Find(name)
		if err != nil {
			return err
		}
		o.Mounts = borrow(o.Mounts, other.Options().Mounts, mode == "ro")
	}
	return nil
}

// borrow adds the mounts of another container to list, but for those where
// something is mounted already; an anonymous volume that is still to be made
// gives way. What is borrowed stays the other's: an anonymous volume ends with
// that.
func borrow(list, others []run.ContainerMount, readOnly bool) []run.ContainerMount {
	for _, m := range others {
		if m.Type == "tmpfs" {
			continue
		}
		m.Anonymous, m.NoCopy = false, true
		if readOnly && !slices.Contains(m.Options, "ro") {
			m.Options = append(slices.Clone(m.Options), "ro")
		}
		unnamed := func(own run.ContainerMount) bool {
			return own.Type == "volume" && own.Name == "" && own.Destination == m.Destination
		}
		list = slices.DeleteFunc(list, unnamed)
		if !covers(list, m.Destination) {
			list = append(list, m)
		}
	}
	return list
}
