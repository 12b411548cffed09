package cli

import (
	"errors"
	"fmt"

	"github.com/spf13/pflag"

	"cooper/layers"
	"cooper/run"
)

// idFlags are the flags about a container's user namespace.
type idFlags struct {
	userns                 string
	uidMap, gidMap         []string
	subUIDName, subGIDName string
}

func (f *idFlags) declare(fs *pflag.FlagSet) {
	fs.StringVar(&f.userns, "userns", "", "Have the users of `MODE` host, keep-id, nomap, auto, private or container:NAME")
	fs.StringArrayVar(&f.uidMap, "uidmap", nil, "Map users `CONTAINER:OUTSIDE:SIZE` (repeatable)")
	fs.StringArrayVar(&f.gidMap, "gidmap", nil, "Map groups `CONTAINER:OUTSIDE:SIZE` (repeatable; default: as --uidmap)")
	fs.StringVar(&f.subUIDName, "subuidname", "", "Map users to the ranges of `NAME` in /etc/subuid")
	fs.StringVar(&f.subGIDName, "subgidname", "", "Map groups to the ranges of `NAME` in /etc/subgid")
}

// apply puts the flags into c.
func (f *idFlags) apply(c *run.Config) (err error) {
	mapped := len(f.uidMap) > 0 || len(f.gidMap) > 0 || f.subUIDName != "" || f.subGIDName != ""
	if f.userns != "" && f.userns != "private" && mapped {
		return errors.New("--userns and --uidmap, --gidmap, --subuidname or --subgidname cannot be given together")
	}
	if !mapped {
		if c.UserNS, err = run.ParseUserNS(f.userns); err != nil {
			return fmt.Errorf("--userns: %w", err)
		}
		return nil
	}
	owners := layers.Owners{}
	if owners.UIDs, err = idMap("uid", f.uidMap, f.subUIDName); err != nil {
		return err
	}
	if owners.GIDs, err = idMap("gid", f.gidMap, f.subGIDName); err != nil {
		return err
	}
	switch {
	case len(owners.GIDs) == 0 && f.subUIDName != "":
		owners.GIDs, err = idMap("gid", nil, f.subUIDName)
	case len(owners.GIDs) == 0:
		owners.GIDs = owners.UIDs
	case len(owners.UIDs) == 0 && f.subGIDName != "":
		owners.UIDs, err = idMap("uid", nil, f.subGIDName)
	case len(owners.UIDs) == 0:
		owners.UIDs = owners.GIDs
	}
	c.UserNS = &run.UserNS{Mode: "private", Owners: owners}
	return err
}

// idMap reads the ranges of one kind, "uid" or "gid".
func idMap(kind string, ranges []string, name string) ([]layers.IDRange, error) {
	if len(ranges) > 0 && name != "" {
		return nil, fmt.Errorf("--%smap and --sub%sname cannot be given together", kind, kind)
	}
	if name != "" {
		return run.SubordinateIDs(kind, name)
	}
	var m []layers.IDRange
	for _, s := range ranges {
		r, err := run.ParseIDRange(s)
		if err != nil {
			return nil, fmt.Errorf("--%smap: %w", kind, err)
		}
		m = append(m, r)
	}
	return m, nil
}
