package dockerfile

import (
	"maps"
	"slices"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
)

// Outline says what a build of one stage can be given.
type Outline struct {
	Name        string // of the stage, "" when it has none
	Description string // from a comment "# NAME text" above the FROM
	Args        []OutlineArg
	Secrets     []OutlineMount
	SSH         []OutlineMount
}

// OutlineArg is a build argument that the stage, or one it needs, uses.
type OutlineArg struct {
	Name        string
	Description string // from a comment "# NAME text" above the ARG
	Value       string // the default, expanded, or what it was set to
	Location    Location
}

// OutlineMount is a secret, or an ssh agent, that a RUN asks for.
type OutlineMount struct {
	Name     string
	Required bool
	Location Location
}

// argument is an ARG while the outline is made.
type argument struct {
	OutlineArg
	deps map[string]struct{} // global arguments in its default
}

// outline describes target, the stages having been planned.
func (p *planner) outline(target *stage, globals []instructions.ArgCommand) *Outline {
	o := &Outline{Name: target.decl.Name, Description: target.decl.DocComment}
	known := p.globalArguments(globals)
	seen := map[*stage]bool{}
	args := map[string]bool{}
	secrets, ssh := map[string]bool{}, map[string]bool{}
	var visit func(st *stage)
	visit = func(st *stage) {
		if st == nil || seen[st] {
			return
		}
		seen[st] = true
		o.Args = append(o.Args, p.stageArguments(st, known, args)...)
		o.Secrets = append(o.Secrets, st.outlineMounts(MountSecret, secrets)...)
		o.SSH = append(o.SSH, st.outlineMounts(MountSSH, ssh)...)
		visit(st.base)
		for _, d := range st.deps {
			visit(d.on)
		}
	}
	visit(target)
	slices.SortStableFunc(o.Args, func(a, b OutlineArg) int { return a.Location.Start - b.Location.Start })
	byLine := func(a, b OutlineMount) int { return a.Location.Start - b.Location.Start }
	slices.SortStableFunc(o.Secrets, byLine)
	slices.SortStableFunc(o.SSH, byLine)
	return o
}

// globalArguments evaluates the ARGs before the first FROM once more, noting
// which of them each needs.
func (p *planner) globalArguments(commands []instructions.ArgCommand) map[string]argument {
	known := map[string]argument{}
	e := p.platformArgs(p.o.Target)
	for _, cmd := range commands {
		for _, arg := range cmd.Args {
			a := argument{OutlineArg: OutlineArg{Name: arg.Key, Description: arg.DocComment, Location: locationOf(cmd.Location())}}
			value, given := p.buildArgs[arg.Key]
			if !given && arg.Value != nil {
				result, err := expand(p.lex, *arg.Value, e)
				if err != nil {
					continue // has been reported
				}
				value, given, a.deps = result.Result, true, result.Matched
				if _, self := a.deps[arg.Key]; self {
					delete(a.deps, arg.Key)
					if old := known[arg.Key].deps; old != nil {
						maps.Copy(a.deps, old)
					}
				}
			}
			if given {
				e.set(arg.Key, value)
				a.Value = value
			}
			known[arg.Key] = a
		}
	}
	return known
}

// stageArguments lists the arguments that st uses and seen doesn't have yet:
// those it declares, and the global ones in its FROM.
func (p *planner) stageArguments(st *stage, globals map[string]argument, seen map[string]bool) []OutlineArg {
	known := maps.Clone(globals)
	used := map[string]bool{}
	var use func(name string)
	use = func(name string) {
		if used[name] {
			return
		}
		used[name] = true
		for dep := range known[name].deps {
			use(dep)
		}
	}
	written := p.file.stages[st.index]
	if !st.replaced {
		for _, word := range []string{written.BaseName, written.Platform} {
			if result, err := expand(p.lex, word, p.globals); err == nil {
				for name := range result.Matched {
					use(name)
				}
			}
		}
	}
	for _, a := range st.declared {
		if !a.Location.IsZero() {
			known[a.Name] = argument{OutlineArg: a}
		}
		use(a.Name)
	}
	var list []OutlineArg
	for _, name := range sortedKeys(used) {
		if a, ok := known[name]; ok && !seen[name] {
			seen[name] = true
			list = append(list, a.OutlineArg)
		}
	}
	return list
}

// declare notes an ARG of the stage. One that takes its value from a global
// argument is described by that; it has no Location.
func (st *stage) declare(arg instructions.KeyValuePairOptional, loc Location, inherited bool) {
	a := OutlineArg{Name: arg.Key}
	if !inherited {
		a.Description, a.Location = arg.DocComment, loc
		if arg.Value != nil {
			a.Value = *arg.Value
		}
	}
	st.declared = append(st.declared, a)
}

// outlineMounts lists the mounts of a kind that seen doesn't have yet.
func (st *stage) outlineMounts(kind string, seen map[string]bool) []OutlineMount {
	var list []OutlineMount
	for _, step := range st.steps {
		run, ok := step.Op.(*Run)
		if !ok {
			continue
		}
		for _, m := range run.Mounts {
			if m.Type == kind && !seen[m.ID] {
				seen[m.ID] = true
				list = append(list, OutlineMount{Name: m.ID, Required: m.Required, Location: step.Location})
			}
		}
	}
	return list
}
