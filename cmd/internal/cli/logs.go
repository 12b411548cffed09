package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"cooper/run"
)

// logsFlags are the flags of logs as given.
type logsFlags struct {
	follow, timestamps bool
	tail, since, until string
}

const logsExample = `
  @ web
  @ -f --tail 20 web               The last 20 lines, and what follows
  @ --since 10m -t web             What was written in the last ten minutes, with times
  @ web 2>errors >/dev/null        Standard error alone`

// newLogs makes the logs command.
func newLogs(e *Env) *cobra.Command {
	var f logsFlags
	cmd := &cobra.Command{
		Use:                   "logs [OPTIONS] CONTAINER",
		Short:                 "Show what a container wrote",
		Long:                  "Show what a container wrote, standard output and standard error each on their\nown. Following ends when the container does, and loses no line however slowly it is\nread.",
		Example:               logsExample,
		DisableFlagsInUseLine: true,
		Args:                  exactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			o, err := f.options(time.Now())
			if err != nil {
				return err
			}
			return e.logs(cmd.Context(), args[0], o, f.timestamps)
		},
	}
	fs := cmd.Flags()
	fs.BoolVarP(&f.follow, "follow", "f", false, "Wait for more until the container ends")
	fs.StringVarP(&f.tail, "tail", "n", "all", "Show only the last `N` lines")
	fs.StringVar(&f.since, "since", "", "Show what was written since a `TIME`: 10m ago, or a date")
	fs.StringVar(&f.until, "until", "", "Show what was written until a `TIME`")
	fs.BoolVarP(&f.timestamps, "timestamps", "t", false, "Show when each line was written")
	e.commonFlags(cmd)
	return cmd
}

func (f *logsFlags) options(now time.Time) (run.LogOptions, error) {
	o := run.LogOptions{Tail: -1, Follow: f.follow}
	var err error
	if f.tail != "all" && f.tail != "" {
		if o.Tail, err = strconv.Atoi(f.tail); err != nil {
			return o, fmt.Errorf("invalid --tail %q: want a number or all", f.tail)
		}
	}
	if f.since != "" {
		if o.Since, err = parseTime(f.since, now); err != nil {
			return o, fmt.Errorf("--since: %w", err)
		}
	}
	if f.until != "" {
		if o.Until, err = parseTime(f.until, now); err != nil {
			return o, fmt.Errorf("--until: %w", err)
		}
	}
	return o, nil
}

// logs is the logs command.
func (e *Env) logs(ctx context.Context, name string, o run.LogOptions, stamps bool) error {
	cs, err := e.containers(ctx)
	if err != nil {
		return err
	}
	c, err := cs.Find(name)
	if err != nil {
		return err
	}
	ctx, stop := interruptible(ctx)
	defer stop()
	out := &logPrinter{stamps: stamps, out: [2]*bufio.Writer{bufio.NewWriterSize(e.Stdout, 64<<10), bufio.NewWriterSize(e.Stderr, 64<<10)}}
	o.Pause = out.flush
	o.Lost = func() {
		fmt.Fprintln(e.Stderr, "WARNING: lines are missing: the log was rotated while this command was stopped")
	}
	err = c.Logs(ctx, o, out.print)
	if flushErr := out.flush(); err == nil {
		err = flushErr
	}
	return followed(err)
}

// followed is the error of what is watched until it is interrupted: that needs no
// words.
func followed(err error) error {
	var interrupted interruption
	if errors.As(err, &interrupted) {
		return &exitStatus{status: 128 + int(interrupted.signal)}
	}
	return err
}

// logPrinter prints the two streams of a log to where they belong. Each keeps its
// order; both are in order where it can be seen, when one is followed by the other.
type logPrinter struct {
	stamps bool
	out    [2]*bufio.Writer
	last   int     // the stream written last
	within [2]bool // a line of the stream is not at its end
}

func (p *logPrinter) print(l run.LogLine) error {
	stream := 0
	if l.Stderr {
		stream = 1
	}
	if stream != p.last {
		if err := p.out[p.last].Flush(); err != nil {
			return err
		}
		p.last = stream
	}
	w := p.out[stream]
	if p.stamps && !p.within[stream] {
		w.Write(l.Stamp)
		w.WriteByte(' ')
	}
	p.within[stream] = l.Partial()
	_, err := w.Write(l.Text)
	return err
}

func (p *logPrinter) flush() error {
	for _, w := range p.out {
		if err := w.Flush(); err != nil {
			return err
		}
	}
	return nil
}
