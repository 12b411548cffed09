package cli

import (
	"fmt"
	"strings"

	"github.com/spf13/pflag"

	"cooper/builder"
)

// stepFlags are the flags of build about the containers of RUN steps.
type stepFlags struct {
	containerFlags
	resources []string
	allow     []string
}

func (f *stepFlags) declare(fs *pflag.FlagSet) {
	fs.StringVar(&f.hostname, "hostname", "", "Host `NAME` in RUN steps (default buildkitsandbox)")
	f.declareNames(fs)
	f.declareLimits(fs)
	fs.StringArrayVar(&f.resources, "resource", nil, "Set limits: `KEY=VALUE`, several separated by commas, keys as the flags above (repeatable)")
	markSections(fs, sectionResources, "resource")
	fs.StringArrayVar(&f.allow, "allow", nil, "Allow RUN steps `WHAT`: security.insecure, device, device=PATH or device=NAME[,alias=NAME], where alias is what steps call it; network.host always is (repeatable)")
	markSections(fs, sectionSecurity, "allow")
}

// apply puts the flags into o.
func (f *stepFlags) apply(o *builder.Options) error {
	for _, r := range f.resources {
		if err := f.resource(r); err != nil {
			return err
		}
	}
	if err := f.containerFlags.apply(&o.Container); err != nil {
		return err
	}
	for _, list := range f.allow {
		for what := range strings.SplitSeq(list, ",") {
			name, value, _ := strings.Cut(what, "=")
			last := len(o.Allow) - 1
			switch {
			case what == builder.AllowNetworkHost, what == builder.AllowInsecure, what == builder.AllowDevice:
			case name == builder.AllowDevice && value != "":
			case name == "alias" && value != "" && last >= 0 && strings.HasPrefix(o.Allow[last], builder.AllowDevice+"="):
				o.Allow[last] += "," + what
				continue
			default:
				return fmt.Errorf("invalid entitlement %q: want network.host, security.insecure, device, device=PATH or device=NAME[,alias=NAME]", what)
			}
			o.Allow = append(o.Allow, what)
		}
	}
	return nil
}
