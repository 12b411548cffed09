package dockerfile

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
	"github.com/moby/buildkit/frontend/dockerfile/shell"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

const scratch = "scratch"

// stage is a stage while it is planned.
type stage struct {
	decl     instructions.Stage // BaseName is expanded
	index    int
	label    string   // name, or "stage-N" as BuildKit calls one that has none
	base     *stage   // nil unless it starts from another stage
	after    []*stage // FROM --after
	commands []instruction
	deps     []dependency

	request   *ImageRequest // base image; also the named context that replaces the stage
	replaced  bool          // by a named context: the instructions don't count
	baseImage *dockerspec.DockerOCIImage
	triggered bool // ONBUILD triggers are among commands
	platform  *ocispec.Platform

	// What follows is set while the instructions are gone through.
	id         int // in Plan.Stages, -1 when the target does not need it
	planned    bool
	config     dockerspec.DockerOCIImage
	env        *env
	args       []instructions.KeyValuePairOptional
	declared   []OutlineArg // ARGs, for the outline
	workdirSet bool
	cmd        once
	entrypoint once
	health     once
	number     int // of the last step with a name
	total      int // of steps with a name
	own        int // total without what ONBUILD adds
	steps      []Step
}

// instruction is one with the trees it reads from: one for COPY --from,
// one for each mount of RUN.
type instruction struct {
	instructions.Command
	sources []source
	onBuild bool
	added   bool // by Edits: not in the Dockerfile, so there is nothing to check
	loc     Location
}

// source is a Source whose stage has no id yet. The zero source is the main
// build context.
type source struct {
	stage *stage
	other *Source
	name  string // as written
}

type dependency struct {
	on  *stage
	loc Location
}

// addStage notes a stage. Only stages above can be its base.
func (p *planner) addStage(index int, decl instructions.Stage) error {
	lint := p.lint.WithMergedConfigFromComments(decl.Comments)
	platform, err := p.expandFrom(&decl, lint)
	if err != nil {
		return err
	}
	st := &stage{decl: decl, index: index, id: -1, label: decl.Name, platform: platform}
	if st.label == "" {
		st.label = fmt.Sprintf("stage-%d", index)
	}
	st.base = p.stageNamed(decl.BaseName)
	p.stages = append(p.stages, st)
	if decl.Name != "" {
		p.byName[decl.Name] = st
		if r := p.findContext(decl.Name, p.platformOf(st)); r != nil {
			st.base, st.request, st.replaced = nil, r, true
			return nil
		}
	}
	if st.base == nil && decl.BaseName != scratch {
		st.total++
		st.request, err = p.findImage(decl.BaseName, p.platformOf(st))
		if err != nil {
			return p.file.fail(err, locationOf(decl.Location))
		}
	}
	for _, cmd := range decl.Commands {
		switch cmd.(type) {
		case *instructions.AddCommand, *instructions.CopyCommand, *instructions.RunCommand, *instructions.WorkdirCommand:
			st.total++
		}
	}
	return nil
}

func (p *planner) platformOf(st *stage) ocispec.Platform {
	if st.platform != nil {
		return *st.platform
	}
	return p.target
}

// link finds out which stages need which.
func (p *planner) link() error {
	for i, st := range p.stages {
		if st.replaced {
			continue
		}
		for _, name := range p.file.after[i] {
			on, err := p.findStage(name)
			if err != nil {
				return p.file.fail(err, locationOf(st.decl.Location))
			}
			st.after = append(st.after, on)
			st.deps = append(st.deps, dependency{on, locationOf(st.decl.Location)})
		}
		if err := p.editEnv(st); err != nil {
			return err
		}
		for _, c := range st.decl.Commands {
			cmd, err := p.newCommand(c)
			if err != nil {
				return p.file.fail(err, locationOf(c.Location()))
			}
			st.add(cmd)
			st.commands = append(st.commands, cmd)
		}
	}
	return p.checkCircles()
}

