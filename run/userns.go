package run

import (
	"errors"
	"fmt"
	"os/user"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"

	"cooper/layers"
	"cooper/run/internal/spawn"
)

// UserNS is a user namespace of a container's own, below this process's.
type UserNS struct {
	// Mode is what was asked for, as ParseUserNS takes it.
	Mode string
	// Owners are the ids in it. Create chooses them, unless Mode is "private".
	Owners layers.Owners
	// User is who the first process is when nobody says otherwise, and Passwd and
	// Group the lines that such a user needs, for keep-id. Create fills them in.
	User, Passwd, Group string `json:",omitempty"`
}

// Modes of user namespaces that are more than a word.
const (
	userNSJoin = "container:"
	userNSPath = "ns:"
)

// ParseUserNS reads a mode of podman's: "keep-id[:uid=N,gid=N]",
// "nomap", "auto[:size=N,uidmapping=C:H:N,gidmapping=C:H:N]", "private",
// "container:NAME" and "ns:PATH". For "" and "host", this process's namespace, it
// returns nil.
func ParseUserNS(mode string) (*UserNS, error) {
	name, options, has := strings.Cut(mode, ":")
	var err error
	switch name {
	case "", "host":
		if has {
			break
		}
		return nil, nil
	case "keep-id":
		_, err = parseKeepID(options)
	case "auto":
		_, err = parseAuto(options)
	case "nomap", "private":
		if has {
			err = errors.New("it takes no options")
		}
	case "container", "ns":
		if options == "" {
			err = fmt.Errorf("want %s: and a name", name)
		}
	default:
		has = true
	}
	if err != nil {
		return nil, fmt.Errorf("invalid USER mode %s: %w", mode, err)
	}
	switch name {
	case "keep-id", "auto", "nomap", "private", "container", "ns":
		return &UserNS{Mode: mode}, nil
	}
	return nil, fmt.Errorf("invalid USER mode: %s; want host, keep-id, nomap, auto, private, container:NAME or ns:PATH", mode)
}

// kind is the mode's first word.
func (u *UserNS) kind() string {
	if u == nil {
		return ""
	}
	name, _, _ := strings.Cut(u.Mode, ":")
	return name
}

// owners are the ids of u's namespace, none for nil.
func (u *UserNS) owners() layers.Owners {
	if u == nil {
		return layers.Owners{}
	}
	return u.Owners
}

// parseOptions reads "key=value,..." and calls set for each.
func parseOptions(options string, set func(key, value string) error) error {
	if options == "" {
		return nil
	}
	for option := range strings.SplitSeq(options, ",") {
		key, value, _ := strings.Cut(option, "=")
		if err := set(key, value); err != nil {
			return err
		}
	}
	return nil
}

// parseID reads an id; the last number is none.
func parseID(s string) (uint32, error) {
	n, err := strconv.ParseUint(s, 10, 32)
	if err != nil || n == 1<<32-1 {
		return 0, fmt.Errorf("%q is no id", s)
	}
	return uint32(n), nil
}

// keptIDs are what keep-id's options name; nil means the caller's own.
type keptIDs struct{ uid, gid *uint32 }

func parseKeepID(options string) (k keptIDs, err error) {
	return k, parseOptions(options, func(key, value string) error {
		to := map[string]**uint32{"uid": &k.uid, "gid": &k.gid}[key]
		if to == nil {
			return fmt.Errorf("unknown option %q: want uid or gid", key)
		}
		id, err := parseID(value)
		*to = &id
		return err
	})
}

// ParseIDRange reads CONTAINER:OUTSIDE:SIZE, a value of --uidmap.
func ParseIDRange(s string) (r layers.IDRange, err error) {
	fields := strings.Split(s, ":")
	if len(fields) == 2 {
		fields = append(fields, "1")
	}
	if len(fields) != 3 {
		return r, fmt.Errorf("invalid id mapping %q: want CONTAINER:OUTSIDE:SIZE", s)
	}
	for i, to := range []*uint32{&r.Inside, &r.Outside, &r.Size} {
		if *to, err = parseID(fields[i]); err != nil {
			return r, fmt.Errorf("invalid id mapping %q: %w", s, err)
		}
	}
	if r.Size == 0 {
		return r, fmt.Errorf("invalid id mapping %q: the size is 0", s)
	}
	return r, nil
}

// errTooFewIDs: a namespace of its own needs more ids than the user's one.
func errTooFewIDs(mode string) error {
	name := "USER"
	if u, err := user.LookupId(strconv.Itoa(spawn.HostUID())); err == nil {
		name = u.Username
	}
	return fmt.Errorf("--userns=%s needs ranges of ids in /etc/subuid and /etc/subgid, and newuidmap: have root run "+
		"usermod --add-subuids 100000-165535 --add-subgids 100000-165535 %s", mode, name)
}

// resolve chooses the ids of a container with u, whose files image shows.
func (cs *Containers) resolve(u *UserNS, o *ContainerOptions, image *layers.View) error {
	if err := cs.choose(u, o, image); err != nil {
		return err
	}
	u.Owners.UIDs = splitRanges(u.Owners.UIDs, spawn.IDMap())
	u.Owners.GIDs = splitRanges(u.Owners.GIDs, spawn.GIDMap())
	return nil
}

