package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"regexp"
	"strings"
	"text/tabwriter"
	"text/template"
	"time"
	"unicode"

	"github.com/docker/go-units"
)

// parseTemplate parses a --format value as docker does: \t and \n may be
// written so, and json, join, lower, upper, title, split, truncate, pad and
// println are there.
func parseTemplate(text string) (*template.Template, error) {
	text = strings.NewReplacer(`\t`, "\t", `\n`, "\n").Replace(text)
	t, err := template.New("format").Option("missingkey=error").Funcs(template.FuncMap{
		"json":     toJSON,
		"join":     joinAny,
		"lower":    strings.ToLower,
		"upper":    strings.ToUpper,
		"split":    strings.Split,
		"truncate": truncate,
		"pad":      pad,
	}).Parse(text)
	if err != nil {
		return nil, fmt.Errorf("invalid --format: %s", strings.TrimPrefix(err.Error(), "template: "))
	}
	return t, nil
}

func toJSON(v any) (string, error) {
	var b strings.Builder
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	err := enc.Encode(v)
	return strings.TrimSuffix(b.String(), "\n"), err
}

func joinAny(v any, sep string) string {
	switch list := v.(type) {
	case []string:
		return strings.Join(list, sep)
	case []any:
		words := make([]string, len(list))
		for i, word := range list {
			words[i] = fmt.Sprint(word)
		}
		return strings.Join(words, sep)
	}
	return fmt.Sprint(v)
}

func truncate(s string, n int) string {
	if r := []rune(s); len(r) > n {
		return string(r[:n])
	}
	return s
}

func pad(s string, before, after int) string {
	if s == "" {
		return s
	}
	return strings.Repeat(" ", before) + s + strings.Repeat(" ", after)
}

// printRows prints rows, one line each, as --format says: "" is a table of
// columns, "table TEMPLATE" one of other columns, "json" a JSON object a line,
// anything else a template. A row is a map from docker's field names to text.
func printRows[R ~map[string]V, V any](w io.Writer, format string, columns []column, rows []R) error {
	switch {
	case format == "" || format == "table":
		return printTable(w, columns, rows)
	case format == "json":
		format = "{{json .}}"
	}
	text, table := strings.CutPrefix(format, "table ")
	t, err := parseTemplate(text)
	if err != nil {
		return err
	}
	out := w
	if table {
		tw := newTable(w)
		defer tw.Flush()
		out = tw
		if err := t.Execute(out, headings(columns, text)); err != nil {
			return err
		}
		fmt.Fprintln(out)
	}
	for _, row := range rows {
		if err := t.Execute(out, row); err != nil {
			return fmt.Errorf("--format: %w", err)
		}
		fmt.Fprintln(out)
	}
	return nil
}

// column is one column of a table: the field that it shows and its heading.
type column struct{ field, heading string }

func newTable(w io.Writer) *tabwriter.Writer { return tabwriter.NewWriter(w, 10, 1, 3, ' ', 0) }

func printTable[R ~map[string]V, V any](w io.Writer, columns []column, rows []R) error {
	tw := newTable(w)
	line := make([]string, len(columns))
	for i, c := range columns {
		line[i] = c.heading
	}
	fmt.Fprintln(tw, strings.Join(line, "\t"))
	for _, row := range rows {
		for i, c := range columns {
			line[i] = fmt.Sprint(row[c.field])
		}
		fmt.Fprintln(tw, strings.Join(line, "\t"))
	}
	return tw.Flush()
}

// heading is a row of headings, for a table template.
type heading map[string]string

// Label is the heading of a column with one label.
func (heading) Label(name string) string { return name }

// headings makes the row of headings for a table template: those of the known
// columns, and for other fields that it names these names in capitals.
func headings(columns []column, text string) heading {
	h := make(heading)
	for _, field := range regexp.MustCompile(`\.[A-Za-z0-9]+`).FindAllString(text, -1) {
		var words strings.Builder
		for i, c := range field[1:] {
			if i > 0 && unicode.IsUpper(c) && unicode.IsLower(rune(field[i])) {
				words.WriteByte(' ')
			}
			words.WriteRune(unicode.ToUpper(c))
		}
		h[field[1:]] = words.String()
	}
	for _, c := range columns {
		h[c.field] = c.heading
	}
	return h
}

// ago says how long before now t was, as docker does.
func ago(now, t time.Time) string {
	if t.IsZero() || t.Unix() == 0 {
		return "N/A"
	}
	return units.HumanDuration(now.Sub(t)) + " ago"
}

// humanSize is n bytes with three digits: "187MB".
func humanSize(n int64) string { return units.HumanSizeWithPrecision(float64(n), 3) }

// shortID is the first twelve letters of an ID.
func shortID(id string) string { return id[:min(len(id), 12)] }
