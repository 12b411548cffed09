package cli

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

// newCommandGroup makes a command that only has others below it.
func newCommandGroup(name, short string) *cobra.Command {
	cmd := &cobra.Command{
		Use:                   name + " COMMAND",
		Short:                 short,
		DisableFlagsInUseLine: true,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return nil
			}
			return &usageError{cmd: cmd, err: fmt.Errorf("unknown command %q for %q", args[0], cmd.CommandPath()), status: statusError}
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.Flags().BoolP("help", "h", false, "Show this help")
	cmd.Flags().Lookup("help").Hidden = true
	return cmd
}

// renamed gives a command another name, and aliases instead of its own.
func renamed(cmd *cobra.Command, name string, aliases ...string) *cobra.Command {
	_, rest, _ := strings.Cut(cmd.Use, " ")
	cmd.Use, cmd.Aliases = name+" "+rest, aliases
	return cmd
}