// splitRanges cuts the ranges of m where one of this process's own ends: the kernel
// takes none that goes on in another.
func splitRanges(m []layers.IDRange, own [][3]uint64) []layers.IDRange {
	var out []layers.IDRange
	for _, r := range m {
		for r.Size > 0 {
			n := r.Size
			for _, e := range own {
				if from := uint64(r.Outside); from >= e[0] && from < e[0]+e[2] {
					n = uint32(min(uint64(n), e[0]+e[2]-from))
				}
			}
			out = append(out, layers.IDRange{Inside: r.Inside, Outside: r.Outside, Size: n})
			r.Inside, r.Outside, r.Size = r.Inside+n, r.Outside+n, r.Size-n
		}
	}
	return out
}

func (cs *Containers) choose(u *UserNS, o *ContainerOptions, image *layers.View) error {
	uids, gids := spawn.IDCount(spawn.IDMap()), spawn.IDCount(spawn.GIDMap())
	switch kind, options, _ := strings.Cut(u.Mode, ":"); kind {
	case "keep-id", "nomap":
		if !spawn.InUserNamespace() {
			return fmt.Errorf("%s is only supported in rootless mode", kind)
		}
		if uids < 2 || gids < 2 {
			return errTooFewIDs(u.Mode)
		}
		if kind == "nomap" {
			u.Owners.UIDs, u.Owners.GIDs = []layers.IDRange{{Inside: 0, Outside: 1, Size: uids - 1}}, []layers.IDRange{{Inside: 0, Outside: 1, Size: gids - 1}}
			return nil
		}
		return u.keep(options, uids, gids, &o.Config, image)
	case "auto":
		if err := cs.resolveAuto(u, options, o, image); err != nil {
			return err
		}
		return u.check(uids, gids)
	case "container", "ns":
		return cs.resolveJoined(u)
	case "private":
		if u.Owners.IsZero() {
			u.Owners.UIDs, u.Owners.GIDs = []layers.IDRange{{Size: uids}}, []layers.IDRange{{Size: gids}}
		}
		return u.check(uids, gids)
	}
	return nil
}

// check makes sure that the ids outside exist, and that root does inside.
func (u *UserNS) check(uids, gids uint32) error {
	for _, m := range []struct {
		what  string
		count uint32
		list  []layers.IDRange
	}{{"uid", uids, u.Owners.UIDs}, {"gid", gids, u.Owners.GIDs}} {
		for i, r := range m.list {
			if slices.ContainsFunc(m.list[:i], func(o layers.IDRange) bool { return sharesID(o, r) }) {
				return fmt.Errorf("the mapping of %ss has an id twice, in %d:%d:%d", m.what, r.Inside, r.Outside, r.Size)
			}
			if uint64(r.Outside)+uint64(r.Size) > uint64(m.count) {
				return fmt.Errorf("%ss from %d to %d cannot be mapped: only those below %d are there", m.what, r.Outside, uint64(r.Outside)+uint64(r.Size)-1, m.count)
			}
		}
		if _, ok := layers.Map(m.list, 0); !ok {
			return fmt.Errorf("no %s is mapped to 0 in the container, which its start needs: add one to --%smap", m.what, m.what)
		}
	}
	return nil
}

// sharesID reports whether two ranges have an id in common, inside or outside.
func sharesID(a, b layers.IDRange) bool {
	both := func(a, aSize, b, bSize uint32) bool {
		return uint64(a) < uint64(b)+uint64(bSize) && uint64(b) < uint64(a)+uint64(aSize)
	}
	return both(a.Inside, a.Size, b.Inside, b.Size) || both(a.Outside, a.Size, b.Outside, b.Size)
}

// keep maps the caller's ids to themselves, or to those in the options, and the
// others around them.
func (u *UserNS) keep(options string, uids, gids uint32, c *Config, image *layers.View) error {
	kept, err := parseKeepID(options)
	if err != nil {
		return err
	}
	uid, gid := uint32(spawn.HostUID()), uint32(spawn.HostGID())
	own := kept.uid == nil && kept.gid == nil
	if kept.uid != nil {
		uid = *kept.uid
	}
	if kept.gid != nil {
		gid = *kept.gid
	}
	u.Owners = layers.Owners{UIDs: keepOne(uid, uids-1), GIDs: keepOne(gid, gids-1)}
	u.User = fmt.Sprintf("%d:%d", uid, gid)
	return u.addAccount(uid, gid, own, c, image)
}

// keepOne maps id to the namespace's first, which is the caller, and all others in
// their order to the ranges after it, of count ids.
func keepOne(id, count uint32) []layers.IDRange {
	var m []layers.IDRange
	if below := min(id, count); below > 0 {
		m = append(m, layers.IDRange{Inside: 0, Outside: 1, Size: below})
	}
	m = append(m, layers.IDRange{Inside: id, Outside: 0, Size: 1})
	if count > id {
		m = append(m, layers.IDRange{Inside: id + 1, Outside: id + 1, Size: count - id})
	}
	return m
}

