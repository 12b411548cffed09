package cli

import (
	"fmt"

	"github.com/spf13/cobra"
)

// newHealthcheck makes the healthcheck command, which podman has.
func newHealthcheck(e *Env) *cobra.Command {
	cmd := newCommandGroup("healthcheck", "Check the health of containers out of turn")
	cmd.AddCommand(newHealthcheckRun(e))
	return cmd
}

func newHealthcheckRun(e *Env) *cobra.Command {
	var ignore bool
	cmd := &cobra.Command{
		Use:   "run [OPTIONS] CONTAINER",
		Short: "Run a container's health check now",
		Long: `Run a container's health check now, and count its result like any other. The exit
status is 0 if it succeeded, 1 if it failed.`,
		DisableFlagsInUseLine: true,
		Args:                  exactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := e.findContainer(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			result, err := c.Check(cmd.Context())
			if err != nil {
				return err
			}
			if _, err := fmt.Fprint(e.Stdout, result.Output); err != nil {
				return err
			}
			if result.ExitCode != 0 && !ignore {
				return &exitStatus{status: statusError}
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&ignore, "ignore-result", false, "End with 0 whatever the result is")
	e.commonFlags(cmd)
	return cmd
}