// add makes st depend on the stages that cmd reads from.
func (st *stage) add(cmd instruction) {
	for _, src := range cmd.sources {
		if src.stage != nil {
			st.deps = append(st.deps, dependency{src.stage, cmd.loc})
		}
	}
}

// findStage returns a stage by name or index.
func (p *planner) findStage(name string) (*stage, error) {
	if i, err := strconv.Atoi(name); err == nil {
		if i < 0 || i >= len(p.stages) {
			return nil, fmt.Errorf("invalid stage index %d", i)
		}
		return p.stages[i], nil
	}
	if st := p.stageNamed(strings.ToLower(name)); st != nil {
		return st, nil
	}
	return nil, fmt.Errorf("stage %q could not be found", name)
}

// stageNamed returns the stage called name, or the one that a named context
// "target:STAGE" puts in its place; nil when there is none above.
func (p *planner) stageNamed(name string) *stage {
	if n, err := parseImageName(name); err == nil {
		if target, ok := p.aliases[n.familiar()]; ok {
			return p.byName[target]
		}
	}
	return p.byName[name]
}

func (p *planner) newCommand(c instructions.Command) (instruction, error) {
	cmd := instruction{Command: c, loc: locationOf(c.Location())}
	switch c := c.(type) {
	case *instructions.CopyCommand:
		if c.From == "" {
			break
		}
		result, err := expand(p.lex, c.From, shell.EnvsFromSlice(nil))
		if err != nil {
			return cmd, err
		}
		if result.Result != c.From {
			return cmd, errors.New("variable expansion is not supported for --from, define a new stage with FROM using ARG from global scope as a workaround")
		}
		if _, err := strconv.Atoi(c.From); err == nil {
			st, err := p.findStage(c.From)
			if err != nil {
				return cmd, err
			}
			cmd.sources = []source{{stage: st}}
			break
		}
		src, err := p.findSource(c.From)
		if err != nil {
			return cmd, err
		}
		cmd.sources = []source{src}
	case *instructions.RunCommand:
		for _, m := range instructions.GetMounts(c) {
			if m.From == "" {
				p.external++ // BuildKit counts a mount without one as scratch
				cmd.sources = append(cmd.sources, source{})
				continue
			}
			src, err := p.findSource(m.From)
			if err != nil {
				return cmd, err
			}
			cmd.sources = append(cmd.sources, src)
		}
	}
	return cmd, nil
}

// findSource returns what COPY --from or RUN --mount=from means by name: a
// stage, a named context or an image.
func (p *planner) findSource(name string) (source, error) {
	if st := p.stageNamed(strings.ToLower(name)); st != nil {
		return source{stage: st}, nil
	}
	p.external++
	if name == scratch {
		return source{other: &Source{Scratch: true, Stage: -1}}, nil
	}
	r, err := p.findImage(name, p.target)
	if err != nil {
		return source{}, err
	}
	if r.Context != "" {
		return source{other: &Source{Named: r, Stage: -1}, name: name}, nil
	}
	return source{other: &Source{Image: r, Stage: -1}, name: name}, nil
}

// checkCircles finds stages that need each other.
func (p *planner) checkCircles() error {
	visited, path := map[*stage]bool{}, map[*stage]bool{}
	var visit func(st *stage, trail []Location) []Location
	visit = func(st *stage, trail []Location) []Location {
		if visited[st] {
			return nil
		}
		visited[st], path[st] = true, true
		defer delete(path, st)
		for _, d := range st.deps {
			next := append(slices.Clone(trail), d.loc)
			if path[d.on] {
				return next
			}
			if found := visit(d.on, next); found != nil {
				return found
			}
		}
		return nil
	}
	for _, st := range p.stages {
		if trail := visit(st, nil); trail != nil {
			err := fmt.Errorf("circular dependency detected on stage: %s", st.label)
			return &Error{File: p.file.Name, Location: trail[0], Others: trail[1:], Source: p.file.Source, Err: err}
		}
	}
	return nil
}

