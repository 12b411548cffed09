package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
)

// tool is a builder under test. Images are called by the names that the
// cases use: busybox-base, tree-base, and bench for what a case builds.
type tool struct {
	name string
	// env is added to the environment of every command, credential is whom
	// it runs as; nil is root.
	env        []string
	credential *syscall.Credential
	// forget removes every image but the bases, and all cached steps.
	forget func(ctx context.Context, t *tool) error
	// build is the command that builds dir as the image name; fresh means
	// that no cached step may be used.
	build func(dir, name string, fresh bool) []string
	// call is the command line of a verb that all tools have, as docker
	// spells it; nil if the tool runs no containers.
	call func(verb string, args ...string) []string
	// daemons are the names of processes that are there before any container.
	daemons []string
	// close ends what was started for the tool.
	close func() error
}

// command makes args ready to start as the tool's user.
func (t *tool) command(ctx context.Context, args []string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Env = append(os.Environ(), t.env...)
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: t.credential}
	return cmd
}

// do runs a command to its end; an error carries what it printed.
func (t *tool) do(ctx context.Context, args ...string) error {
	cmd := t.command(ctx, args)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w\n%s", strings.Join(args, " "), err, out.String())
	}
	return nil
}

// names lists the names of the tools.
func names(tools []*tool) []string {
	var all []string
	for _, t := range tools {
		all = append(all, t.name)
	}
	return all
}

// startTools readies the tools, each with a store of its own below dir that
// has the base image. The func it returns ends them, also after an error.
func startTools(ctx context.Context, dir string, o options, wanted *regexp.Regexp) (tools []*tool, closeAll func(), err error) {
	closeAll = func() {
		for _, t := range tools {
			if t.close == nil {
				continue
			}
			if err := t.close(); err != nil {
				fmt.Fprintf(os.Stderr, "bench: end %s: %v\n", t.name, err)
			}
		}
	}
	all := []struct {
		name  string
		start func(context.Context, string, options) (*tool, error)
	}{
		{"cooper", startCooper},
		{"cooper rootless", startRootless},
		{"BuildKit", startBuildKit},
		{"docker classic", startClassic},
		{"buildah", startBuildah},
		{"podman", startPodman},
	}
	for _, a := range all {
		if !wanted.MatchString(a.name) {
			continue
		}
		t, err := a.start(ctx, filepath.Join(dir, strings.ReplaceAll(a.name, " ", "-")), o)
		if errors.Is(err, errMissing) {
			fmt.Fprintf(os.Stderr, "bench: without %s: %v\n", a.name, err)
			continue
		}
		if err != nil {
			return tools, closeAll, fmt.Errorf("start %s: %w", a.name, err)
		}
		t.name = a.name
		tools = append(tools, t)
	}
	return tools, closeAll, nil
}

// errMissing says that a tool is not installed or cannot be used here.
var errMissing = errors.New("not here")

// removeAll removes a directory after unmounting what is mounted below it.
func removeAll(dir string) error {
	table, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	var errs []error
	for _, line := range strings.Split(string(table), "\n") {
		fields := strings.Fields(line)
		if len(fields) > 4 && strings.HasPrefix(fields[4], dir+"/") {
			errs = append(errs, syscall.Unmount(fields[4], syscall.MNT_DETACH))
		}
	}
	errs = append(errs, os.RemoveAll(dir))
	return errors.Join(errs...)
}
