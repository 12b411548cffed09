package progress

import (
	"fmt"
	"strings"

	"cooper/builder"
)

// warning is one to be shown when the build has ended.
type warning struct {
	message string
	detail  []string
}

func newWarning(e builder.Event) warning {
	w := warning{message: oneLine(e.Message)}
	for line := range strings.Lines(e.Detail) {
		w.detail = append(w.detail, expandLine(line))
	}
	return w
}

// expandLine makes a line of a Dockerfile fit for a terminal, its indentation
// kept.
func expandLine(line string) string {
	line = strings.TrimRight(line, "\r\n")
	rest := strings.TrimLeft(line, " \t")
	return strings.ReplaceAll(line[:len(line)-len(rest)], "\t", "    ") + oneLine(rest)
}

// warningLines lists the warnings in BuildKit's form, each with its details; it
// is empty when there are none.
func (b *board) warningLines() []string {
	var lines []string
	switch n := len(b.warnings); n {
	case 0:
	case 1:
		lines = append(lines, " 1 warning found:")
	default:
		lines = append(lines, fmt.Sprintf(" %d warnings found:", n))
	}
	for i, w := range b.warnings {
		lines = append(lines, " - "+w.message)
		lines = append(lines, w.detail...)
		if len(w.detail) > 0 && i < len(b.warnings)-1 {
			lines = append(lines, "")
		}
	}
	return lines
}
