package cli

import "github.com/spf13/cobra"

// builderGroup makes a group that docker has build in once more, builder or
// buildx. It is not in the help.
func builderGroup(name string) Constructor {
	return func(e *Env) *cobra.Command {
		cmd := newCommandGroup(name, "Build images")
		cmd.Hidden = true
		e.addCommands(cmd, []string{name}, []commandEntry{{"build", NewBuild}})
		return cmd
	}
}
