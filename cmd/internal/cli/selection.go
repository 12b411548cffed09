package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"cooper/run"
)

// selection says which containers a command is about: the named ones, or some of
// those whose state is wanted.
type selection struct {
	all      bool
	filters  []string // those of ps
	latest   bool     // only the one that was made last, whatever its state
	cidFiles []string // hold further names
	ignore   bool     // a name that no container has is no error
	// wanted is for all and filters; nil wants all that run.
	wanted func(*run.State) bool
}

// declare declares podman's flags for a selection but --all and --ignore; short is
// the letter of --filter.
func (s *selection) declare(fs *pflag.FlagSet, short string) {
	fs.StringArrayVarP(&s.filters, "filter", short, nil, "Only those that ps --filter `KEY=VALUE` shows (repeatable)")
	fs.BoolVarP(&s.latest, "latest", "l", false, "The container that was made last")
	fs.StringArrayVar(&s.cidFiles, "cidfile", nil, "The container whose ID is in `FILE` (repeatable)")
}

// given reports whether containers are selected by more than their names.
func (s *selection) given() bool {
	return s.all || s.latest || len(s.filters)+len(s.cidFiles) > 0
}

// check refuses names beside flags that select from all containers, and neither.
func (s *selection) check(cmd *cobra.Command, names []string) error {
	flag := ""
	switch {
	case s.all:
		flag = "--all"
	case len(s.filters) > 0:
		flag = "--filter"
	case s.latest:
		flag = "--latest"
	case len(s.cidFiles) > 0:
		return nil
	default:
		return minArgs(1, statusError)(cmd, names)
	}
	if len(names)+len(s.cidFiles) > 0 || s.latest && (s.all || len(s.filters) > 0) {
		return &usageError{cmd: cmd, err: fmt.Errorf("%s and other ways to name containers exclude each other", flag), status: statusError}
	}
	return nil
}

// names returns the names in files beside those given.
func (s *selection) names(given []string) ([]string, error) {
	names := append([]string(nil), given...)
	for _, file := range s.cidFiles {
		id, err := os.ReadFile(file)
		switch {
		case err == nil:
			names = append(names, strings.TrimSpace(string(id)))
		case !s.ignore || !errors.Is(err, os.ErrNotExist):
			return nil, fmt.Errorf("read container id: %w", err)
		}
	}
	return names, nil
}

// eachRunning is eachContainer, side by side, for the containers of a selection.
func (e *Env) eachRunning(cmd *cobra.Command, names []string, sel selection, do func(*run.Container) error) error {
	if err := sel.check(cmd, names); err != nil {
		return err
	}
	cs, err := e.containers(cmd.Context())
	if err != nil {
		return err
	}
	var found []*run.Container
	var errs []error
	if sel.all || sel.latest || len(sel.filters) > 0 {
		if found, err = e.selected(cmd.Context(), cs, &sel); err != nil {
			return err
		}
		for _, c := range found {
			names = append(names, c.ID())
		}
	} else {
		if names, err = sel.names(names); err != nil {
			return err
		}
		found, names, errs = sel.find(cs, names)
	}
	results := make([]chan error, len(found))
	for i, c := range found {
		results[i] = make(chan error, 1)
		go func() { results[i] <- do(c) }()
	}
	for i, name := range names {
		err := <-results[i]
		if err == nil {
			_, err = fmt.Fprintln(e.Stdout, name)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// selected lists the containers of a selection that names none.
func (e *Env) selected(ctx context.Context, cs *run.Containers, s *selection) ([]*run.Container, error) {
	filter, err := parseContainerFilters(s.filters, false)
	if err != nil {
		return nil, err
	}
	all, err := listContainers(cs)
	if err != nil {
		return nil, err
	}
	if err := filter.resolve(ctx, e, all); err != nil {
		return nil, err
	}
	var found []*run.Container
	for _, c := range all {
		if s.latest {
			return []*run.Container{c.Container}, nil
		}
		wanted := c.state.Alive()
		if s.wanted != nil {
			wanted = s.wanted(&c.state)
		}
		if wanted && filter.match(c) {
			found = append(found, c.Container)
		}
	}
	if s.latest {
		return nil, errors.New("there is no container")
	}
	return found, nil
}

// find finds the named containers, and returns the names of those found.
func (s selection) find(cs *run.Containers, names []string) (found []*run.Container, kept []string, errs []error) {
	for _, name := range names {
		c, err := cs.Find(name)
		switch {
		case err == nil:
			found, kept = append(found, c), append(kept, name)
		case !s.ignore || !errors.Is(err, run.ErrNoContainer):
			errs = append(errs, err)
		}
	}
	return found, kept, errs
}
