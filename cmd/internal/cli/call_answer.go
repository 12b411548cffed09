package cli

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"cooper/builder"
	"cooper/dockerfile"
)

// The types below have the JSON form of BuildKit's packages frontend/subrequests
// and solver/pb.
type (
	callLocation struct {
		SourceIndex int         `json:"sourceIndex,omitempty"`
		Ranges      []callRange `json:"ranges,omitempty"`
	}
	callRange struct {
		Start callPosition `json:"start"`
		End   callPosition `json:"end"`
	}
	callPosition struct {
		Line int `json:"line,omitempty"`
	}
)

// locationJSON writes each line of l as a range of its own, as BuildKit's parser
// does; nil when no line is known.
func locationJSON(l dockerfile.Location) *callLocation {
	if l.IsZero() {
		return nil
	}
	var out callLocation
	for line := l.Start; line <= max(l.Start, l.End); line++ {
		out.Ranges = append(out.Ranges, callRange{callPosition{line}, callPosition{line}})
	}
	return &out
}

// lintAnswer is the answer to --check.
type lintAnswer struct {
	Warnings []lintWarning `json:"warnings"`
	Sources  []lintSource  `json:"sources"`
	Error    *lintFailure  `json:"buildError,omitempty"`

	location []dockerfile.Location // of each warning
}

type lintWarning struct {
	RuleName    string        `json:"ruleName"`
	Description string        `json:"description,omitempty"`
	URL         string        `json:"url,omitempty"`
	Detail      string        `json:"detail,omitempty"`
	Location    *callLocation `json:"location,omitempty"`
}

type lintSource struct {
	Filename string `json:"filename,omitempty"`
	Data     []byte `json:"data,omitempty"`
	Language string `json:"language,omitempty"`
}

type lintFailure struct {
	Message  string       `json:"message"`
	Location callLocation `json:"location"`
}

func lintOf(o builder.Options, warnings []dockerfile.Warning, err error) *lintAnswer {
	a := &lintAnswer{Sources: []lintSource{{Filename: o.DockerfileName, Data: o.Dockerfile, Language: "Dockerfile"}}}
	for _, w := range warnings {
		a.Warnings = append(a.Warnings, lintWarning{w.Rule, w.Description, w.URL, w.Message, cmp.Or(locationJSON(w.Location), &callLocation{})})
		a.location = append(a.location, w.Location)
	}
	if err != nil {
		a.Error = &lintFailure{Message: err.Error()}
		var mistake *dockerfile.Error
		if errors.As(err, &mistake) {
			for _, l := range append([]dockerfile.Location{mistake.Location}, mistake.Others...) {
				if more := locationJSON(l); more != nil {
					a.Error.Location.Ranges = append(a.Error.Location.Ranges, more.Ranges...)
				}
			}
		}
	}
	return a
}

