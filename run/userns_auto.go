package run

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"

	"cooper/layers"
	"cooper/run/internal/spawn"
)

// The size of a namespace of mode auto when none is given: what the image's users
// need, within these bounds, which are podman's.
const (
	autoSize    = 1024
	autoMaxSize = 65536
)

// autoUser is whose ranges in /etc/subuid and /etc/subgid root's containers get their
// ids from, as with podman.
const autoUser = "containers"

// autoOptions are auto's: the size, 0 for the image's, and ranges that are mapped as
// they are.
type autoOptions struct {
	size       uint32
	uids, gids []layers.IDRange
}

func parseAuto(options string) (a autoOptions, err error) {
	return a, parseOptions(options, func(key, value string) error {
		switch key {
		case "size":
			size, err := parseID(value)
			if err != nil || size == 0 {
				return fmt.Errorf("size=%s: want a number of ids", value)
			}
			a.size = size
			return nil
		case "uidmapping", "gidmapping":
			r, err := ParseIDRange(value)
			if key == "uidmapping" {
				a.uids = append(a.uids, r)
			} else {
				a.gids = append(a.gids, r)
			}
			return err
		}
		return fmt.Errorf("unknown option %q: want size, uidmapping or gidmapping", key)
	})
}

// resolveAuto chooses ids that no other container of mode auto has. The caller holds
// the containers' lock until u is written.
func (cs *Containers) resolveAuto(u *UserNS, options string, o *ContainerOptions, image *layers.View) error {
	a, err := parseAuto(options)
	if err != nil {
		return err
	}
	if a.size == 0 {
		if a.size, err = autoSizeFor(o.Config.User, image); err != nil {
			return err
		}
	}
	freeUIDs, freeGIDs, err := autoRanges(u.Mode)
	if err != nil {
		return err
	}
	used, err := cs.usedIDs()
	if err != nil {
		return err
	}
	if u.Owners.UIDs, err = autoMap("uid", a.size, a.uids, freeUIDs, used.UIDs); err != nil {
		return err
	}
	u.Owners.GIDs, err = autoMap("gid", a.size, a.gids, freeGIDs, used.GIDs)
	return err
}

// autoSizeFor is how many ids the image's users and groups, and the user, need.
func autoSizeFor(who string, image *layers.View) (uint32, error) {
	need := uint64(autoSize)
	for _, name := range []string{"etc/passwd", "etc/group"} {
		b, err := accountFile(image, name)
		if err != nil {
			return 0, err
		}
		for line := range bytes.Lines(b) {
			f := strings.Split(strings.TrimSpace(string(line)), ":")
			if len(f) < 4 || f[0] == "nobody" || f[0] == "nogroup" {
				continue
			}
			ids := f[2:3]
			if name == "etc/passwd" {
				ids = f[2:4]
			}
			need = max(need, highest(ids)+1)
		}
	}
	need = max(need, highest(strings.Split(who, ":"))+1)
	if need > autoMaxSize {
		return autoMaxSize, nil
	}
	return uint32(need), nil
}

// highest is the greatest number in a list, but for 65534, which everyone has for
// nobody.
func highest(ids []string) (most uint64) {
	for _, s := range ids {
		if n, err := strconv.ParseUint(s, 10, 32); err == nil && n != 65534 {
			most = max(most, n)
		}
	}
	return most
}

// idRange is a range of ids outside, from first to before end.
type idRange struct{ first, end uint64 }

// autoRanges are all ids that containers of mode auto may have.
func autoRanges(mode string) (uids, gids []idRange, err error) {
	if spawn.InUserNamespace() {
		u, g := spawn.IDCount(spawn.IDMap()), spawn.IDCount(spawn.GIDMap())
		if u < 2 || g < 2 {
			return nil, nil, errTooFewIDs(mode)
		}
		return []idRange{{1, uint64(u)}}, []idRange{{1, uint64(g)}}, nil
	}
	if uids, err = subIDs("/etc/subuid", autoUser); err == nil {
		gids, err = subIDs("/etc/subgid", autoUser)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("--userns=%s: %w: add a line %s:2147483647:2147483648 to both /etc/subuid and /etc/subgid", mode, err, autoUser)
	}
	return uids, gids, nil
}

