package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"syscall"
)

// options are the flags.
type options struct {
	runs  int
	cases string
	tools string
	user  string
	base  string
	dir   string
	quick bool
	serve string
}

func main() {
	var o options
	flag.IntVar(&o.runs, "runs", 5, "timed runs of each command")
	flag.StringVar(&o.cases, "cases", ".", "only cases whose name matches this expression")
	flag.StringVar(&o.tools, "tools", ".", "only tools whose name matches this expression")
	flag.StringVar(&o.user, "user", "", "ordinary user for the rootless runs; none without")
	flag.StringVar(&o.base, "base", "/var/cache/cooper", "directory of the base images")
	flag.StringVar(&o.dir, "dir", "/dev/shm", "where stores and contexts go: a tmpfs")
	flag.BoolVar(&o.quick, "quick", false, "one run over small contexts, to see that all works")
	flag.StringVar(&o.serve, "serve", "", "be the server of the network cases at this address, in a container")
	flag.Parse()

	if o.serve != "" {
		fmt.Fprintln(os.Stderr, "bench:", serve(o.serve))
		os.Exit(1)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := bench(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		stop()
		os.Exit(1)
	}
}

// bench makes a place for everything, measures, prints and cleans up.
func bench(ctx context.Context, o options) (err error) {
	wantedCases, err := regexp.Compile(o.cases)
	if err != nil {
		return fmt.Errorf("-cases: %w", err)
	}
	wantedTools, err := regexp.Compile(o.tools)
	if err != nil {
		return fmt.Errorf("-tools: %w", err)
	}
	dir, err := os.MkdirTemp(o.dir, "cooper-bench-")
	if err != nil {
		return err
	}
	defer func() {
		if cleanErr := removeAll(dir); err == nil {
			err = cleanErr
		}
	}()
	if err := os.Chmod(dir, 0o755); err != nil {
		return err
	}

	size := fullSize
	if o.quick {
		size, o.runs = quickSize, 1
	}
	program, err := stageProgram(filepath.Join(dir, "bin"))
	if err != nil {
		return err
	}
	var results []result
	tools, closeTools, err := startTools(ctx, dir, o, wantedTools)
	defer closeTools()
	if err != nil {
		return err
	}
	for _, c := range cases(size) {
		if !wantedCases.MatchString(c.name) {
			continue
		}
		c.dir = filepath.Join(dir, "context", c.name)
		r, err := measure(ctx, c, tools, program, o.runs)
		if err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
		results = append(results, r)
	}
	fmt.Print(table(results, names(tools)))
	return nil
}
