package dockerfile

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/containerd/platforms"
	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/linter"
	"github.com/moby/buildkit/frontend/dockerfile/shell"
	"github.com/moby/buildkit/util/suggest"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// historyComment marks history entries in the way BuildKit does.
const historyComment = "buildkit.dockerfile.v0"

// planStages goes through the instructions of the stages in the order of the
// file, which is the order in which they can be built: a stage that reads from
// one further down is an error.
func (p *planner) planStages(needed map[*stage]bool, target *stage) error {
	for _, st := range p.stages {
		if !needed[st] && !p.o.AllStages {
			continue
		}
		if needed[st] {
			st.id = len(p.plan.Stages)
		}
		planned, err := p.planStage(st)
		if err != nil {
			return err
		}
		if st == target {
			p.finish(&planned.Config)
		}
		if needed[st] {
			p.plan.Stages = append(p.plan.Stages, planned)
		}
	}
	return nil
}

func (p *planner) planStage(st *stage) (*Stage, error) {
	st.planned = true
	p.begin(st)
	planned := &Stage{
		ID:       st.id,
		Index:    st.index,
		Name:     st.decl.Name,
		Location: locationOf(st.decl.Location),
		Base:     p.baseOf(st),
	}
	for _, on := range st.after {
		if !on.planned {
			return nil, p.file.fail(fmt.Errorf("cannot wait for stage %q, it needs to be defined before current stage %q", on.label, st.label), planned.Location)
		}
		if !slices.Contains(planned.After, on.id) {
			planned.After = append(planned.After, on.id)
		}
	}
	for _, cmd := range st.commands {
		d := &dispatcher{planner: p, stage: st, cmd: cmd, lint: p.lint.WithMergedConfigFromComments(cmd.Comments())}
		if cmd.added {
			d.lint = silent()
		}
		if err := d.dispatch(); err != nil {
			return nil, p.file.fail(err, cmd.loc)
		}
	}
	p.o.Edits.editResult(st)
	planned.Platform = *st.platform
	planned.Steps = st.steps
	planned.Config = cloneConfig(st.config)
	return planned, nil
}

// begin sets up what the first instruction of st finds.
func (p *planner) begin(st *stage) {
	switch {
	case st.base != nil:
		st.platform = st.base.platform
		st.config = baseConfig(st.base.config)
		st.env = st.base.env.clone()
		st.args = slices.Clone(st.base.args)
		st.workdirSet = st.base.workdirSet
		st.baseImage = st.base.baseImage
	case st.request == nil:
		st.platform = &p.target // FROM scratch takes no notice of --platform
		st.config = emptyConfig(p.target)
		st.env = newEnv()
	default:
		p.beginImage(st)
	}
	c := &st.config.Config
	if !slices.ContainsFunc(c.Env, func(kv string) bool { return strings.HasPrefix(kv, "PATH=") }) && st.platform.OS != "windows" {
		c.Env = append(c.Env, "PATH="+defaultPath)
	}
	for _, kv := range c.Env {
		k, v, _ := strings.Cut(kv, "=")
		st.env.set(k, v)
	}
	if c.WorkingDir != "" {
		c.WorkingDir = joinDir("/", c.WorkingDir)
	}
	p.o.Edits.editBase(st)
}

func (p *planner) beginImage(st *stage) {
	platform := p.platformOf(st)
	st.env = newEnv()
	if st.baseImage == nil {
		st.config = emptyConfig(platform)
	} else {
		st.config = baseConfig(*st.baseImage)
	}
	if st.replaced && st.config.OS != "" && st.config.Architecture != "" {
		platform = st.config.Platform
	}
	st.platform = &platform
	if st.request.Context == "" && (platform.OS != st.config.OS || platform.Architecture != st.config.Architecture) {
		want := platforms.FormatAll(platforms.Normalize(platform))
		have := platforms.FormatAll(platforms.Normalize(st.config.Platform))
		p.lint.Run(&linter.RuleInvalidBaseImagePlatform, st.decl.Location,
			linter.RuleInvalidBaseImagePlatform.Format(st.decl.BaseName, want, have))
	}
}