// reachable returns the stages that target needs, itself included.
// BuildUnused counts those above it as needed.
func (p *planner) reachable(target *stage) map[*stage]bool {
	needed := map[*stage]bool{}
	var visit func(st *stage)
	visit = func(st *stage) {
		if st == nil || needed[st] {
			return
		}
		needed[st] = true
		visit(st.base)
		for _, d := range st.deps {
			visit(d.on)
		}
	}
	visit(target)
	if p.o.BuildUnused {
		for _, st := range p.stages[:target.index] {
			visit(st)
		}
	}
	return needed
}

// resolve gives the stages that are needed their base configs and ONBUILD
// triggers, until the triggers name no further stages. Configs that are not
// known become Plan.Missing.
func (p *planner) resolve(target *stage) (map[*stage]bool, error) {
	for {
		needed := p.reachable(target)
		more := false
		for _, st := range p.stages {
			if !needed[st] && !p.o.AllStages {
				continue
			}
			if !p.lookUpBase(st) || st.triggered {
				continue
			}
			added, err := p.trigger(st)
			if err != nil {
				return nil, p.file.fail(err, locationOf(st.decl.Location))
			}
			more = more || added
		}
		if !more {
			return needed, nil
		}
		if err := p.checkCircles(); err != nil {
			return nil, err
		}
	}
}

// lookUpBase finds the config of the base image of st. It returns false when
// that is not known yet.
func (p *planner) lookUpBase(st *stage) bool {
	if st.request == nil {
		return true
	}
	config, ok := p.o.Images[*st.request]
	if !ok {
		if !p.missing[*st.request] {
			p.missing[*st.request] = true
			p.plan.Missing = append(p.plan.Missing, *st.request)
		}
		return false
	}
	st.baseImage = config
	return true
}

// trigger puts the ONBUILD instructions of the base in front of those of st. It
// reports whether they read from other trees.
func (p *planner) trigger(st *stage) (bool, error) {
	st.triggered = true
	if st.replaced {
		return false, nil
	}
	var triggers []string
	if st.baseImage != nil {
		triggers = st.baseImage.Config.OnBuild
	}
	if st.base != nil {
		for _, cmd := range st.base.commands {
			if c, ok := cmd.Command.(*instructions.OnbuildCommand); ok {
				triggers = append(triggers, c.Expression)
			}
		}
	}
	added := false
	commands := make([]instruction, 0, len(triggers))
	for _, trigger := range triggers {
		cmd, err := p.parseTrigger(trigger, st)
		if err != nil {
			return false, err
		}
		st.add(cmd)
		commands = append(commands, cmd)
		added = added || len(cmd.sources) > 0
	}
	st.commands = append(commands, st.commands...)
	st.own = st.total
	st.total += len(commands)
	return added, nil
}

func (p *planner) parseTrigger(trigger string, st *stage) (instruction, error) {
	if strings.ContainsRune(trigger, 0) {
		return instruction{}, errors.New("NUL byte in onbuild trigger")
	}
	parsed, err := parser.Parse(strings.NewReader(trigger))
	if err != nil {
		return instruction{}, bare(err)
	}
	if len(parsed.AST.Children) != 1 {
		return instruction{}, errors.New("onbuild trigger should be a single expression")
	}
	node := parsed.AST.Children[0]
	loc := locationOf(st.decl.Location)
	node.StartLine, node.EndLine = loc.Start, loc.End
	parsedCommand, err := instructions.ParseInstructionWithLinter(node, silent())
	if err != nil {
		return instruction{}, bare(err)
	}
	c, ok := parsedCommand.(instructions.Command)
	if !ok {
		return instruction{}, fmt.Errorf("%s isn't allowed as an ONBUILD trigger", strings.ToUpper(node.Value))
	}
	cmd, err := p.newCommand(c)
	cmd.onBuild = true
	return cmd, err
}

// bare removes the location from an error about a trigger: it counts the lines
// of the trigger, not those of the Dockerfile.
func bare(err error) error {
	var located *parser.LocationError
	if errors.As(err, &located) {
		located.Locations = nil
	}
	return err
}
