package dockerfile

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/containerd/platforms"
	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/linter"
	"github.com/moby/buildkit/frontend/dockerfile/shell"
	"github.com/moby/buildkit/util/suggest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// planner holds what one call of Plan knows. It works in the order that
// BuildKit does: global arguments, stages, the graph between them, base configs
// with their ONBUILD triggers, then the instructions of each stage.
type planner struct {
	file *File
	o    PlanOptions
	plan *Plan
	lint *linter.Linter
	lex  *shell.Lex

	build, target ocispec.Platform
	implicit      bool              // no target platform was asked for
	contexts      map[string]string // canonical name of a named context -> its key
	aliases       map[string]string // canonical name -> stage, for contexts "target:STAGE"
	buildArgs     map[string]string
	proxy         []string

	globals  *env            // predefined and global arguments
	declared map[string]bool // names of global ARGs

	stages   []*stage
	byName   map[string]*stage
	external int // files are read from so many trees that are no stages
	uses     map[ImageRequest]int
	missing  map[ImageRequest]bool
}

// Plan works out what must be done to build a stage. A mistake in the
// Dockerfile is an *Error, findings of a strict check are a *CheckError. With an
// error comes a Plan that has nothing but the Warnings up to there.
func (f *File) Plan(o PlanOptions) (*Plan, error) {
	p, err := f.newPlanner(o)
	if err != nil {
		return &Plan{}, err
	}
	if err := p.run(); err != nil {
		return &Plan{Warnings: p.plan.Warnings}, err
	}
	return p.plan, nil
}

func (p *planner) run() error {
	stages, args, err := p.file.instructions(p.lint, p.o.Edits.Mounts)
	if err != nil {
		return err
	}
	p.o.Edits.editFrom(stages)
	lintStageNames(stages, p.lint)
	lintCasing(stages, p.lint)
	if err := p.setGlobals(stages, args); err != nil {
		return err
	}
	if err := p.setEpoch(stages); err != nil {
		return err
	}
	for i, st := range stages {
		if err := p.addStage(i, st); err != nil {
			return err
		}
	}
	for _, name := range sortedKeys(p.aliases) {
		if p.byName[p.aliases[name]] == nil {
			return fmt.Errorf("build context %s: target stage %q could not be found", name, p.aliases[name])
		}
	}
	target, err := p.findTarget()
	if err != nil {
		return err
	}
	if err := p.link(); err != nil {
		return err
	}
	needed, err := p.resolve(target)
	if err != nil {
		return err
	}
	p.noteUses(needed)
	p.noteUnused(needed)
	if len(p.plan.Missing) > 0 {
		return nil
	}
	if err := p.planStages(needed, target); err != nil {
		return err
	}
	if p.o.Outline {
		p.plan.Outline = p.outline(target, args)
	}
	return p.file.checkError(p.lint, p.plan.Warnings)
}

func (f *File) newPlanner(o PlanOptions) (*planner, error) {
	p := &planner{
		file:      f,
		o:         o,
		plan:      &Plan{},
		lex:       shell.NewLex(f.escape),
		build:     o.BuildPlatform,
		target:    o.TargetPlatform,
		contexts:  map[string]string{},
		aliases:   map[string]string{},
		buildArgs: o.BuildArgs,
		proxy:     proxyEnv(o.BuildArgs),
		declared:  map[string]bool{},
		byName:    map[string]*stage{},
		uses:      map[ImageRequest]int{},
		missing:   map[ImageRequest]bool{},
	}
	if p.build.OS == "" {
		p.build = ocispec.Platform{OS: "linux", Architecture: "amd64"}
	}
	if p.target.OS == "" {
		p.target, p.implicit = p.build, true
	}
	for _, k := range sortedKeys(o.BuildArgs) {
		if v := k + o.BuildArgs[k]; !utf8.ValidString(v) || strings.ContainsRune(v, 0) {
			return nil, fmt.Errorf("build argument %q is not text in UTF-8", k)
		}
	}
	for _, key := range sortedKeys(o.Contexts) {
		name, platform, _ := strings.Cut(key, "::")
		n, err := parseImageName(name)
		if err != nil {
			return nil, fmt.Errorf("invalid context name %s: %w", name, err)
		}
		if target, ok := strings.CutPrefix(o.Contexts[key], "target:"); ok {
			p.aliases[n.familiar()] = strings.ToLower(target)
			continue
		}
		if platform != "" {
			platform = "::" + platform
		}
		p.contexts[n.familiar()+platform] = key
	}
	lint, err := f.newLinter(o, func(w Warning) { p.plan.Warnings = append(p.plan.Warnings, w) })
	p.lint = lint
	return p, err
}

