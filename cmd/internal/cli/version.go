package cli

import (
	"fmt"
	"maps"
	"runtime"

	"github.com/spf13/cobra"
)

// newVersion makes the version command.
func newVersion(e *Env) *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use:                   "version [OPTIONS]",
		Short:                 "Show the version",
		DisableFlagsInUseLine: true,
		Args:                  exactArgs(0),
		RunE: func(*cobra.Command, []string) error {
			if format != "" {
				return printRows(e.Stdout, format, nil, []map[string]any{versionFields()})
			}
			_, err := fmt.Fprintf(e.Stdout, "cooper %s (%s, %s/%s)\n", Version(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
			return err
		},
	}
	cmd.Flags().StringVarP(&format, "format", "f", "", "Print json, or a Go `TEMPLATE`")
	return cmd
}

// versionFields are the fields for templates. There is no server: what docker says of
// its own is said of this command.
func versionFields() map[string]any {
	own := map[string]any{"Version": Version(), "GoVersion": runtime.Version(), "Os": runtime.GOOS, "Arch": runtime.GOARCH}
	fields := maps.Clone(own)
	fields["Client"], fields["Server"] = own, own
	return fields
}
