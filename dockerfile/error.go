package dockerfile

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/parser"
)

// Error is a mistake in a Dockerfile. All errors of Parse and Plan that are
// about the Dockerfile (rather than about the options) are of this type.
type Error struct {
	File     string     // name given to Parse
	Location Location   // lines that the message is about; zero when none is
	Others   []Location // further lines, as of the instructions that make a circle
	Source   []byte     // the whole Dockerfile
	Err      error      // the message, in BuildKit's words
}

// Error returns the message without the source lines.
func (e *Error) Error() string { return e.Err.Error() }

// Unwrap returns Err.
func (e *Error) Unwrap() error { return e.Err }

// Excerpt returns the lines of the Dockerfile in the form of the function
// Excerpt, one block for each Location, of which as with BuildKit the first
// comes last. It is "" when no line is known.
func (e *Error) Excerpt() string {
	var b strings.Builder
	for _, l := range slices.Backward(e.Others) {
		b.WriteString(Excerpt(e.File, e.Source, l))
	}
	b.WriteString(Excerpt(e.File, e.Source, e.Location))
	return b.String()
}

// fail wraps err, with the locations that BuildKit's packages put into it, or
// with loc when there are none.
func (f *File) fail(err error, loc Location) error {
	if err == nil {
		return nil
	}
	var known *Error
	if errors.As(err, &known) {
		return err
	}
	e := &Error{File: f.Name, Location: loc, Source: f.Source, Err: err}
	var located *parser.LocationError
	if loc.IsZero() && errors.As(err, &located) {
		for i, ranges := range located.Locations {
			if i == 0 {
				e.Location = locationOf(ranges)
			} else if l := locationOf(ranges); l != e.Location {
				e.Others = append(e.Others, l)
			}
		}
	}
	return e
}

// TargetError says that PlanOptions.Target names no stage.
type TargetError struct {
	Target string
	Stages []string // those there are, by name or index
}

// Error is in BuildKit's words.
func (e *TargetError) Error() string {
	return fmt.Sprintf("target stage %q could not be found", e.Target)
}