// subIDs are the ranges that a file has for a user, by name.
func subIDs(file, name string) ([]idRange, error) {
	b, err := os.ReadFile(file)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	var found []idRange
	for line := range strings.Lines(string(b)) {
		f := strings.Split(strings.TrimSpace(line), ":")
		if len(f) != 3 || f[0] != name {
			continue
		}
		start, err1 := strconv.ParseUint(f[1], 10, 32)
		count, err2 := strconv.ParseUint(f[2], 10, 33)
		if err1 == nil && err2 == nil && count > 0 {
			found = append(found, idRange{start, min(start+count, math.MaxUint32)})
		}
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("user %q has no ranges in %s", name, file)
	}
	slices.SortFunc(found, func(a, b idRange) int { return int(a.first) - int(b.first) })
	return found, nil
}

// usedIDs are what other containers have, those of other tools in the store too.
func (cs *Containers) usedIDs() (layers.Owners, error) {
	used, err := cs.store.MappedOwners()
	if err != nil {
		return used, err
	}
	ids, err := cs.ids()
	if err != nil {
		return used, err
	}
	for _, id := range ids {
		c, err := cs.open(id)
		if errors.Is(err, ErrNoContainer) {
			continue
		}
		if err != nil {
			return used, err
		}
		if u := c.opts().Config.UserNS; u.kind() == "auto" {
			used.UIDs = append(used.UIDs, u.Owners.UIDs...)
			used.GIDs = append(used.GIDs, u.Owners.GIDs...)
		}
	}
	return used, nil
}

// autoMap maps the ids below size: fixed as they are, the others to ids in all that
// are not used, in one piece for each gap that fixed leaves.
func autoMap(what string, size uint32, fixed []layers.IDRange, all []idRange, used []layers.IDRange) ([]layers.IDRange, error) {
	m := slices.Clone(fixed)
	slices.SortFunc(m, func(a, b layers.IDRange) int { return int(int64(a.Inside) - int64(b.Inside)) })
	used = append(slices.Clone(used), fixed...)
	next := uint64(0) // the first id inside that is not dealt with
	for _, f := range append(slices.Clone(m), layers.IDRange{Inside: size}) {
		end := min(uint64(f.Inside), uint64(size))
		if next < end {
			from, ok := freeRange(all, used, end-next)
			if !ok {
				return nil, fmt.Errorf("no %d %ss in one piece are left for a container: remove some that have their own, or give a smaller size", end-next, what)
			}
			r := layers.IDRange{Inside: uint32(next), Outside: uint32(from), Size: uint32(end - next)}
			m, used = append(m, r), append(used, r)
		}
		next = max(next, uint64(f.Inside)+uint64(f.Size))
	}
	slices.SortFunc(m, func(a, b layers.IDRange) int { return int(int64(a.Inside) - int64(b.Inside)) })
	return m, nil
}

// freeRange finds the lowest size ids in all of which none is used.
func freeRange(all []idRange, used []layers.IDRange, size uint64) (uint64, bool) {
	used = slices.Clone(used)
	slices.SortFunc(used, func(a, b layers.IDRange) int { return int(int64(a.Outside) - int64(b.Outside)) })
	for _, r := range all {
		from := r.first
		for _, u := range used {
			if uint64(u.Outside)+uint64(u.Size) <= from {
				continue
			}
			if uint64(u.Outside) >= from+size {
				break
			}
			from = uint64(u.Outside) + uint64(u.Size)
		}
		if from+size <= r.end {
			return from, true
		}
	}
	return 0, false
}

// SubordinateIDs maps a container's ids, from 0 on, to those that a user has in
// /etc/subuid (kind "uid") or /etc/subgid ("gid"). Only root can have them.
func SubordinateIDs(kind, name string) ([]layers.IDRange, error) {
	if spawn.InUserNamespace() {
		return nil, fmt.Errorf("--sub%sname is for root only: your own ranges are mapped from 1 on already, use --%smap", kind, kind)
	}
	all, err := subIDs("/etc/sub"+kind, name)
	if err != nil {
		return nil, err
	}
	var m []layers.IDRange
	next := uint64(0)
	for _, r := range all {
		m = append(m, layers.IDRange{Inside: uint32(next), Outside: uint32(r.first), Size: uint32(r.end - r.first)})
		next += r.end - r.first
	}
	return m, nil
}
