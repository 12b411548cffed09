package cli

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"
)

// newCreate makes the create command.
func newCreate(e *Env) *cobra.Command {
	var f runFlags
	cmd := &cobra.Command{
		Use:                   "create [OPTIONS] IMAGE [COMMAND] [ARG...]",
		Short:                 "Make a container without starting it",
		Long:                  "Make a container from IMAGE without starting it, and print its ID. The options are\nthose of run.",
		Example:               "\n  @ --name web -p 8080:80 nginx",
		DisableFlagsInUseLine: true,
		Args:                  minArgs(1, statusError),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			f.noteGiven(cmd.Flags())
			f.detach = true // it is not for this process to hold it
			c, err := e.create(cmd.Context(), &f, args[0], args[1:])
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, c.close()) }()
			_, err = fmt.Fprintln(e.Stdout, c.ID())
			return err
		},
	}
	f.declare(cmd.Flags())
	cmd.Flags().SetInterspersed(false)
	e.commonFlags(cmd)
	return cmd
}
