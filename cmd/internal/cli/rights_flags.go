package cli

import (
	"errors"
	"fmt"

	"github.com/spf13/pflag"

	"cooper/builder"
)

// rightsFlags are buildah's flags of build about what RUN steps may do and see.
type rightsFlags struct {
	capAdd, capDrop, groupAdd    []string
	devices, securityOpt, mounts []string
	noHosts, noHostname          bool
}

func (f *rightsFlags) declare(fs *pflag.FlagSet) {
	fs.StringArrayVar(&f.mounts, "mount", nil, "Give each RUN step a `MOUNT` as its --mount flag does: type=secret,id=token (repeatable)")
	fs.BoolVar(&f.noHosts, "no-hosts", false, "Leave /etc/hosts to the image")
	fs.BoolVar(&f.noHostname, "no-hostname", true, "Leave /etc/hostname to the image (it always is)")
	fs.Lookup("no-hostname").Hidden = true
	fs.StringSliceVar(&f.capAdd, "cap-add", nil, "Add a `CAPABILITY` in RUN steps, or ALL (repeatable)")
	fs.StringSliceVar(&f.capDrop, "cap-drop", nil, "Drop a `CAPABILITY` in RUN steps, or ALL (repeatable)")
	fs.StringArrayVar(&f.groupAdd, "group-add", nil, "Add a further `GROUP` in RUN steps (repeatable)")
	fs.StringArrayVar(&f.devices, "device", nil, "Give RUN steps a device: `HOST[:CONTAINER][:rwm]`, or a CDI name such as vendor.com/class=name (repeatable)")
	fs.StringArrayVar(&f.securityOpt, "security-opt", nil, "Set `OPTION` seccomp=FILE, seccomp=unconfined, no-new-privileges, mask=PATH or unmask=PATH in RUN steps (repeatable)")
	markSections(fs, sectionSecurity, "cap-add", "cap-drop", "group-add", "device", "security-opt")
}

// apply puts the flags into o.
func (f *rightsFlags) apply(o *builder.Options) error {
	c := &o.Container
	switch {
	case f.noHosts && len(c.ExtraHosts) > 0:
		return errors.New("--no-hosts and --add-host conflict: leave out one of them")
	case !f.noHostname:
		return errors.New("--no-hostname=false is not supported: what a step writes to /etc/hostname is the image's")
	}
	o.Edits.Mounts, c.NoHosts = f.mounts, f.noHosts
	c.CapAdd, c.CapDrop, c.GroupAdd = f.capAdd, f.capDrop, f.groupAdd
	for _, value := range f.devices {
		if err := addDevice(c, value); err != nil {
			return fmt.Errorf("invalid --device %q: %w", value, err)
		}
	}
	for _, opt := range f.securityOpt {
		if err := c.ParseSecurityOpt(opt); err != nil {
			return fmt.Errorf("invalid --security-opt %q: %w", opt, err)
		}
	}
	return nil
}
