package cli

import (
	"cmp"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/term"
)

// The sections of a command's options in its help. Flags are in sectionOptions
// unless marked.
const (
	sectionOptions   = "Options"
	sectionNetwork   = "Network"
	sectionHealth    = "Health"
	sectionResources = "Resources"
	sectionSecurity  = "Security"
	sectionStore     = "Store options"
)

// sectionKey marks a flag with its section in pflag.Flag.Annotations.
const sectionKey = "section"

// markSection puts f into a section.
func markSection(f *pflag.Flag, section string) {
	if f.Annotations == nil {
		f.Annotations = make(map[string][]string)
	}
	f.Annotations[sectionKey] = []string{section}
}

// markSections puts flags by name into a section.
func markSections(fs *pflag.FlagSet, section string, names ...string) {
	for _, name := range names {
		markSection(fs.Lookup(name), section)
	}
}

// help prints a command's help. It is written out rather than made from
// cobra's template, which would be parsed for it.
func help(cmd *cobra.Command, _ []string) {
	var b strings.Builder
	about := cmd.Long
	if about == "" {
		about = cmd.Short
	}
	fmt.Fprintf(&b, "%s\n", strings.TrimSpace(about))
	if cmd.Runnable() {
		fmt.Fprintf(&b, "\nUsage:  %s\n", cmd.UseLine())
	} else {
		fmt.Fprintf(&b, "\nUsage:  %s COMMAND\n", cmd.CommandPath())
	}
	if cmd.Example != "" {
		fmt.Fprintf(&b, "\nExamples:\n%s\n", strings.ReplaceAll(strings.Trim(cmd.Example, "\n"), "@ ", cmd.CommandPath()+" "))
	}
	helpCommands(&b, cmd)
	helpOptions(&b, cmd)
	if cmd.HasAvailableSubCommands() {
		fmt.Fprintf(&b, "\nRun '%s COMMAND --help' for more about a command\n", cmd.CommandPath())
	}
	io.WriteString(cmd.OutOrStdout(), b.String())
}

// helpCommands lists the commands below cmd.
func helpCommands(b *strings.Builder, cmd *cobra.Command) {
	if !cmd.HasAvailableSubCommands() {
		return
	}
	titles := []string{""}
	for _, group := range cmd.Groups() {
		titles = append(titles, group.ID)
	}
	for _, title := range titles {
		heading := "\n" + cmp.Or(title, "Commands") + ":\n"
		for _, sub := range cmd.Commands() {
			if sub.IsAvailableCommand() && sub.GroupID == title {
				fmt.Fprintf(b, "%s  %-10s %s\n", heading, sub.Name(), sub.Short)
				heading = ""
			}
		}
	}
}

// helpOptions lists cmd's flags, section by section, in the order in which they
// were declared.
func helpOptions(b *strings.Builder, cmd *cobra.Command) {
	width := 80
	if f, ok := cmd.OutOrStdout().(*os.File); ok {
		if w, _, err := term.GetSize(int(f.Fd())); err == nil {
			width = max(60, min(w, 110))
		}
	}
	sections := make(map[string][]*pflag.Flag)
	cmd.Flags().SortFlags = false
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		name := sectionOptions
		if marked := f.Annotations[sectionKey]; len(marked) > 0 {
			name = marked[0]
		}
		if !f.Hidden {
			sections[name] = append(sections[name], f)
		}
	})
	for _, name := range []string{sectionOptions, sectionNetwork, sectionHealth, sectionResources, sectionSecurity, sectionStore} {
		if flags := sections[name]; len(flags) > 0 {
			fmt.Fprintf(b, "\n%s:\n", name)
			for _, f := range flags {
				helpFlag(b, f, width)
			}
		}
	}
}

// flagColumn is where the explanations of flags begin.
const flagColumn = 32

// helpFlag prints a flag and what it is for, in at most width columns. A word
// in back quotes in its usage is the name of its value.
func helpFlag(b *strings.Builder, f *pflag.Flag, width int) {
	value, usage := pflag.UnquoteUsage(f)
	left := "      --" + f.Name
	if f.Shorthand != "" {
		left = "  -" + f.Shorthand + ", --" + f.Name
	}
	switch {
	case f.Value.Type() == "bool":
	case f.NoOptDefVal != "":
		left += "[=" + value + "]"
	default:
		left += " " + value
	}
	column := len(left)
	b.WriteString(left)
	if column+2 > flagColumn {
		b.WriteByte('\n')
		column = 0
	}
	for _, word := range strings.Fields(usage) {
		if column > flagColumn && column+1+len(word) > width {
			b.WriteByte('\n')
			column = 0
		}
		if column < flagColumn {
			b.WriteString(strings.Repeat(" ", flagColumn-column))
			column = flagColumn
		} else {
			b.WriteByte(' ')
			column++
		}
		b.WriteString(word)
		column += len(word)
	}
	b.WriteByte('\n')
}
