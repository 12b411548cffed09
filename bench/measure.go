package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"
)

// result is what was measured for one case, by the name of the tool or floor.
type result struct {
	title  string
	median map[string]float64
	floors []string
}

// measure measures one case for every tool that can do it, taking turns.
func measure(ctx context.Context, c benchCase, tools []*tool, program string, runs int) (result, error) {
	if c.context != nil {
		if err := c.context(c.dir); err != nil {
			return result{}, err
		}
		defer os.RemoveAll(c.dir)
	}
	baseDir := ""
	if c.base != nil {
		baseDir = c.dir + "-base"
		if err := c.base(baseDir); err != nil {
			return result{}, err
		}
		defer os.RemoveAll(baseDir)
	}
	measured := map[string][]float64{}
	first, last := 0, runs // the first is the warm-up
	if c.rounds > 0 {
		first, last = 1, c.rounds
	}
	for round := first; round <= last; round++ {
		for _, t := range tools {
			if (c.probe != nil || c.load) && t.call == nil {
				continue
			}
			got, err := once(ctx, c, t, program, baseDir, round)
			if err != nil {
				return result{}, err
			}
			fmt.Fprintf(os.Stderr, "%-11s %-16s %s %.3f\n", c.name, t.name, roundName(round), got)
			if round > 0 {
				measured[t.name] = append(measured[t.name], got)
			}
		}
		for _, f := range c.floors {
			got, err := f.once(ctx, program, c.dir)
			if err != nil {
				return result{}, err
			}
			if round > 0 {
				measured[f.name] = append(measured[f.name], got)
			}
		}
	}
	// The stores are on a tmpfs: give the memory back before the next case.
	for _, t := range tools {
		if err := t.forget(ctx, t); err != nil {
			return result{}, err
		}
	}
	r := result{title: c.title, median: map[string]float64{}}
	for _, f := range c.floors {
		r.floors = append(r.floors, f.name)
	}
	for name, all := range measured {
		r.median[name] = median(all)
	}
	return r, nil
}

func roundName(round int) string {
	if round == 0 {
		return "warm-up"
	}
	return fmt.Sprintf("run %d", round)
}

// once measures the case by one tool. What comes before a build, so that it is
// cold, or has nothing to do, is not timed.
func once(ctx context.Context, c benchCase, t *tool, program, baseDir string, round int) (float64, error) {
	if c.probe != nil {
		return c.probe(ctx, program, t)
	}
	if !c.unchanged || round == 0 {
		if err := t.forget(ctx, t); err != nil {
			return 0, err
		}
	}
	if baseDir != "" {
		if err := t.do(ctx, t.build(baseDir, "tree-base", false)...); err != nil {
			return 0, err
		}
	}
	if c.load {
		return timed(t.command(ctx, t.call("load", "-q", "-i", filepath.Join(c.dir, archive))))
	}
	if c.unchanged && round == 0 {
		if err := t.do(ctx, t.build(c.dir, "bench", false)...); err != nil {
			return 0, err
		}
	}
	return timed(t.command(ctx, t.build(c.dir, "bench", !c.unchanged)))
}

// timed runs a command and returns its seconds; its output goes to a file, as
// in a script.
func timed(cmd *exec.Cmd) (float64, error) {
	out, err := os.CreateTemp("", "cooper-bench-")
	if err != nil {
		return 0, err
	}
	defer os.Remove(out.Name())
	defer out.Close()
	cmd.Stdout, cmd.Stderr = out, out
	start := time.Now()
	err = cmd.Run()
	took := time.Since(start).Seconds()
	if err != nil {
		text, _ := os.ReadFile(out.Name())
		return 0, fmt.Errorf("%s: %w\n%s", cmd, err, text)
	}
	return took, nil
}

// once measures a floor. A script has an empty directory beside the context.
func (f floor) once(ctx context.Context, program, dir string) (float64, error) {
	if f.measure != nil {
		return bare(ctx, program, f.measure)
	}
	scratch := filepath.Join(filepath.Dir(dir), "floor")
	if err := os.MkdirAll(scratch, 0o755); err != nil {
		return 0, err
	}
	defer os.RemoveAll(scratch)
	return timed(exec.CommandContext(ctx, "sh", "-c", f.script, "sh", dir, scratch))
}

// median returns the middle of a non-empty list, the lower one of two.
func median(all []float64) float64 {
	sorted := slices.Sorted(slices.Values(all))
	return sorted[(len(sorted)-1)/2]
}
