package cli

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"cooper/run"
)

// runtimeFlags name the OCI runtime that makes containers.
type runtimeFlags struct {
	name  string
	flags []string
}

func (f *runtimeFlags) declare(fs *pflag.FlagSet) {
	fs.StringVar(&f.name, "runtime", "", "Have containers made by the OCI runtime `NAME`, or of that path, instead of ourselves: runc, crun")
	fs.StringArrayVar(&f.flags, "runtime-flag", nil, "Give the runtime its own `FLAG`, without the dashes in front (repeatable)")
}

// ownRuntime are the names of the runtime that is built in.
var ownRuntime = []string{"", "cooper", "internal"}

// runtime is what the flags ask for, if it is installed.
func (f *runtimeFlags) runtime() (run.OCIRuntime, error) {
	if slices.Contains(ownRuntime, f.name) {
		if len(f.flags) > 0 {
			return run.OCIRuntime{}, errors.New("--runtime-flag needs --runtime: the one that is built in has no flags")
		}
		return run.OCIRuntime{}, nil
	}
	r := run.OCIRuntime{Name: f.name}
	for _, flag := range f.flags {
		if name, _, _ := strings.Cut(flag, "="); name == "" || strings.HasPrefix(flag, "-") || slices.Contains([]string{"root", "log"}, name) {
			return r, fmt.Errorf("invalid --runtime-flag %q: want NAME or NAME=VALUE without dashes in front, other than root and log", flag)
		}
		r.Flags = append(r.Flags, "--"+flag)
	}
	if strings.Contains(r.Name, "/") {
		full, err := filepath.Abs(r.Name) // others start it from elsewhere
		if err != nil {
			return r, err
		}
		r.Name = full
	}
	_, err := r.Path()
	return r, err
}
