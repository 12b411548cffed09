package cli

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/docker/go-units"
	"github.com/spf13/cobra"

	"cooper/run"
)

// newStats makes the stats command.
func newStats(e *Env) *cobra.Command {
	var s statsRequest
	cmd := &cobra.Command{
		Use:   "stats [OPTIONS] [CONTAINER...]",
		Short: "Show what containers use of the machine",
		Long: `Show what containers use of the machine, again and again until interrupted:
those that run, or the ones named.`,
		DisableFlagsInUseLine: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			if s.interval < 100*time.Millisecond {
				return fmt.Errorf("invalid --interval %v: want 100ms or more", s.interval)
			}
			s.names = args
			ctx, stop := interruptible(cmd.Context())
			defer stop()
			return e.stats(ctx, &s)
		},
	}
	fs := cmd.Flags()
	fs.BoolVarP(&s.all, "all", "a", false, "Show containers that don't run as well")
	fs.BoolVar(&s.once, "no-stream", false, "Show it once")
	fs.BoolVar(&s.noTrunc, "no-trunc", false, "Show whole ids")
	fs.DurationVarP(&s.interval, "interval", "i", time.Second, "Measure again after `DURATION`")
	fs.StringVar(&s.format, "format", "", "Print json, or a Go `TEMPLATE` for each; with table in front with headings")
	e.commonFlags(cmd)
	return cmd
}

// statsRequest is what stats is to show.
type statsRequest struct {
	names              []string
	all, once, noTrunc bool
	interval           time.Duration
	format             string
}

// statsColumns are those of stats.
var statsColumns = []column{
	{"ID", "CONTAINER ID"}, {"Name", "NAME"}, {"CPUPerc", "CPU %"}, {"MemUsage", "MEM USAGE / LIMIT"}, {"MemPerc", "MEM %"},
	{"NetIO", "NET I/O"}, {"BlockIO", "BLOCK I/O"}, {"PIDs", "PIDS"},
}

// stats is the stats command. How much of the processors is used takes two
// measurements; the first is soon after the start.
func (e *Env) stats(ctx context.Context, s *statsRequest) error {
	cs, err := e.containers(ctx)
	if err != nil {
		return err
	}
	before, err := s.measure(cs, nil)
	if err != nil {
		return err
	}
	screen := terminal(e.Stdout) && !s.once
	for {
		select {
		case <-ctx.Done():
			return nil // the usual end
		case <-time.After(s.interval):
		}
		now, err := s.measure(cs, before)
		if err != nil {
			return err
		}
		var rows []map[string]string
		for _, m := range now {
			rows = append(rows, m.row(s.noTrunc))
		}
		if screen {
			fmt.Fprint(e.Stdout, "\x1b[H\x1b[J") // to the top, and clear what is below
		}
		if err := printRows(e.Stdout, s.format, statsColumns, rows); err != nil || s.once {
			return err
		}
		before = now
	}
}

// measured is what a container uses.
type measured struct {
	id, given, name string
	running         bool
	usage, before   run.Usage
}

// measure measures the containers that are asked for.
func (s *statsRequest) measure(cs *run.Containers, before []measured) ([]measured, error) {
	list, err := s.containers(cs)
	if err != nil {
		return nil, err
	}
	var all []measured
	for i, c := range list {
		m := measured{id: c.ID(), name: c.Name()}
		if len(s.names) > 0 {
			m.given = s.names[i]
		}
		m.usage, err = c.Usage()
		switch {
		case err == nil:
			m.running = true
		case errors.Is(err, run.ErrNoContainer) && len(s.names) == 0:
			continue
		case !errors.Is(err, run.ErrNotRunning):
			return nil, err
		case len(s.names) == 0 && !s.all:
			continue
		}
		for _, b := range before {
			if b.id == m.id && b.running && m.running && b.usage.CPU <= m.usage.CPU {
				m.before = b.usage
			}
		}
		all = append(all, m)
	}
	return all, nil
}

// containers finds the containers that are named, or lists all.
func (s *statsRequest) containers(cs *run.Containers) ([]*run.Container, error) {
	if len(s.names) == 0 {
		return cs.List()
	}
	var list []*run.Container
	var errs []error
	for _, name := range s.names {
		c, err := cs.Find(name)
		list, errs = append(list, c), append(errs, err)
	}
	return list, errors.Join(errs...)
}

// row shows m as docker does.
func (m *measured) row(noTrunc bool) map[string]string {
	id := m.id
	if !noTrunc {
		id = shortID(id)
	}
	given := m.given
	if given == "" {
		given = id
	}
	u, cpu, memory := m.usage, 0.0, 0.0
	if lived := u.At.Sub(m.before.At); !m.before.At.IsZero() && lived > 0 {
		cpu = 100 * (u.CPU - m.before.CPU).Seconds() / lived.Seconds()
	}
	if u.MemoryLimit > 0 {
		memory = 100 * float64(u.Memory) / float64(u.MemoryLimit)
	}
	size := func(n int64) string { return units.HumanSizeWithPrecision(float64(n), 3) }
	return map[string]string{
		"Container": given, "ID": id, "Name": m.name,
		"CPUPerc":  fmt.Sprintf("%.2f%%", cpu),
		"MemUsage": units.BytesSize(float64(u.Memory)) + " / " + units.BytesSize(float64(u.MemoryLimit)),
		"MemPerc":  fmt.Sprintf("%.2f%%", memory),
		"NetIO":    size(u.NetworkIn) + " / " + size(u.NetworkOut),
		"BlockIO":  size(u.BlockRead) + " / " + size(u.BlockWrite),
		"PIDs":     fmt.Sprint(u.PIDs),
	}
}
