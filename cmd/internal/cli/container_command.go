package cli

import "github.com/spf13/cobra"

// containerCommands are the commands about containers that cooper has and, under
// the same names, cooper container.
func containerCommands() []commandEntry {
	return []commandEntry{
		{"run", NewRun}, {"create", newCreate}, {"start", newStart}, {"exec", newExec}, {"attach", newAttach}, {"logs", newLogs},
		{"wait", newWait}, {"stop", newStop}, {"restart", newRestart}, {"kill", newKill}, {"pause", newPause}, {"unpause", newUnpause},
		{"update", newUpdate}, {"top", newTop}, {"stats", newStats}, {"port", newPort}, {"cp", newCp}, {"diff", newDiff},
		{"commit", newCommit}, {"export", newExport}, {"rename", newRename}, {"rm", newRm},
	}
}

// newContainerGroup makes the container command: docker's second names for what is
// about containers.
func newContainerGroup(e *Env) *cobra.Command {
	cmd := newCommandGroup("container", "Commands about containers, by docker's longer names")
	e.addCommands(cmd, []string{"container"}, append(containerCommands(),
		as(newPs, "ls", "list", "ps"), commandEntry{"inspect", func(e *Env) *cobra.Command { return newInspect(e, "container") }},
		commandEntry{"prune", newContainerPrune}))
	return cmd
}
