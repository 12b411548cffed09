package dockerfile

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/containerd/platforms"
	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/linter"
	"github.com/moby/buildkit/util/suggest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// setGlobals evaluates the arguments before the first FROM on top of the
// predefined ones.
func (p *planner) setGlobals(stages []instructions.Stage, args []instructions.ArgCommand) error {
	target := p.o.Target
	if target == "" {
		target = stages[len(stages)-1].Name
	}
	p.globals = p.platformArgs(target)
	p.lintDefaultArgs(stages, args)
	if err := p.evalGlobals(p.globals, args, p.buildArgs); err != nil {
		return err
	}
	for _, cmd := range args {
		for _, arg := range cmd.Args {
			p.declared[arg.Key] = true
		}
	}
	return nil
}

// platformArgs returns the arguments that are defined without any ARG. A build
// argument replaces them too.
func (p *planner) platformArgs(target string) *env {
	if target == "" {
		target = "default"
	}
	e := newEnv()
	for _, kv := range [...][2]string{
		{"BUILDPLATFORM", platforms.Format(p.build)},
		{"BUILDOS", p.build.OS},
		{"BUILDOSVERSION", p.build.OSVersion},
		{"BUILDARCH", p.build.Architecture},
		{"BUILDVARIANT", p.build.Variant},
		{"TARGETPLATFORM", platforms.FormatAll(p.target)},
		{"TARGETOS", p.target.OS},
		{"TARGETOSVERSION", p.target.OSVersion},
		{"TARGETARCH", p.target.Architecture},
		{"TARGETVARIANT", p.target.Variant},
		{"TARGETSTAGE", target},
	} {
		if v, ok := p.buildArgs[kv[0]]; ok {
			kv[1] = v
		}
		e.set(kv[0], kv[1])
	}
	return e
}

func (p *planner) evalGlobals(e *env, args []instructions.ArgCommand, buildArgs map[string]string) error {
	for _, cmd := range args {
		for _, arg := range cmd.Args {
			if v, ok := buildArgs[arg.Key]; ok {
				e.set(arg.Key, v)
				continue
			}
			if arg.Value == nil {
				continue
			}
			result, err := expand(p.lex, *arg.Value, e)
			if err != nil {
				return p.file.fail(err, locationOf(cmd.Location()))
			}
			e.set(arg.Key, result.Result)
		}
	}
	return nil
}

// lintDefaultArgs warns when a FROM makes no sense without build arguments.
func (p *planner) lintDefaultArgs(stages []instructions.Stage, args []instructions.ArgCommand) {
	e := p.globals.clone()
	if p.evalGlobals(e, args, nil) != nil {
		return // the same error is about to be reported
	}
	for _, st := range stages {
		result, err := expand(p.lex, st.BaseName, e)
		if err != nil {
			return
		}
		if _, err := parseImageName(result.Result); err != nil {
			p.lint.Run(&linter.RuleInvalidDefaultArgInFrom, st.Location, linter.RuleInvalidDefaultArgInFrom.Format(st.BaseName))
		}
	}
}

// expandFrom expands the base name of st and its platform, nil when it has
// none.
func (p *planner) expandFrom(st *instructions.Stage, lint *linter.Linter) (*ocispec.Platform, error) {
	loc := locationOf(st.Location)
	base, err := expand(p.lex, st.BaseName, p.globals)
	p.lintUndeclared(base.Unmatched, st, lint)
	if err != nil {
		return nil, p.file.fail(err, loc)
	}
	if base.Result == "" {
		return nil, p.file.fail(fmt.Errorf("base name (%s) should not be blank", st.BaseName), loc)
	}
	st.BaseName = base.Result
	if st.Platform == "" {
		return nil, nil
	}

	result, err := expand(p.lex, st.Platform, p.globals)
	p.lintUndeclared(result.Unmatched, st, lint)
	p.lintPlatform(result.Result, result.Matched, result.Unmatched, st, lint)
	if err != nil {
		return nil, p.file.fail(fmt.Errorf("failed to process arguments for platform %s: %w", result.Result, err), loc)
	}
	if result.Result == "" {
		err := fmt.Errorf("empty platform value from expression %s", st.Platform)
		return nil, p.file.fail(suggestAny(err, result.Unmatched, p.globals.Keys()), loc)
	}
	platform, err := platforms.Parse(result.Result)
	if err != nil {
		err = suggestAny(err, result.Unmatched, p.globals.Keys())
		return nil, p.file.fail(fmt.Errorf("failed to parse platform %s: %w", st.Platform, err), loc)
	}
	return &platform, nil
}

// lintPlatform checks the value of FROM --platform, of which result is the
// expansion.
func (p *planner) lintPlatform(result string, matched, unmatched map[string]struct{}, st *instructions.Stage, lint *linter.Linter) {
	const name = "TARGETPLATFORM"
	if _, ok := matched[name]; ok && len(matched) == 1 && len(unmatched) == 0 {
		if v, _ := p.globals.Get(name); v == result {
			lint.Run(&linter.RuleRedundantTargetPlatform, st.Location, linter.RuleRedundantTargetPlatform.Format(st.Platform))
		}
	}
	if len(matched) > 0 || len(unmatched) > 0 {
		return
	}
	platform, err := platforms.Parse(result)
	if err != nil || strings.Contains(st.Name, platform.OS) || strings.Contains(st.Name, platform.Architecture) {
		return
	}
	lint.Run(&linter.RuleFromPlatformFlagConstDisallowed, st.Location, linter.RuleFromPlatformFlagConstDisallowed.Format(result))
}

func (p *planner) lintUndeclared(unmatched map[string]struct{}, st *instructions.Stage, lint *linter.Linter) {
	if len(unmatched) == 0 {
		return
	}
	known := maps.Clone(p.declared)
	for _, k := range p.globals.Keys() {
		known[k] = true
	}
	for _, name := range sortedKeys(unmatched) {
		if !known[name] {
			near, _ := suggest.Search(name, sortedKeys(known), true)
			lint.Run(&linter.RuleUndefinedArgInFrom, st.Location, linter.RuleUndefinedArgInFrom.Format(name, near))
		}
	}
}

// suggestAny adds a suggestion to err for the first of names that has one.
func suggestAny(err error, names map[string]struct{}, options []string) error {
	options = slices.Clone(options)
	for _, name := range sortedKeys(names) {
		if ok, wrapped := suggest.WrapErrorMaybe(err, name, options, true); ok {
			return wrapped
		}
	}
	return err
}