func (p *planner) baseOf(st *stage) Base {
	switch {
	case st.base != nil:
		return Base{Stage: st.base.id}
	case st.request == nil:
		return Base{Scratch: true, Stage: -1}
	case st.request.Context != "":
		return Base{Image: st.request, Stage: -1}
	case st.baseImage != nil && !hasLayers(st.baseImage):
		return Base{Image: st.request, Stage: -1} // for BuildKit that is scratch
	default:
		text := "FROM " + st.request.Ref
		return Base{Image: st.request, Stage: -1, Name: p.stepName(st, st.own, text, false, newEnv())}
	}
}

// finish makes config that of the image to be built.
func (p *planner) finish(config *dockerspec.DockerOCIImage) {
	if len(p.o.Labels) > 0 {
		if config.Config.Labels == nil {
			config.Config.Labels = map[string]string{}
		}
		maps.Copy(config.Config.Labels, p.o.Labels)
		p.o.Edits.unsetLabels(config.Config.Labels)
	}
	if !p.implicit {
		same := p.target.OS == config.OS && p.target.Architecture == config.Architecture
		config.OS, config.Architecture = p.target.OS, p.target.Architecture
		if p.target.Variant != "" || !same {
			config.Variant = p.target.Variant
		}
		if p.target.OSVersion != "" || !same {
			config.OSVersion = p.target.OSVersion
		}
		if p.target.OSFeatures != nil {
			config.OSFeatures = slices.Clone(p.target.OSFeatures)
		}
	}
	config.Platform = platforms.Normalize(config.Platform)
}

// stepName counts a step and puts "[stage 2/5]" in front of its text, for total
// steps, counting from the base image.
func (p *planner) stepName(st *stage, total int, text string, onBuild bool, e shell.EnvGetter) string {
	if total == 0 {
		return text
	}
	st.number++
	var b strings.Builder
	b.WriteByte('[')
	if p.o.MultiPlatform {
		b.WriteString(platforms.FormatAll(p.platformOf(st)) + crossPlatform(p.platformOf(st), e) + " ")
	}
	// A build with nothing but one stage does not name it.
	if len(p.stages)+p.external > 1 {
		b.WriteString(st.label + " ")
	}
	fmt.Fprintf(&b, "%*d/%d] ", int(1+math.Log10(float64(total))), st.number, total)
	if onBuild {
		b.WriteString("ONBUILD ")
	}
	b.WriteString(text)
	return b.String()
}

// crossPlatform returns "->arm64" when the stage runs on one platform and the
// arguments in e say that it builds for another.
func crossPlatform(base ocispec.Platform, e shell.EnvGetter) string {
	target := base
	if v, ok := e.Get("TARGETPLATFORM"); ok {
		p, err := platforms.Parse(v)
		if err != nil {
			return ""
		}
		target = p
	} else {
		if v, ok := e.Get("TARGETOS"); ok && v != "" {
			target.OS = v
		}
		if v, ok := e.Get("TARGETARCH"); ok && v != "" {
			target.Architecture, target.Variant = v, ""
		}
		if v, ok := e.Get("TARGETVARIANT"); ok {
			target.Variant = v
		}
	}
	target = platforms.Normalize(target)
	switch {
	case target.OS != base.OS:
		return "->" + platforms.FormatAll(target)
	case target.Architecture == base.Architecture:
		return ""
	case target.Variant != "":
		return "->" + target.Architecture + "/" + target.Variant
	default:
		return "->" + target.Architecture
	}
}

// dispatcher plans one instruction.
type dispatcher struct {
	*planner
	*stage
	cmd  instruction
	lint *linter.Linter
}

