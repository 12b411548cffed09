package cli

import "github.com/spf13/cobra"

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
	for _, section := range cooperCommands() {
		cmd.AddGroup(&cobra.Group{ID: section.title, Title: section.title})
	}
	var entries []commandEntry
	for _, section := range cooperCommands() {
		for _, entry := range section.entries {
			entries = append(entries, commandEntry{entry.name, func(e *Env) *cobra.Command {
				sub := entry.make(e)
				sub.GroupID = section.title
				return sub
			}})
		}
	}
	e.addCommands(cmd, nil, entries)
	cmd.InitDefaultHelpCmd()
	for _, sub := range cmd.Commands() {
		sub.Hidden = sub.Hidden || sub.Name() == "help"
	}
	return cmd
}

// commandSection is a section of cooper's commands in its help.
type commandSection struct {
	title   string
	entries []commandEntry
}

// cooperCommands are cooper's commands, in the order in which they are used.
func cooperCommands() []commandSection {
	any := func(e *Env) *cobra.Command { return newInspect(e, "") }
	return []commandSection{
		{"Containers", append([]commandEntry{{"ps", newPs}}, containerCommands()...)},
		{"Images", []commandEntry{
			{"build", NewBuild}, {"images", newImages}, {"pull", newPull}, {"push", newPush}, {"tag", newTag}, {"untag", newUntag},
			{"rmi", newRmi}, {"history", newHistory}, {"save", newSave}, {"load", newLoad}, {"manifest", newManifest},
		}},
		{"Everything", []commandEntry{
			{"inspect", any}, {"events", newEvents}, {"info", newInfo}, {"system", newSystem}, {"volume", newVolume}, {"network", newNetwork}, {"healthcheck", newHealthcheck},
			{"container", newContainerGroup}, {"image", newImage}, {"generate", newGenerate}, {"quadlet", newQuadlet},
			{"login", newLogin}, {"logout", newLogout}, {"version", newVersion},
			{"builder", builderGroup("builder")}, {"buildx", builderGroup("buildx")},
		}},
	}
}
