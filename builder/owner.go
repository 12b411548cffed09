package builder

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"
	"syscall"

	"github.com/moby/sys/user"

	"cooper/layers"
)

// owner is a pair of ids in the image.
type owner struct{ uid, gid uint32 }

// lookupOwner resolves user[:group] as BuildKit's --chown does: a numeric user
// alone is its own group, a named one brings its primary group, and a name
// that the image does not know is root. unknown lists such names, so that the
// user can be told.
func lookupOwner(v *layers.View, spec string) (o owner, unknown []string, err error) {
	name, group, _ := strings.Cut(spec, ":")
	if id, ok := numericID(name); ok {
		o = owner{id, id}
	} else {
		users, err := userEntries(v, name)
		if err != nil {
			return o, nil, err
		}
		if len(users) == 0 {
			unknown = append(unknown, name)
		} else {
			o = owner{uint32(users[0].Uid), uint32(users[0].Gid)}
		}
	}
	if group == "" {
		return o, unknown, nil
	}
	if id, ok := numericID(group); ok {
		o.gid = id
		return o, unknown, nil
	}
	groups, err := groupEntries(v, group)
	if err != nil {
		return o, nil, err
	}
	if len(groups) == 0 {
		return o, append(unknown, group), nil
	}
	o.gid = uint32(groups[0].Gid)
	return o, unknown, nil
}

func numericID(s string) (uint32, bool) {
	if s == "root" {
		return 0, true
	}
	n, err := strconv.ParseUint(s, 10, 31)
	return uint32(n), err == nil
}

func userEntries(v *layers.View, name string) ([]user.User, error) {
	text, err := v.ReadFile("etc/passwd")
	if missing(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("look up user %s: %w", name, err)
	}
	return user.ParsePasswdFilter(bytes.NewReader(text), func(u user.User) bool { return u.Name == name })
}

func groupEntries(v *layers.View, name string) ([]user.Group, error) {
	text, err := v.ReadFile("etc/group")
	if missing(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("look up group %s: %w", name, err)
	}
	return user.ParseGroupFilter(bytes.NewReader(text), func(g user.Group) bool { return g.Name == name })
}

// missing reports that a path does not exist, whichever element is at fault.
func missing(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR)
}
