package cli

import "github.com/spf13/cobra"

// containerCommands makes the commands about containers that cooper has and, under
// the same names, cooper container.
func containerCommands(e *Env) []*cobra.Command {
	return []*cobra.Command{newCreate(e), newRm(e), newRename(e), newPort(e), newLogs(e), newDiff(e), newCommit(e), newExport(e),
		newStart(e), newStop(e), newRestart(e), newKill(e), newPause(e), newUnpause(e), newWait(e), newAttach(e), newExec(e), newCp(e), newTop(e), newStats(e), newUpdate(e)}
}

// newContainerGroup makes the container command: docker's second names for what is
// about containers.
func newContainerGroup(e *Env) *cobra.Command {
	cmd := newCommandGroup("container", "Commands about containers, by docker's longer names")
	cmd.AddCommand(renamed(newPs(e), "ls", "list", "ps"), NewRun(e), newInspect(e, "container"), newContainerPrune(e))
	cmd.AddCommand(containerCommands(e)...)
	return cmd
}
