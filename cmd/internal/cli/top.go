package cli

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/moby/sys/user"
	"github.com/spf13/cobra"

	"cooper/run"
)

const topExample = `
  @ web
  @ web aux
  @ web -o pid,user,rss,args
  @ web pid user etime args`

// newTop makes the top command.
func newTop(e *Env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "top [OPTIONS] CONTAINER [PS OPTIONS | COLUMN...]",
		Short: "Show the processes of a container",
		Long: `Show the processes of a container, as ps would: -ef unless other of its options
are given. The ps options -e -f -o and a u x are understood, and names of columns.`,
		Example:               topExample,
		DisableFlagsInUseLine: true,
		Args:                  minArgs(1, statusError),
		RunE: func(cmd *cobra.Command, args []string) error {
			return e.top(cmd.Context(), args[0], args[1:])
		},
	}
	cmd.Flags().SetInterspersed(false)
	e.commonFlags(cmd)
	return cmd
}

// top is the top command.
func (e *Env) top(ctx context.Context, name string, options []string) error {
	columns, err := parsePsOptions(options)
	if err != nil {
		return err
	}
	cs, err := e.containers(ctx)
	if err != nil {
		return err
	}
	c, err := cs.Find(name)
	if err != nil {
		return err
	}
	list, err := c.Processes()
	if err != nil {
		return err
	}
	names, err := accountNames(c)
	if err != nil {
		return err
	}
	now := time.Now()
	w := tabwriter.NewWriter(e.Stdout, 20, 1, 3, ' ', 0)
	line := make([]string, len(columns))
	for i, column := range columns {
		line[i] = column.heading
	}
	fmt.Fprintln(w, strings.Join(line, "\t"))
	for _, p := range list {
		for i, column := range columns {
			line[i] = column.value(shownProcess{p, names, now})
		}
		fmt.Fprintln(w, strings.Join(line, "\t"))
	}
	return w.Flush()
}

// accounts are the names of users and groups by id.
type accounts struct{ users, groups map[int]string }

// accountNames reads the names that the container has.
func accountNames(c *run.Container) (accounts, error) {
	names := accounts{make(map[int]string), make(map[int]string)}
	view, err := c.View()
	if err != nil {
		return names, err
	}
	defer view.Close()
	passwd, err := view.ReadFile("/etc/passwd")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return names, err
	}
	users, err := user.ParsePasswd(bytes.NewReader(passwd))
	if err != nil {
		return names, err
	}
	for _, u := range slices.Backward(users) { // the first of several counts
		names.users[u.Uid] = u.Name
	}
	group, err := view.ReadFile("/etc/group")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return names, err
	}
	groups, err := user.ParseGroup(bytes.NewReader(group))
	if err != nil {
		return names, err
	}
	for _, g := range slices.Backward(groups) {
		names.groups[g.Gid] = g.Name
	}
	return names, nil
}

// shownProcess is a process with what is needed to show it.
type shownProcess struct {
	run.Process
	names accounts
	now   time.Time
}

// psColumn is a column of ps.
type psColumn struct {
	heading string
	value   func(p shownProcess) string
}

// psColumns are the columns by the names that ps has for them.
var psColumns = map[string]psColumn{
	"pid":   {"PID", func(p shownProcess) string { return strconv.Itoa(p.PID) }},
	"ppid":  {"PPID", func(p shownProcess) string { return strconv.Itoa(p.PPID) }},
	"pgid":  {"PGID", func(p shownProcess) string { return strconv.Itoa(p.PGID) }},
	"sid":   {"SID", func(p shownProcess) string { return strconv.Itoa(p.SID) }},
	"uid":   {"UID", func(p shownProcess) string { return strconv.Itoa(p.UID) }},
	"gid":   {"GID", func(p shownProcess) string { return strconv.Itoa(p.GID) }},
	"user":  {"USER", shownProcess.user},
	"group": {"GROUP", shownProcess.group},
	"comm":  {"COMMAND", func(p shownProcess) string { return p.Name }},
	"args":  {"COMMAND", shownProcess.command},
	"tty":   {"TTY", shownProcess.tty},
	"stat":  {"STAT", func(p shownProcess) string { return p.State }},
	"time":  {"TIME", func(p shownProcess) string { return clock(p.CPU, true) }},
	"etime": {"ELAPSED", func(p shownProcess) string { return clock(p.now.Sub(p.Started), false) }},
	"stime": {"STIME", shownProcess.start},
	"nice":  {"NI", func(p shownProcess) string { return strconv.Itoa(p.Nice) }},
	"pri":   {"PRI", func(p shownProcess) string { return strconv.Itoa(p.Priority) }},
	"nlwp":  {"NLWP", func(p shownProcess) string { return strconv.Itoa(p.Threads) }},
	"rss":   {"RSS", func(p shownProcess) string { return strconv.FormatInt(p.ResidentSize>>10, 10) }},
	"vsz":   {"VSZ", func(p shownProcess) string { return strconv.FormatInt(p.VirtualSize>>10, 10) }},
	"pcpu":  {"%CPU", func(p shownProcess) string { return fmt.Sprintf("%.1f", p.cpu()) }},
	"pmem":  {"%MEM", shownProcess.memory},
	"c":     {"C", func(p shownProcess) string { return strconv.Itoa(int(p.cpu())) }},
}

