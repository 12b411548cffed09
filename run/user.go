package run

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"

	"github.com/moby/sys/user"
	"github.com/opencontainers/runtime-spec/specs-go"

	"cooper/layers"
)

// lookupUser resolves the user as docker does: ids and groups, and the home
// directory. Names are looked up in the root file system's own files, with the lines
// that a user namespace adds to them; a number need not be there. The primary group is
// the first of the additional ones too (CVE-2022-36109: a program must not be able to
// shake it off).
func (c *Config) lookupUser(v *layers.View) (specs.User, string, error) {
	passwd, err := accountFile(v, "etc/passwd")
	if err != nil {
		return specs.User{}, "", err
	}
	group, err := accountFile(v, "etc/group")
	if err != nil {
		return specs.User{}, "", err
	}
	if c.UserNS != nil {
		passwd, group = addLine(passwd, c.UserNS.Passwd), addLine(group, c.UserNS.Group)
	}
	return lookupUser(passwd, group, c.user(), c.GroupAdd)
}

func lookupUser(passwd, group []byte, name string, groupAdd []string) (specs.User, string, error) {
	u, err := user.GetExecUser(name, nil, reader(passwd), reader(group))
	if err != nil {
		return specs.User{}, "", err
	}
	extra, err := user.GetAdditionalGroups(groupAdd, reader(group))
	if err != nil {
		return specs.User{}, "", err
	}
	su := specs.User{UID: uint32(u.Uid), GID: uint32(u.Gid), AdditionalGids: []uint32{uint32(u.Gid)}}
	for _, g := range append(u.Sgids, extra...) {
		if !slices.Contains(su.AdditionalGids, uint32(g)) {
			su.AdditionalGids = append(su.AdditionalGids, uint32(g))
		}
	}
	home := u.Home
	if home == "" {
		home = "/"
	}
	return su, home, nil
}

// addLine adds a line to a passwd or group file; none for "".
func addLine(file []byte, line string) []byte {
	if line != "" && len(file) > 0 && file[len(file)-1] != '\n' {
		file = append(file, '\n')
	}
	return append(file, line...)
}

// accountFile reads a file that may be missing.
func accountFile(v *layers.View, name string) ([]byte, error) {
	if v == nil {
		return nil, nil
	}
	b, err := v.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("look up user: %w", err)
	}
	return b, nil
}

// reader is nil for no content: package user tells a missing file from an empty one.
func reader(b []byte) io.Reader {
	if b == nil {
		return nil
	}
	return bytes.NewReader(b)
}
