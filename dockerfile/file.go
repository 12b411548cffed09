package dockerfile

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/moby/buildkit/frontend/dockerfile/command"
	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
	"github.com/moby/buildkit/util/suggest"
)

// File is a parsed Dockerfile. It is immutable and safe for concurrent use.
type File struct {
	Name   string // for messages
	Source []byte

	ast      *parser.Node
	escape   rune
	warnings []parser.Warning
	stages   []instructions.Stage
	after    [][]string // values of FROM --after, by stage
}

// StageInfo describes a stage as it is written.
type StageInfo struct {
	Index       int
	Name        string // "" when it has none
	Base        string // as written, not expanded
	Platform    string // value of --platform, not expanded
	Description string // from a comment "# NAME text" above the FROM
	Location    Location
}

// Parse reads a Dockerfile; name is used in messages. It finds everything that
// is wrong with single instructions. The error is an *Error.
func Parse(name string, src []byte) (*File, error) {
	f := &File{Name: name, Source: src}
	if len(src) == 0 {
		return nil, f.fail(errors.New("the Dockerfile cannot be empty"), Location{})
	}
	if err := f.checkText(); err != nil {
		return nil, err
	}
	parsed, err := parser.Parse(bytes.NewReader(src))
	if err != nil {
		return nil, f.fail(err, directiveLocation(err))
	}
	f.ast, f.escape, f.warnings = parsed.AST, parsed.EscapeToken, parsed.Warnings
	for _, node := range f.ast.Children {
		if err := f.checkHeredocs(node); err != nil {
			return nil, err
		}
		if strings.EqualFold(node.Value, command.From) {
			after, err := takeAfter(node)
			if err != nil {
				return nil, f.fail(err, nodeLocation(node))
			}
			f.after = append(f.after, after)
		}
	}
	f.stages, _, err = f.instructions(silent(), nil)
	if err != nil {
		return nil, err
	}
	if len(f.stages) == 0 {
		return nil, f.fail(errors.New("dockerfile contains no stages to build"), Location{})
	}
	return f, nil
}

// checkText refuses what is not UTF-8. It would not survive the way through an
// image config, and the lexer would complain about it on stderr. Comments may
// hold anything but NUL.
func (f *File) checkText() error {
	if utf8.Valid(f.Source) && bytes.IndexByte(f.Source, 0) < 0 {
		return nil
	}
	number := 0
	for line := range bytes.Lines(f.Source) {
		number++
		if bytes.IndexByte(line, 0) >= 0 {
			return f.fail(fmt.Errorf("dockerfile parse error on line %d: NUL byte found, a Dockerfile is text in UTF-8", number), Location{number, number})
		}
		if !utf8.Valid(line) && !bytes.HasPrefix(bytes.TrimSpace(line), []byte("#")) {
			return f.fail(fmt.Errorf("dockerfile parse error on line %d: invalid UTF-8", number), Location{number, number})
		}
	}
	return nil
}

// checkHeredocs refuses lines of heredocs that look like comments and are not
// UTF-8.
func (f *File) checkHeredocs(node *parser.Node) error {
	for _, h := range node.Heredocs {
		if !utf8.ValidString(h.Content) {
			return f.fail(fmt.Errorf("dockerfile parse error on line %d: invalid UTF-8 in heredoc", node.StartLine), nodeLocation(node))
		}
	}
	return nil
}

// takeAfter removes the --after flags of a FROM, which BuildKit doesn't know,
// and returns their values.
func takeAfter(node *parser.Node) ([]string, error) {
	var after, rest []string
	for _, flag := range node.Flags {
		name, value, _ := strings.Cut(flag, "=")
		if name != "--after" {
			rest = append(rest, flag)
			continue
		}
		if value == "" {
			return nil, fmt.Errorf("dockerfile parse error on line %d: missing a value on flag: --after", node.StartLine)
		}
		after = append(after, value)
	}
	node.Flags = rest
	return after, nil
}

// directiveLocation returns where a directive is wrong, which BuildKit's parser
// reports one line too early. It is zero for other errors.
func directiveLocation(err error) Location {
	var located *parser.LocationError
	text := err.Error()
	if !strings.Contains(text, "invalid escape token") && !strings.Contains(text, "parser directive can be used") || !errors.As(err, &located) {
		return Location{}
	}
	line := locationOf(located.Locations[0]).Start + 1
	return Location{line, line}
}

func nodeLocation(node *parser.Node) Location { return Location{node.StartLine, node.EndLine} }

// Stages returns the stages in the order of the file.
func (f *File) Stages() []StageInfo {
	infos := make([]StageInfo, len(f.stages))
	for i, st := range f.stages {
		infos[i] = StageInfo{
			Index:       i,
			Name:        st.Name,
			Base:        st.BaseName,
			Platform:    st.Platform,
			Description: st.DocComment,
			Location:    locationOf(st.Location),
		}
	}
	return infos
}

// Suggest returns the name of a stage or of a well-known image that name could
// be a misspelling of. It is for messages about images that don't exist.
func (f *File) Suggest(name string) (string, bool) {
	var options []string
	for _, st := range f.stages {
		if st.Name != "" {
			options = append(options, st.Name)
		}
	}
	for _, image := range []string{"alpine", "busybox", "centos", "debian", "golang", "ubuntu", "fedora"} {
		options = append(options, image, image+":latest")
	}
	return Nearest(name, options)
}

// Nearest returns the one of options that word could be a misspelling of, by
// the measure that BuildKit uses for its suggestions.
func Nearest(word string, options []string) (string, bool) {
	return suggest.Search(word, options, true)
}
