package main

import (
	"fmt"
	"strings"
)

// table renders the results in Markdown: a row for each case, a column for
// each tool. A cell has what was measured, seconds if the row does not say
// otherwise, and in parentheses how many times that of the first tool it is; the
// floors of a case come last in its row.
func table(results []result, tools []string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "| seconds | %s | floor |\n", strings.Join(tools, " | "))
	fmt.Fprintf(&b, "|---|%s---|\n", strings.Repeat("---|", len(tools)))
	for _, r := range results {
		ours := 0.0
		if len(tools) > 0 {
			ours = r.median[tools[0]]
		}
		cells := []string{r.title}
		for _, name := range tools {
			cells = append(cells, cell(r.median, name, ours))
		}
		var floors []string
		for _, name := range r.floors {
			floors = append(floors, name+" "+cell(r.median, name, ours))
		}
		fmt.Fprintf(&b, "| %s | %s |\n", strings.Join(cells, " | "), strings.Join(floors, ", "))
	}
	return b.String()
}

func cell(median map[string]float64, name string, ours float64) string {
	s, ok := median[name]
	switch {
	case !ok:
		return "-"
	case ours == 0 || s == ours:
		return format(s)
	}
	return fmt.Sprintf("%s (%.2gx)", format(s), s/ours)
}

// format gives a figure three digits that mean something.
func format(s float64) string {
	switch {
	case s < 1:
		return fmt.Sprintf("%.3f", s)
	case s < 100:
		return fmt.Sprintf("%.2f", s)
	}
	return fmt.Sprintf("%.0f", s)
}