// psAliases are the other names of columns.
var psAliases = map[string]string{
	"pgrp": "pgid", "sess": "sid", "session": "sid", "euid": "uid", "egid": "gid", "euser": "user", "uname": "user", "egroup": "group",
	"ucmd": "comm", "ucomm": "comm", "cmd": "args", "command": "args", "tt": "tty", "tname": "tty", "s": "stat", "state": "stat",
	"cputime": "time", "start": "stime", "start_time": "stime", "ni": "nice", "thcount": "nlwp",
	"rssize": "rss", "rsz": "rss", "vsize": "vsz", "%cpu": "pcpu", "%mem": "pmem",
}

// The columns of ps -f and of ps u.
var (
	fullColumns = []string{"user=UID", "pid", "ppid", "c", "stime", "tty", "time", "args=CMD"}
	userColumns = []string{"user", "pid", "pcpu", "pmem", "vsz", "rss", "tty", "stat", "stime=START", "time", "args"}
)

// parsePsOptions finds out which columns are wanted: from names of columns, as with
// podman, or options of ps.
func parsePsOptions(options []string) ([]psColumn, error) {
	if len(options) > 0 {
		if columns, err := parseColumns(options[0]); err == nil && len(columns) > 0 {
			return parseColumns(options...)
		}
	}
	wanted := fullColumns
	var chosen []string
	for i := 0; i < len(options); i++ {
		letters := strings.TrimPrefix(options[i], "-")
		letters, names, choose := strings.Cut(letters, "o")
		for _, letter := range letters {
			switch letter {
			case 'e', 'A', 'a', 'x', 'w':
			case 'f':
				wanted = fullColumns
			case 'u':
				wanted = userColumns
			default:
				return nil, fmt.Errorf("ps option %q is not understood: want -e, -f, -o COLUMNS, a, u or x", options[i])
			}
		}
		if choose && names == "" {
			if i++; i == len(options) {
				return nil, errors.New("ps option -o needs columns after it, as -o pid,args")
			}
			names = options[i]
		}
		if choose {
			chosen = append(chosen, names)
		}
	}
	if len(chosen) > 0 {
		wanted = chosen
	}
	return parseColumns(wanted...)
}

// parseColumns reads names of columns, several in one argument separated by commas
// or spaces, each with =HEADING after it if another heading is wanted.
func parseColumns(args ...string) ([]psColumn, error) {
	var columns []psColumn
	for _, arg := range args {
		for _, field := range strings.FieldsFunc(arg, func(r rune) bool { return r == ',' || r == ' ' }) {
			name, heading, given := strings.Cut(field, "=")
			name = strings.ToLower(name)
			column, found := psColumns[cmp.Or(psAliases[name], name)]
			if !found {
				return nil, fmt.Errorf("unknown column %q: want some of %s", name, strings.Join(slices.Sorted(maps.Keys(psColumns)), ", "))
			}
			if given {
				column.heading = heading
			}
			columns = append(columns, column)
		}
	}
	return columns, nil
}

// user is the name that the container has for the user, else the id.
func (p shownProcess) user() string { return cmp.Or(p.names.users[p.UID], strconv.Itoa(p.UID)) }

func (p shownProcess) group() string { return cmp.Or(p.names.groups[p.GID], strconv.Itoa(p.GID)) }

// command is the command line; of what has none, the name in brackets.
func (p shownProcess) command() string {
	if len(p.Args) == 0 {
		return "[" + p.Name + "]"
	}
	return strings.Join(p.Args, " ")
}

func (p shownProcess) tty() string { return cmp.Or(p.TTY, "?") }

// start is the time of the day, or the day if that was before today.
func (p shownProcess) start() string {
	started := p.Started.Local()
	if now := p.now.Local(); now.YearDay() == started.YearDay() && now.Year() == started.Year() {
		return started.Format("15:04")
	} else if now.Year() == started.Year() {
		return started.Format("Jan02")
	}
	return started.Format("2006")
}

// cpu is how many percent of one processor it has used since it was started.
func (p shownProcess) cpu() float64 {
	lived := p.now.Sub(p.Started)
	if lived < 10*time.Millisecond {
		return 0
	}
	return 100 * p.CPU.Seconds() / lived.Seconds()
}

func (p shownProcess) memory() string {
	total := run.TotalMemory()
	if total == 0 {
		return "0.0"
	}
	return fmt.Sprintf("%.1f", 100*float64(p.ResidentSize)/float64(total))
}

// clock is a duration as [DAYS-]HH:MM:SS, or, unless hours are wanted, MM:SS if it
// is short.
func clock(d time.Duration, hours bool) string {
	s := max(0, int64(d/time.Second))
	text := fmt.Sprintf("%02d:%02d", s/60%60, s%60)
	if h := s / 3600 % 24; hours || s >= 3600 {
		text = fmt.Sprintf("%02d:%s", h, text)
	}
	if days := s / 86400; days > 0 {
		text = fmt.Sprintf("%d-%s", days, text)
	}
	return text
}