// findContext returns the request for a named context that stands for the
// stage or image called name.
func (p *planner) findContext(name string, platform ocispec.Platform) *ImageRequest {
	if strings.EqualFold(name, "scratch") || strings.EqualFold(name, "context") || len(p.contexts) == 0 {
		return nil
	}
	n, err := parseImageName(name)
	if err != nil {
		return nil
	}
	formatted := platforms.FormatAll(platforms.Normalize(platform))
	key, ok := p.contexts[n.familiar()+"::"+formatted]
	if !ok {
		key, ok = p.contexts[n.familiar()]
	}
	if !ok {
		return nil
	}
	return &ImageRequest{Context: key, Platform: formatted}
}

// findImage returns the request for an image or for the named context that
// stands for it, and notes its use.
func (p *planner) findImage(name string, platform ocispec.Platform) (*ImageRequest, error) {
	n, err := parseImageName(name)
	if err != nil {
		return nil, fmt.Errorf("failed to parse stage name %q: %w", name, err)
	}
	if r := p.findContext(name, platform); r != nil {
		return r, nil
	}
	return &ImageRequest{Ref: n.String(), Platform: platforms.FormatAll(platforms.Normalize(platform))}, nil
}

// noteUses fills in which images are read.
func (p *planner) noteUses(needed map[*stage]bool) {
	for _, st := range p.stages {
		if !needed[st] {
			continue
		}
		if st.request != nil {
			known := len(p.plan.Images)
			use := p.use(st.request, st.decl.BaseName, true, locationOf(st.decl.Location))
			fixed := st.decl.Platform != "" && !strings.Contains(st.decl.Platform, "TARGET")
			use.Fixed = fixed && (use.Fixed || known < len(p.plan.Images))
		}
		for _, cmd := range st.commands {
			for _, src := range cmd.sources {
				switch {
				case src.other == nil:
				case src.other.Image != nil:
					p.use(src.other.Image, src.name, false, cmd.loc)
				case src.other.Named != nil:
					p.use(src.other.Named, src.name, false, cmd.loc)
				}
			}
		}
	}
}

// use notes that an image is read.
func (p *planner) use(r *ImageRequest, name string, base bool, loc Location) *ImageUse {
	i, ok := p.uses[*r]
	if !ok {
		i = len(p.plan.Images)
		p.uses[*r] = i
		p.plan.Images = append(p.plan.Images, ImageUse{Request: *r, Name: name, Base: base, Location: loc})
	} else if base {
		p.plan.Images[i].Base = true
	}
	return &p.plan.Images[i]
}

func (p *planner) findTarget() (*stage, error) {
	if p.o.Target == "" {
		return p.stages[len(p.stages)-1], nil
	}
	if st, ok := p.byName[strings.ToLower(p.o.Target)]; ok {
		return st, nil
	}
	if i, err := strconv.Atoi(p.o.Target); err == nil && i >= 0 && i < len(p.stages) {
		return p.stages[i], nil
	}
	names := make([]string, len(p.stages))
	for i, st := range p.stages {
		names[i] = cmp.Or(st.decl.Name, strconv.Itoa(i))
	}
	err := suggest.WrapError(&TargetError{Target: p.o.Target, Stages: names}, p.o.Target, names, true)
	return nil, p.file.fail(err, Location{})
}

// predefined are build arguments that need no ARG.
var predefined = []string{
	"HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY", "SOURCE_DATE_EPOCH",
	"BUILDPLATFORM", "BUILDOS", "BUILDOSVERSION", "BUILDARCH", "BUILDVARIANT",
	"TARGETPLATFORM", "TARGETOS", "TARGETOSVERSION", "TARGETARCH", "TARGETVARIANT", "TARGETSTAGE",
}

// noteUnused fills in which stages and build arguments play no part.
func (p *planner) noteUnused(needed map[*stage]bool) {
	used := map[string]bool{}
	for _, k := range predefined {
		used[k] = true
	}
	for k := range p.declared {
		used[k] = true
	}
	for _, st := range p.stages {
		if !needed[st] {
			name := st.decl.Name
			if name == "" {
				name = strconv.Itoa(st.index)
			}
			p.plan.Skipped = append(p.plan.Skipped, name)
		}
		for _, cmd := range st.commands {
			if c, ok := cmd.Command.(*instructions.ArgCommand); ok {
				for _, arg := range c.Args {
					used[arg.Key] = true
				}
			}
		}
	}
	for _, k := range sortedKeys(p.o.BuildArgs) {
		if !used[k] && !used[strings.ToUpper(k)] && !strings.HasPrefix(k, "BUILDKIT_") {
			p.plan.UnusedBuildArgs = append(p.plan.UnusedBuildArgs, k)
		}
	}
}

// proxyEnv returns the variables for the proxies among the build arguments, in
// the order in which BuildKit sets them.
func proxyEnv(args map[string]string) []string {
	values := map[string]string{}
	for _, k := range sortedKeys(args) {
		values[strings.ToUpper(k)] = args[k]
	}
	var out []string
	for _, k := range []string{"HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY"} {
		if v := values[k]; v != "" {
			out = append(out, k+"="+v, strings.ToLower(k)+"="+v)
		}
	}
	return out
}
