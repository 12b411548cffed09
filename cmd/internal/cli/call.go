package cli

import (
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"cooper/builder"
)

// call is what --call or --check asks for instead of a build.
type call struct {
	// name is "lint", "outline", "targets", "subrequests.describe" or ""
	// for a build.
	name         string
	json         bool
	ignoreStatus bool
}

// parseCall reads the value of --call, as buildx does: a name, and format= and
// ignorestatus= in any order.
func parseCall(value string) (call, error) {
	var c call
	if value == "" {
		return c, nil
	}
	fields, err := csv.NewReader(strings.NewReader(value)).Read()
	if err != nil {
		return c, fmt.Errorf("invalid --call value %q: %w", value, err)
	}
	for _, field := range fields {
		key, arg, isOption := strings.Cut(field, "=")
		switch {
		case !isOption && c.name == "":
			c.name = field
		case key == "format" && (arg == "json" || arg == "text"):
			c.json = arg == "json"
		case key == "ignorestatus":
			if c.ignoreStatus, err = strconv.ParseBool(arg); err != nil {
				return c, fmt.Errorf("invalid --call value %q: %w", value, err)
			}
		default:
			return c, fmt.Errorf("invalid --call value %q: want build, check, outline or targets, with or without ,format=json", value)
		}
	}
	switch c.name {
	case "build":
		c.name = ""
	case "check":
		c.name = "lint"
	case "lint", "outline", "targets", "subrequests.describe":
	default:
		return c, fmt.Errorf("unknown call %q: want build, check, outline or targets", c.name)
	}
	return c, nil
}

// do answers the call on standard output. Warnings make the status 1.
func (c call) do(ctx context.Context, w io.Writer, b *builder.Builder, o builder.Options) error {
	switch c.name {
	case "outline":
		outline, err := b.Outline(ctx, o)
		if err != nil {
			return err
		}
		return c.print(w, outlineOf(outline, o.Dockerfile))
	case "targets":
		list, err := targetsOf(o)
		if err != nil {
			return err
		}
		return c.print(w, list)
	case "subrequests.describe":
		return c.print(w, described)
	}
	warnings, err := b.Lint(ctx, o)
	if err != nil && ctx.Err() != nil {
		return err
	}
	result := lintOf(o, warnings, err)
	if perr := c.print(w, result); perr != nil {
		return perr
	}
	if err != nil {
		if !c.json && len(warnings) > 0 {
			fmt.Fprintln(w)
		}
		return err
	}
	if len(warnings) > 0 && !c.ignoreStatus {
		return &exitStatus{status: statusError}
	}
	return nil
}

// answer is what a call prints.
type answer interface{ text(w io.Writer) error }

// print writes a as text or JSON.
func (c call) print(w io.Writer, a answer) error {
	if !c.json {
		return a.text(w)
	}
	data, err := json.MarshalIndent(a, "", "  ")
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, "%s\n", data)
	return err
}

// errNoCallOutput refuses flags that make no sense together.
var errNoCallOutput = errors.New("--check and --call build nothing, so there is no image to write the ID of")
