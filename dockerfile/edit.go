package dockerfile

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/command"
	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
)

// Edits are changes to what the Dockerfile says. They follow the flags of
// buildah's build that are called alike. The zero value changes nothing.
type Edits struct {
	// From is the base of the first stage, instead of what its FROM names.
	From string
	// Env are variables as "NAME=VALUE". Each stage begins with an ENV of all
	// of them, after the ONBUILD triggers of its base; the values are expanded
	// as in the Dockerfile.
	Env []string
	// UnsetEnv are variables that no stage hands on: they are missing from its
	// config and from the stages that start from it.
	UnsetEnv []string
	// UnsetLabels are labels that no stage has in the end, wherever they come
	// from.
	UnsetLabels []string
	// Mounts are values of --mount that each RUN gets in front of its own:
	// "type=secret,id=token".
	Mounts []string
	// DropLabels lets stages begin without the labels of their base.
	DropLabels bool
}

// editFrom replaces the base of the first stage.
func (e *Edits) editFrom(stages []instructions.Stage) {
	if e.From != "" {
		stages[0].BaseName = e.From
	}
}

// withMounts returns the syntax tree with further flags on each RUN. The tree it
// is given stays as it is.
func withMounts(ast *parser.Node, mounts []string) *parser.Node {
	if len(mounts) == 0 {
		return ast
	}
	flags := make([]string, len(mounts))
	for i, m := range mounts {
		flags[i] = "--mount=" + m
	}
	edited := *ast
	edited.Children = slices.Clone(ast.Children)
	for i, node := range edited.Children {
		if strings.EqualFold(node.Value, command.Run) {
			run := *node
			run.Flags = slices.Concat(flags, node.Flags)
			edited.Children[i] = &run
		}
	}
	return &edited
}

// editEnv puts the ENV that Edits ask for before the instructions of st.
func (p *planner) editEnv(st *stage) error {
	if len(p.o.Edits.Env) == 0 {
		return nil
	}
	cmd, err := p.parseTrigger("ENV"+strings.Repeat(" N=V", len(p.o.Edits.Env)), st)
	if err != nil {
		return err
	}
	env, ok := cmd.Command.(*instructions.EnvCommand)
	if !ok {
		return errors.New("no ENV instruction can be made of the variables")
	}
	for i, kv := range p.o.Edits.Env {
		name, value, found := strings.Cut(kv, "=")
		if !found || name == "" {
			return fmt.Errorf("invalid variable %q: want NAME=VALUE", kv)
		}
		env.Env[i].Key, env.Env[i].Value = p.quote(name), p.quote(value)
	}
	cmd.onBuild, cmd.added = false, true
	st.commands = append(st.commands, cmd)
	return nil
}

// quote protects all of word but its variables.
func (p *planner) quote(word string) string {
	escape := string(p.file.escape)
	return `"` + strings.NewReplacer(`"`, escape+`"`, escape, escape+escape).Replace(word) + `"`
}

// editBase changes what st has from its base.
func (e *Edits) editBase(st *stage) {
	if e.DropLabels {
		st.config.Config.Labels = nil
	}
}

// editResult changes what the instructions of st have come to.
func (e *Edits) editResult(st *stage) {
	config := &st.config.Config
	for _, name := range e.UnsetEnv {
		st.env.unset(name)
		config.Env = slices.DeleteFunc(config.Env, func(kv string) bool { return strings.HasPrefix(kv, name+"=") })
	}
	e.unsetLabels(config.Labels)
}

func (e *Edits) unsetLabels(labels map[string]string) {
	for _, name := range e.UnsetLabels {
		delete(labels, name)
	}
}
