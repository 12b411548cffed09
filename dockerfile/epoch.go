package dockerfile

import (
	"errors"
	"fmt"
	"maps"
	"strconv"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
)

const epochArg = "SOURCE_DATE_EPOCH"

// setEpoch works out what SOURCE_DATE_EPOCH says, which is a number or the name
// of something that has a time. Instructions see a number or nothing.
func (p *planner) setEpoch(stages []instructions.Stage) error {
	value, isArg := p.buildArgs[epochArg]
	if !isArg {
		value, _ = p.globals.Get(epochArg)
	}
	if value == "" {
		return nil
	}
	seconds := p.o.Epoch
	if n, err := strconv.ParseInt(value, 10, 64); err == nil {
		seconds = &n
		p.plan.Epoch = &Epoch{}
	} else if err := p.findEpoch(value, stages); err != nil {
		return err
	}
	p.plan.Epoch.Seconds = seconds
	p.buildArgs = maps.Clone(p.buildArgs)
	delete(p.buildArgs, epochArg)
	if seconds == nil {
		p.globals.unset(epochArg)
		return nil
	}
	formatted := strconv.FormatInt(*seconds, 10)
	if isArg {
		p.buildArgs[epochArg] = formatted
	}
	if _, ok := p.globals.Get(epochArg); ok {
		p.globals.set(epochArg, formatted)
	}
	return nil
}

// findEpoch sets Plan.Epoch to what name stands for: the main context, a named
// one, or the single remote file of a stage.
func (p *planner) findEpoch(name string, stages []instructions.Stage) error {
	if name == "context" {
		p.plan.Epoch = &Epoch{Context: true}
		return nil
	}
	if r := p.findContext(name, p.target); r != nil {
		p.plan.Epoch = &Epoch{Named: r.Context}
		return nil
	}
	for i := range stages {
		if !strings.EqualFold(stages[i].Name, name) {
			continue
		}
		remote, err := p.epochRemote(stages[i])
		if err != nil {
			return p.file.fail(err, locationOf(stages[i].Location))
		}
		p.plan.Epoch = &Epoch{Remote: remote}
		return nil
	}
	return fmt.Errorf("invalid SOURCE_DATE_EPOCH: %s", name)
}

// epochRemote returns the only source of a stage that is nothing but FROM
// scratch and an ADD of something remote.
func (p *planner) epochRemote(st instructions.Stage) (*Remote, error) {
	e := p.globals.clone()
	e.unset(epochArg)
	base, err := expand(p.lex, st.BaseName, e)
	if err != nil {
		return nil, fmt.Errorf("failed to process source stage base name %q: %w", st.BaseName, err)
	}
	if base.Result != scratch {
		return nil, errors.New("SOURCE_DATE_EPOCH stage must use FROM scratch")
	}
	var remote *Remote
	for _, cmd := range st.Commands {
		switch c := cmd.(type) {
		case *instructions.ArgCommand:
			if err := p.evalGlobals(e, []instructions.ArgCommand{*c}, p.buildArgs); err != nil {
				return nil, err
			}
		case *instructions.AddCommand:
			if remote != nil {
				return nil, errors.New("SOURCE_DATE_EPOCH stage must contain exactly one remote ADD")
			}
			if remote, err = p.epochSource(c, e); err != nil {
				return nil, err
			}
		default:
			return nil, fmt.Errorf("SOURCE_DATE_EPOCH stage does not meet source-only requirements: unsupported %s instruction", cmd.Name())
		}
	}
	if remote == nil {
		return nil, errors.New("SOURCE_DATE_EPOCH stage must contain exactly one remote ADD")
	}
	return remote, nil
}

func (p *planner) epochSource(c *instructions.AddCommand, e *env) (*Remote, error) {
	if len(c.SourceContents) != 0 || len(c.SourcePaths) != 1 {
		return nil, errors.New("SOURCE_DATE_EPOCH stage must contain exactly one remote ADD source")
	}
	src, err := expand(p.lex, c.SourcePaths[0], e)
	if err != nil {
		return nil, err
	}
	sum, err := expand(p.lex, c.Checksum, e)
	if err != nil {
		return nil, err
	}
	ref, isGit, err := parseGitRef(src.Result)
	switch {
	case err != nil:
		return nil, err
	case isGit:
		if sum.Result != "" {
			ref.Checksum = sum.Result
		}
		ref.KeepGitDir = ref.KeepGitDir || c.KeepGitDir != nil && *c.KeepGitDir
		return &Remote{URL: src.Result, Git: ref}, nil
	case isURL(src.Result):
		r, err := remoteFile(src.Result, sum.Result)
		return &r, err
	default:
		return nil, errors.New("SOURCE_DATE_EPOCH stage source must be a single HTTP(S) or Git ADD")
	}
}