// addAccount makes the lines that the image lacks for the user.
func (u *UserNS) addAccount(uid, gid uint32, own bool, c *Config, image *layers.View) error {
	passwd, err := accountFile(image, "etc/passwd")
	if err != nil {
		return err
	}
	group, err := accountFile(image, "etc/group")
	if err != nil {
		return err
	}
	name, groupName, full := fmt.Sprint(uid), fmt.Sprint(gid), "container user"
	if own {
		full = ""
		if account, err := user.LookupId(name); err == nil {
			name = account.Username
		}
		if account, err := user.LookupGroupId(groupName); err == nil {
			groupName = account.Name
		}
	}
	if !hasAccount(passwd, uid) {
		home := c.Dir
		if home == "" {
			home = "/"
		}
		u.Passwd = fmt.Sprintf("%s:*:%d:%d:%s:%s:/bin/sh\n", name, uid, gid, full, home)
	}
	if !hasAccount(group, gid) {
		u.Group = fmt.Sprintf("%s:x:%d:%s\n", groupName, gid, name)
	}
	return nil
}

// hasAccount reports whether a line of passwd or group is about id.
func hasAccount(file []byte, id uint32) bool {
	for line := range strings.Lines(string(file)) {
		if f := strings.Split(line, ":"); len(f) > 2 && f[2] == fmt.Sprint(id) {
			return true
		}
	}
	return false
}

// files are the passwd and group with the user's lines; nothing where the image has
// them.
func (u *UserNS) files(image *layers.View) (map[string]File, error) {
	files := map[string]File{}
	for name, line := range map[string]string{"/etc/passwd": u.Passwd, "/etc/group": u.Group} {
		if line == "" {
			continue
		}
		b, err := accountFile(image, name[1:])
		if err != nil {
			return nil, err
		}
		files[name] = File{Data: addLine(b, line)}
	}
	return files, nil
}

// resolveJoined takes the ids of the namespace that is joined.
func (cs *Containers) resolveJoined(u *UserNS) error {
	if name, ok := strings.CutPrefix(u.Mode, userNSJoin); ok {
		other, err := cs.Find(name)
		if err != nil {
			return err
		}
		theirs := other.opts().Config.UserNS
		if theirs == nil {
			return fmt.Errorf("container %s has no user namespace of its own: leave out --userns", other.opts().Name)
		}
		u.Owners, u.User = theirs.Owners, theirs.User
		u.Passwd, u.Group = theirs.Passwd, theirs.Group
		return nil
	}
	path := strings.TrimPrefix(u.Mode, userNSPath)
	var pid int
	var end string
	if n, _ := fmt.Sscanf(path, "/proc/%d/ns/%s", &pid, &end); n != 2 || end != "user" {
		return fmt.Errorf("user namespace %s: want /proc/PID/ns/user", path)
	}
	uids, gids := spawn.ProcessIDMaps(strconv.Itoa(pid))
	if u.Owners = (layers.Owners{UIDs: idRanges(uids), GIDs: idRanges(gids)}); len(u.Owners.UIDs) == 0 || len(u.Owners.GIDs) == 0 {
		return fmt.Errorf("user namespace %s: its ids cannot be read: is the process there?", path)
	}
	return nil
}

func idRanges(m [][3]uint64) []layers.IDRange {
	var out []layers.IDRange
	for _, e := range m {
		out = append(out, layers.IDRange{Inside: uint32(e[0]), Outside: uint32(e[1]), Size: uint32(e[2])})
	}
	return out
}

// mappings are ranges as the runtime-spec has them.
func mappings(m []layers.IDRange) []specs.LinuxIDMapping {
	var out []specs.LinuxIDMapping
	for _, r := range m {
		out = append(out, specs.LinuxIDMapping{ContainerID: r.Inside, HostID: r.Outside, Size: r.Size})
	}
	return out
}

// joinedUserNS is "ns:PATH" for a namespace that is joined, "" for one that is made.
func (c *Config) joinedUserNS() string {
	if c.UserNS.kind() == "ns" {
		return c.UserNS.Mode
	}
	return ""
}

// checkUserNS refuses what a user namespace of its own does not go with: to mount
// what belongs to a namespace takes rights over the user namespace that it is of.
func (c *Config) checkUserNS(t Tier) error {
	if c.UserNS == nil || c.joinedUserNS() != "" {
		return nil
	}
	if !t.Proc {
		return fmt.Errorf("--userns=%s: processes cannot have a /proc of their own here", c.UserNS.Mode)
	}
	for flag, mode := range map[string]string{"pid": c.PID, "ipc": c.IPC} {
		if strings.HasPrefix(mode, "ns:") {
			return fmt.Errorf("--%s of another container needs its user namespace as well: use --userns=container:NAME, not %s", flag, c.UserNS.Mode)
		}
	}
	return nil
}

// hasTTYGroup reports whether the group of terminals exists in the container.
func (c *Config) hasTTYGroup(t Tier) bool {
	const tty = 5
	if c.UserNS == nil {
		return !t.SingleID
	}
	_, mapped := layers.Map(c.UserNS.Owners.GIDs, tty)
	return mapped
}
