package cli

import (
	"fmt"
	"runtime"

	"github.com/spf13/cobra"
)

// NewCooper makes the cooper command, which has all others below it.
func NewCooper(e *Env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "cooper",
		Short: "Build images from Dockerfiles and run them, without a daemon",
		Long: `Build images from Dockerfiles and run them, without a daemon and without root.
Commands and flags are docker's; images are podman's, buildah's and CRI-O's too.`,
	}
	// Listed in the order in which they are used, not by name.
	cobra.EnableCommandSorting = false
	cmd.AddCommand(NewBuild(e), NewRun(e), newPull(e), newPush(e), newImages(e), newInspect(e, ""), newHistory(e), newTag(e), newUntag(e), newRmi(e),
		newSave(e), newLoad(e), newLogin(e), newLogout(e), newImage(e), newManifest(e), newGenerate(e), newQuadlet(e), newVersion(e))
	cmd.AddCommand(newPs(e))
	cmd.AddCommand(containerCommands(e)...)
	cmd.AddCommand(newContainerGroup(e), newVolume(e), newNetwork(e), newEvents(e), newInfo(e), newSystem(e))
	cmd.InitDefaultHelpCmd()
	for _, sub := range cmd.Commands() {
		sub.Hidden = sub.Hidden || sub.Name() == "help"
	}
	return cmd
}

// newVersion makes the version command.
func newVersion(e *Env) *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use:                   "version [OPTIONS]",
		Short:                 "Show the version",
		DisableFlagsInUseLine: true,
		Args:                  exactArgs(0),
		RunE: func(*cobra.Command, []string) error {
			v := map[string]string{
				"Version": Version(), "GoVersion": runtime.Version(), "Os": runtime.GOOS, "Arch": runtime.GOARCH,
			}
			if format != "" {
				return printRows(e.Stdout, format, nil, []map[string]string{v})
			}
			_, err := fmt.Fprintf(e.Stdout, "cooper %s (%s, %s/%s)\n", v["Version"], v["GoVersion"], v["Os"], v["Arch"])
			return err
		},
	}
	cmd.Flags().StringVarP(&format, "format", "f", "", "Print json, or a Go `TEMPLATE`")
	return cmd
}
