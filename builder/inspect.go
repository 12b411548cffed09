package builder

import (
	"context"

	"cooper/dockerfile"
)

// Lint checks the stages that o.Target needs, or without one every stage, and
// builds nothing. It returns the findings in the order of the file and, as the
// error, what a build would end with before its first step. Configs of base
// images are fetched.
func (b *Builder) Lint(ctx context.Context, o Options) ([]dockerfile.Warning, error) {
	plan, err := b.inspect(ctx, o, asked{allStages: o.Target == ""})
	if plan == nil {
		return nil, err
	}
	return plan.Warnings, err
}

// Outline says what a build of o.Target can be given, and builds nothing.
// Configs of base images are fetched.
func (b *Builder) Outline(ctx context.Context, o Options) (*dockerfile.Outline, error) {
	plan, err := b.inspect(ctx, o, asked{outline: true})
	if err != nil {
		return nil, err
	}
	return plan.Outline, nil
}

// inspect plans without building.
func (b *Builder) inspect(ctx context.Context, o Options, ask asked) (*dockerfile.Plan, error) {
	o.fill() // several platforms hardly differ in what is said of them: the first counts
	report := &reporter{fn: b.Events, next: int(b.opened.Swap(0))}
	return b.plan(ctx, &o, o.Platforms[0], newImages(b, &o, report), ask)
}
