package dockerfile

import (
	"fmt"
	"slices"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/linter"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
)

// Warning is a finding of one of BuildKit's checks.
type Warning struct {
	Rule        string // "StageNameCasing"
	Description string // what the rule is about
	URL         string // documentation of the rule; may be ""
	Message     string // what was found
	Location    Location
}

// String returns the form in which BuildKit prints a warning in one line.
func (w Warning) String() string {
	return linter.LintFormatShort(w.Rule, w.Message, w.Location.Start)
}

// CheckError is returned when there are warnings and the Dockerfile says
// "# check=error=true".
type CheckError struct {
	File     string
	Rules    []string // that were broken, sorted
	Warnings []Warning
}

// Error names the rules, as BuildKit does.
func (e *CheckError) Error() string {
	return "lint violation found for rules: " + strings.Join(e.Rules, ", ")
}

// newLinter returns a linter as the check directive, or the build argument
// that overrides it, wants it. Findings are given to warn.
func (f *File) newLinter(o PlanOptions, warn func(Warning)) (*linter.Linter, error) {
	option, overridden := o.BuildArgs["BUILDKIT_DOCKERFILE_CHECK"]
	var loc Location
	if !overridden {
		var ranges []parser.Range
		option, _, ranges, _ = parser.ParseDirective("check", f.Source)
		loc = locationOf(ranges)
	}
	config, err := linter.ParseLintOptions(option)
	if err != nil {
		return nil, f.fail(fmt.Errorf("failed to parse check options: %w", err), loc)
	}
	config.Warn = func(rule, description, url, message string, ranges []parser.Range) {
		warn(Warning{Rule: rule, Description: description, URL: url, Message: message, Location: locationOf(ranges)})
	}
	return linter.New(config), nil
}

// silent returns a linter that says nothing. BuildKit's packages crash without
// one when there is a "# check=" comment.
func silent() *linter.Linter { return linter.New(&linter.Config{}) }

// checkError returns a *CheckError when the linter found something and was
// told to be strict.
func (f *File) checkError(lint *linter.Linter, warnings []Warning) error {
	if lint.Error() == nil {
		return nil
	}
	rules := slices.Clone(*lint.CalledRules)
	slices.Sort(rules)
	return &CheckError{File: f.Name, Rules: slices.Compact(rules), Warnings: warnings}
}

// instructions turns the syntax tree into stages and global ARGs. They are made
// anew for each plan because expansion of variables happens in place. Mounts are
// values of --mount flags that each RUN gets beside its own.
func (f *File) instructions(lint *linter.Linter, mounts []string) ([]instructions.Stage, []instructions.ArgCommand, error) {
	for _, w := range f.warnings {
		if w.URL == linter.RuleNoEmptyContinuation.URL {
			lint.Run(&linter.RuleNoEmptyContinuation, []parser.Range{*w.Location}, linter.RuleNoEmptyContinuation.Format())
		}
	}
	stages, args, err := instructions.Parse(withMounts(f.ast, mounts), lint)
	if err != nil {
		return nil, nil, f.fail(err, Location{})
	}
	return stages, args, nil
}

func lintStageNames(stages []instructions.Stage, lint *linter.Linter) {
	seen := map[string]bool{}
	for _, st := range stages {
		if st.Name == "" {
			continue
		}
		if st.Name == "scratch" || st.Name == "context" {
			lint.Run(&linter.RuleReservedStageName, st.Location, linter.RuleReservedStageName.Format(st.Name))
		}
		if seen[st.Name] {
			lint.Run(&linter.RuleDuplicateStageName, st.Location, linter.RuleDuplicateStageName.Format(st.Name))
		}
		seen[st.Name] = true
	}
}

// lintCasing wants all instructions in the case that most of them have.
func lintCasing(stages []instructions.Stage, lint *linter.Linter) {
	lower, upper := 0, 0
	eachInstruction(stages, func(name string, _ []parser.Range) {
		switch name {
		case strings.ToLower(name):
			lower++
		case strings.ToUpper(name):
			upper++
		}
	})
	want, fold := "uppercase", strings.ToUpper
	if lower > upper {
		want, fold = "lowercase", strings.ToLower
	}
	eachInstruction(stages, func(name string, loc []parser.Range) {
		if fold(name) != name {
			lint.Run(&linter.RuleConsistentInstructionCasing, loc, linter.RuleConsistentInstructionCasing.Format(name, want))
		}
	})
}

func eachInstruction(stages []instructions.Stage, fn func(name string, loc []parser.Range)) {
	for _, st := range stages {
		fn(st.OrigCmd, st.Location)
		for _, cmd := range st.Commands {
			fn(cmd.Name(), cmd.Location())
		}
	}
}

// secretWords make a variable look like a secret unless one of publicWords is
// in its name too. Words are what underscores separate.
var (
	secretWords = []string{"apikey", "auth", "credential", "credentials", "key", "password", "pword", "passwd", "secret", "token"}
	publicWords = []string{"public", "file", "version"}
)

func lintSecret(instruction, key string, loc []parser.Range, lint *linter.Linter) {
	words := strings.Split(strings.ToLower(key), "_")
	has := func(list []string) bool {
		return slices.ContainsFunc(words, func(w string) bool { return slices.Contains(list, w) })
	}
	if has(secretWords) && !has(publicWords) {
		lint.Run(&linter.RuleSecretsUsedInArgOrEnv, loc, linter.RuleSecretsUsedInArgOrEnv.Format(instruction, key))
	}
}

// once remembers an instruction of which only the last one counts.
type once struct {
	set bool
	loc []parser.Range
}

// mark notes that c was seen, and warns about the one before it, which is the
// one that has no effect.
func (o *once) mark(c instructions.Command, lint *linter.Linter) {
	if o.set {
		lint.Run(&linter.RuleMultipleInstructionsDisallowed, o.loc, linter.RuleMultipleInstructionsDisallowed.Format(c.Name()))
	}
	o.set, o.loc = true, c.Location()
}