// text prints the warnings in the order of the file.
func (a *lintAnswer) text(w io.Writer) error {
	order := make([]int, len(a.Warnings))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(x, y int) int { return a.location[x].Start - a.location[y].Start })
	var b strings.Builder
	switch n := len(a.Warnings); n {
	case 0:
		if a.Error == nil {
			b.WriteString("Check complete, no warnings found.\n")
		}
	case 1:
		b.WriteString("Check complete, 1 warning has been found!\n")
	default:
		fmt.Fprintf(&b, "Check complete, %d warnings have been found!\n", n)
	}
	for _, i := range order {
		warning := a.Warnings[i]
		fmt.Fprintf(&b, "\nWARNING: %s", warning.RuleName)
		if warning.URL != "" {
			fmt.Fprintf(&b, " - %s", warning.URL)
		}
		fmt.Fprintf(&b, "\n%s\n", warning.Detail)
		b.WriteString(dockerfile.Excerpt(a.Sources[0].Filename, a.Sources[0].Data, a.location[i]))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// outlineAnswer is the answer to --call=outline.
type outlineAnswer struct {
	Name        string         `json:"name,omitempty"`
	Description string         `json:"description,omitempty"`
	Args        []outlineArg   `json:"args,omitempty"`
	Secrets     []outlineMount `json:"secrets,omitempty"`
	SSH         []outlineMount `json:"ssh,omitempty"`
	Sources     [][]byte       `json:"sources,omitempty"`
}

type outlineArg struct {
	Name        string        `json:"name"`
	Description string        `json:"description,omitempty"`
	Value       string        `json:"value,omitempty"`
	Location    *callLocation `json:"location,omitempty"`
}

type outlineMount struct {
	Name     string        `json:"name"`
	Required bool          `json:"required,omitempty"`
	Location *callLocation `json:"location,omitempty"`
}

func outlineOf(o *dockerfile.Outline, source []byte) *outlineAnswer {
	a := &outlineAnswer{Name: o.Name, Description: o.Description, Sources: [][]byte{source}}
	for _, arg := range o.Args {
		a.Args = append(a.Args, outlineArg{arg.Name, arg.Description, arg.Value, locationJSON(arg.Location)})
	}
	mounts := func(list []dockerfile.OutlineMount) (out []outlineMount) {
		for _, m := range list {
			out = append(out, outlineMount{m.Name, m.Required, locationJSON(m.Location)})
		}
		return out
	}
	a.Secrets, a.SSH = mounts(o.Secrets), mounts(o.SSH)
	return a
}

// table prints lines of cells in columns, and an empty line.
func table(w io.Writer, padding int, lines [][]string) error {
	tw := tabwriter.NewWriter(w, 0, 0, padding, ' ', 0)
	for _, cells := range lines {
		fmt.Fprintln(tw, strings.Join(cells, "\t"))
	}
	return tw.Flush()
}

func (a *outlineAnswer) text(w io.Writer) error {
	var errs []error
	block := func(padding int, lines [][]string) {
		errs = append(errs, table(w, padding, lines))
		_, err := fmt.Fprintln(w)
		errs = append(errs, err)
	}
	if a.Name != "" || a.Description != "" {
		lines := [][]string{{"TARGET:", cmp.Or(a.Name, "(default)")}}
		if a.Description != "" {
			lines = append(lines, []string{"DESCRIPTION:", a.Description})
		}
		block(1, lines)
	}
	if len(a.Args) > 0 {
		lines := [][]string{{"BUILD ARG", "VALUE", "DESCRIPTION"}}
		for _, arg := range a.Args {
			lines = append(lines, []string{arg.Name, arg.Value, arg.Description})
		}
		block(3, lines)
	}
	for _, kind := range []struct {
		title  string
		mounts []outlineMount
	}{{"SECRET", a.Secrets}, {"SSH", a.SSH}} {
		if len(kind.mounts) == 0 {
			continue
		}
		lines := [][]string{{kind.title, "REQUIRED"}}
		for _, m := range kind.mounts {
			required := ""
			if m.Required {
				required = "true"
			}
			lines = append(lines, []string{m.Name, required})
		}
		block(3, lines)
	}
	return errors.Join(errs...)
}

// targetsAnswer is the answer to --call=targets.
type targetsAnswer struct {
	Targets []target `json:"targets"`
	Sources [][]byte `json:"sources"`
}

type target struct {
	Name        string        `json:"name,omitempty"`
	Default     bool          `json:"default,omitempty"`
	Description string        `json:"description,omitempty"`
	Base        string        `json:"base,omitempty"`
	Platform    string        `json:"platform,omitempty"`
	Location    *callLocation `json:"location,omitempty"`
}

// targetsOf lists the stages of the Dockerfile; nothing is looked up for that.
func targetsOf(o builder.Options) (*targetsAnswer, error) {
	file, err := dockerfile.Parse(o.DockerfileName, o.Dockerfile)
	if err != nil {
		return nil, err
	}
	a := &targetsAnswer{Sources: [][]byte{o.Dockerfile}}
	stages := file.Stages()
	for i, st := range stages {
		a.Targets = append(a.Targets, target{
			Name: st.Name, Default: i == len(stages)-1, Description: st.Description,
			Base: st.Base, Platform: st.Platform, Location: locationJSON(st.Location),
		})
	}
	return a, nil
}

func (a *targetsAnswer) text(w io.Writer) error {
	lines := [][]string{{"TARGET", "DESCRIPTION"}}
	for _, t := range a.Targets {
		name := t.Name
		switch {
		case name == "" && t.Default:
			name = "(default)"
		case t.Default:
			name += " (default)"
		}
		lines = append(lines, []string{name, t.Description})
	}
	return table(w, 1, lines)
}

// describeAnswer is the answer to --call=subrequests.describe.
type describeAnswer []request

type request struct {
	Name        string      `json:"name"`
	Version     string      `json:"version"`
	Type        string      `json:"type"`
	Description string      `json:"description"`
	Opts        []namedText `json:"opts"`
	Inputs      []namedText `json:"inputs"`
	Metadata    []namedText `json:"metadata"`
	Refs        []namedText `json:"refs"`
}

type namedText struct {
	Name        string `json:"name"`
	Description string `json:"description"`
}

// described are the calls, as BuildKit's frontend lists them.
var described = describeAnswer{
	{"frontend.outline", "1.0.0", "rpc", "List all parameters current build target supports", []namedText{{"target", "Target build stage"}}, nil, results, nil},
	{"frontend.targets", "1.0.0", "rpc", "List all targets current build supports", []namedText{}, nil, results, nil},
	{"frontend.lint", "1.0.0", "rpc", "Lint a Dockerfile", []namedText{}, nil, append(slices.Clone(results), namedText{Name: "result.statuscode"}), nil},
	{"frontend.subrequests.describe", "1.0.0", "rpc", "List available subrequest types", nil, nil, results, nil},
}

var results = []namedText{{Name: "result.json"}, {Name: "result.txt"}}

func (a describeAnswer) text(w io.Writer) error {
	lines := [][]string{{"NAME", "VERSION", "DESCRIPTION"}}
	for _, r := range a {
		lines = append(lines, []string{strings.TrimPrefix(r.Name, "frontend."), r.Version, r.Description})
	}
	return table(w, 1, lines)
}
