package cli

import (
	"context"
	"os"
	"runtime/debug"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/term"

	"cooper/layers"
)

// Env is what the commands of one process share.
type Env struct {
	Stdin, Stdout, Stderr *os.File
	// LookupEnv is os.LookupEnv but in tests.
	LookupEnv func(key string) (string, bool)
	// stay keeps this process out of a user namespace: tests would be
	// executed anew.
	stay bool

	// args are the arguments of the command that is executed, nil before.
	args []string
	// commandLine is the command's name and its arguments.
	commandLine []string

	options layers.Options
	store   *layers.Store
}

// NewEnv returns the Env of this process.
func NewEnv() *Env {
	return &Env{Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr, LookupEnv: os.LookupEnv}
}

// commonFlags adds what every command has: --help, which needs no line in the
// help, and the flags that choose the store, after the command's own.
func (e *Env) commonFlags(cmd *cobra.Command) {
	if cmd.Flags().Lookup("help") == nil {
		cmd.Flags().BoolP("help", "h", false, "Show this help")
	}
	cmd.Flags().Lookup("help").Hidden = true
	fs := pflag.NewFlagSet("store", pflag.ContinueOnError)
	fs.StringVar(&e.options.Root, "root", "", "Keep images and layers in `DIR` (default as in storage.conf)")
	fs.StringVar(&e.options.RunRoot, "runroot", "", "Keep what need not outlive a boot in `DIR`")
	fs.StringVar(&e.options.Driver, "storage-driver", "", "Storage `DRIVER`: overlay or vfs")
	fs.StringArrayVar(&e.options.DriverOptions, "storage-opt", nil, "Storage driver `OPTION` (repeatable)")
	fs.VisitAll(func(f *pflag.Flag) { markSection(f, sectionStore) })
	cmd.Flags().AddFlagSet(fs)
}

// enter replaces an ordinary user's process by one in a user namespace: nothing
// that cannot be done twice may come before it. Later calls do nothing.
func (e *Env) enter() error {
	if e.stay {
		return nil
	}
	return layers.EnterUserNamespace()
}

// Store enters the user namespace and opens the store.
func (e *Env) Store(ctx context.Context) (*layers.Store, error) {
	if e.store != nil {
		return e.store, nil
	}
	if err := e.enter(); err != nil {
		return nil, err
	}
	s, err := layers.Open(ctx, e.options)
	if err != nil {
		return nil, err
	}
	e.store = s
	return s, nil
}

// Close releases the store.
func (e *Env) Close() error {
	if e.store == nil {
		return nil
	}
	s := e.store
	e.store = nil
	return s.Close()
}

// terminal reports whether f is one.
func terminal(f *os.File) bool { return term.IsTerminal(int(f.Fd())) }

// version is set by the linker (-X cooper/cmd/internal/cli.version=...); else
// it is the module's or the commit's.
var version string

// Version names this build of the commands.
func Version() string {
	if version != "" {
		return version
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" && len(s.Value) >= 12 {
			return "commit " + s.Value[:12]
		}
	}
	if v := info.Main.Version; v != "" && v != "(devel)" {
		return v
	}
	return "development"
}
