package cli

import (
	"fmt"
	"slices"
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

// commandEntry is a command below another, by its name.
type commandEntry struct {
	name string
	make Constructor
}

// addCommands adds commands to one that path leads to. When the arguments say which
// of them is meant, only that one is made: all of cooper's take milliseconds.
func (e *Env) addCommands(to *cobra.Command, path []string, entries []commandEntry) {
	if n := len(path); len(e.args) > n && slices.Equal(e.args[:n], path) {
		for _, entry := range entries {
			if entry.name == e.args[n] {
				to.AddCommand(entry.make(e))
				return
			}
		}
	}
	for _, entry := range entries {
		to.AddCommand(entry.make(e))
	}
}

// as makes a command under another name.
func as(make Constructor, name string, aliases ...string) commandEntry {
	return commandEntry{name, func(e *Env) *cobra.Command { return renamed(make(e), name, aliases...) }}
}
