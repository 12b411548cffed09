package builder

import (
	"slices"

	"cooper/dockerfile"
)

// graph numbers the steps of all plans, and the images and trees from elsewhere
// that they read, from 1. What shows no vertex of its own has no number.
type graph struct {
	report *reporter
	next   int
	nodes  map[any]int // by *dockerfile.Step, dockerfile.ImageRequest and *foreign
	last   map[*stage]int
}

// announce reports the steps of every build and what each of them reads, before
// anything runs.
func (s *session) announce() {
	g := &graph{report: s.report, nodes: map[any]int{}, last: map[*stage]int{}}
	for _, bd := range s.builds {
		for _, st := range bd.stages {
			g.stage(bd, st)
		}
	}
	s.nodes = g.nodes
}

// stage numbers the steps of st; the stages that it needs have their numbers.
func (g *graph) stage(bd *build, st *stage) {
	at := 0
	switch base := st.spec.Base; {
	case st.tree != nil:
		at = g.step(bd, st.tree, 0)
	case base.Image != nil:
		at = g.read(*base.Image, st.fromName())
	case !base.Scratch:
		at = g.last[bd.stages[base.Stage]]
	}
	for i := range st.spec.Steps {
		if step := &st.spec.Steps[i]; !isMetadata(step.Op) {
			at = g.step(bd, step, at)
		}
	}
	g.last[st] = at
}

// step numbers a step that stands on the node at.
func (g *graph) step(bd *build, step *dockerfile.Step, at int) int {
	inputs := []int{at}
	for _, from := range sourcesOf(step.Op) {
		inputs = append(inputs, g.source(bd, *from))
	}
	return g.add(step, step.Name, inputs)
}

// source is the number of what a step reads from, 0 when that shows no vertex.
func (g *graph) source(bd *build, from dockerfile.Source) int {
	switch {
	case from.Scratch, from.Context:
		return 0
	case from.Named != nil:
		if f := bd.elsewhere.named(from.Named.Context); f != nil {
			return g.read(f, f.label)
		}
		if _, ok := bd.sources.namedDir(from.Named.Context); ok {
			return 0
		}
		return g.read(*from.Named, contextName(bd.o, from.Named.Context))
	case from.Image != nil:
		return g.read(*from.Image, "FROM "+from.Image.Ref)
	}
	return g.last[bd.stages[from.Stage]]
}

// read is the number of an image or tree, which is called name where it is new.
func (g *graph) read(key any, name string) int {
	if n, ok := g.nodes[key]; ok {
		return n
	}
	return g.add(key, name, nil)
}

// add numbers what key identifies and reports it.
func (g *graph) add(key any, name string, inputs []int) int {
	g.next++
	g.nodes[key] = g.next
	inputs = slices.DeleteFunc(inputs, func(n int) bool { return n == 0 })
	g.report.send(Event{Kind: Planned, Node: g.next, Name: name, Inputs: inputs})
	return g.next
}

// sourcesOf returns the trees that op reads from.
func sourcesOf(op dockerfile.Op) []*dockerfile.Source {
	var from []*dockerfile.Source
	switch op := op.(type) {
	case *dockerfile.Copy:
		if len(op.Sources) > 0 {
			from = append(from, &op.From)
		}
	case *dockerfile.Run:
		for i := range op.Mounts {
			if op.Mounts[i].From != nil {
				from = append(from, op.Mounts[i].From)
			}
		}
	}
	return from
}
