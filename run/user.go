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

// lookupUser resolves a user as docker does: ids and groups, and the home
// directory. Names are looked up in the root file system's own files; a number
// need not be there. The primary group is the first of the additional ones too
// (CVE-2022-36109: a program must not be able to shake it off).
func lookupUser(v *layers.View, name string, groupAdd []string) (specs.User, string, error) {
	passwd, err := accountFile(v, "etc/passwd")
	if err != nil {
		return specs.User{}, "", err
	}
	group, err := accountFile(v, "etc/group")
	if err != nil {
		return specs.User{}, "", err
	}
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