func (d *dispatcher) dispatch() error {
	if err := d.expandInstruction(); err != nil {
		return err
	}
	switch c := d.cmd.Command.(type) {
	case *instructions.RunCommand:
		return d.run(c)
	case *instructions.CopyCommand:
		return d.copy(c)
	case *instructions.AddCommand:
		return d.add(c)
	case *instructions.WorkdirCommand:
		return d.workdir(c)
	case *instructions.ArgCommand:
		return d.arg(c)
	default:
		return d.configure(c)
	}
}

// expandInstruction expands variables wherever the instruction has them as
// single words, and in the heredocs of COPY and ADD.
func (d *dispatcher) expandInstruction() error {
	with := func(lex *shell.Lex) func(string) (string, error) {
		return func(word string) (string, error) {
			result, err := expand(lex, word, d.stage.env)
			d.lintUndefined(result.Unmatched)
			return result.Result, err
		}
	}
	if c, ok := d.cmd.Command.(instructions.SupportsSingleWordExpansion); ok {
		if _, isArg := c.(*instructions.ArgCommand); !isArg { // see arg
			if err := c.Expand(with(d.lex)); err != nil {
				return err
			}
		}
	}
	if c, ok := d.cmd.Command.(instructions.SupportsSingleWordExpansionRaw); ok {
		lex := shell.NewLex('\\')
		lex.SkipProcessQuotes = true
		return c.ExpandRaw(with(lex))
	}
	return nil
}

func (d *dispatcher) lintUndefined(unmatched map[string]struct{}) {
	for _, name := range sortedKeys(unmatched) {
		if slices.ContainsFunc(d.args, func(a instructions.KeyValuePairOptional) bool { return a.Key == name }) {
			continue // declared, but without a value
		}
		near, _ := suggest.Search(name, d.stage.env.Keys(), true)
		d.lint.Run(&linter.RuleUndefinedVar, d.cmd.Location(), linter.RuleUndefinedVar.Format(name, near))
	}
}

// step appends a step for the instruction. Its name is counted when named is
// set.
func (d *dispatcher) step(op Op, createdBy, text string, named bool) error {
	if err := checkOp(op, d.cmd.Name()); err != nil {
		return err
	}
	_, metadata := op.(*Metadata)
	s := Step{Op: op, Location: d.cmd.loc, OnBuild: d.cmd.onBuild, Text: text, CreatedBy: createdBy, EmptyLayer: metadata}
	if createdBy != "" {
		s.Comment = historyComment
	}
	if named {
		s.Name = d.stepName(d.stage, d.total, text, d.cmd.onBuild, d.stage.env)
	}
	d.steps = append(d.steps, s)
	return nil
}

// metadata appends a step that only changed the config. By now the variables
// may have other values than the instruction saw, so its text shows none.
func (d *dispatcher) metadata(createdBy string) error {
	if d.cmd.added {
		return d.step(&Metadata{}, createdBy, createdBy, false)
	}
	return d.step(&Metadata{}, createdBy, upperName(d.source()), false)
}

// source returns the instruction as it is written, continued lines joined.
func (d *dispatcher) source() string {
	if c, ok := d.cmd.Command.(fmt.Stringer); ok {
		return c.String()
	}
	return d.cmd.Name()
}

// text returns an instruction as it is displayed: its name in upper case and
// its variables expanded.
func (d *dispatcher) text(code string, lex *shell.Lex, e shell.EnvGetter) string {
	if result, err := expand(lex, code, e); err == nil {
		code = result.Result
	}
	return upperName(code)
}

func upperName(code string) string {
	name, rest, ok := strings.Cut(code, " ")
	if !ok {
		return strings.ToUpper(name)
	}
	return strings.ToUpper(name) + " " + rest
}

// rawLex returns a lexer that leaves alone all but variables that are set.
func rawLex(lex *shell.Lex) *shell.Lex {
	raw := *lex
	raw.RawQuotes, raw.RawEscapes, raw.SkipUnsetEnv = true, true, true
	return &raw
}
