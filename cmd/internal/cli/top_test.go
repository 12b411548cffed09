package cli

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"cooper/run"
)

func TestParsePsOptions(t *testing.T) {
	const full = "UID PID PPID C STIME TTY TIME CMD"
	for _, c := range []struct {
		options string
		want    string // headings
		fail    string
	}{
		{"", full, ""},
		{"-ef", full, ""},
		{"-e", full, ""},
		{"aux", "USER PID %CPU %MEM VSZ RSS TTY STAT START TIME COMMAND", ""},
		{"-o pid,args", "PID COMMAND", ""},
		{"-eo pid,%cpu=CPU", "PID CPU", ""},
		{"-opid -o user", "PID USER", ""},
		{"axo pid", "PID", ""},
		{"pid user etime", "PID USER ELAPSED", ""},
		{"pid,cmd", "PID COMMAND", ""},
		{"PID", "PID", ""},
		{"-o", "", "needs columns"},
		{"-o nope", "", `unknown column "nope"`},
		{"pid nope", "", `unknown column "nope"`},
		{"-l", "", `ps option "-l" is not understood`},
	} {
		columns, err := parsePsOptions(strings.Fields(c.options))
		if !failsWith(err, c.fail) {
			t.Errorf("parsePsOptions(%s) fails with %v, want %q", c.options, err, c.fail)
			continue
		}
		var headings []string
		for _, column := range columns {
			headings = append(headings, column.heading)
		}
		if got := strings.Join(headings, " "); err == nil && got != c.want {
			t.Errorf("parsePsOptions(%s) = %s, want %s", c.options, got, c.want)
		}
	}
}

func TestPsColumns(t *testing.T) {
	now := time.Date(2024, 5, 6, 12, 0, 0, 0, time.Local)
	p := shownProcess{
		Process: run.Process{
			PID: 7, PPID: 1, UID: 33, GID: 5, Name: "app", Args: []string{"app", "-x"}, State: "S", TTY: "pts/1",
			Started: now.Add(-100 * time.Second), CPU: 25 * time.Second, ResidentSize: 2 << 20,
		},
		names: accounts{users: map[int]string{33: "www-data"}}, now: now,
	}
	kernel := shownProcess{Process: run.Process{Name: "kthread", Started: now.AddDate(0, 0, -3)}, now: now}
	old := shownProcess{Process: run.Process{Started: now.AddDate(-2, 0, 0)}, now: now}
	for _, c := range []struct {
		p    shownProcess
		name string
		want string
	}{
		{p, "pid", "7"}, {p, "user", "www-data"}, {p, "group", "5"}, {p, "args", "app -x"}, {p, "comm", "app"}, {p, "tty", "pts/1"},
		{p, "time", "00:00:25"}, {p, "etime", "01:40"}, {p, "stime", "11:58"}, {p, "pcpu", "25.0"}, {p, "c", "25"}, {p, "rss", "2048"},
		{kernel, "args", "[kthread]"}, {kernel, "tty", "?"}, {kernel, "stime", "May03"}, {kernel, "etime", "3-00:00:00"}, {old, "stime", "2022"},
	} {
		if got := psColumns[c.name].value(c.p); got != c.want {
			t.Errorf("%s = %q, want %q", c.name, got, c.want)
		}
	}
}

func TestStatsRow(t *testing.T) {
	then := time.Now()
	m := measured{
		id: strings.Repeat("ab", 32), name: "web", running: true,
		before: run.Usage{At: then, CPU: time.Second},
		usage: run.Usage{
			At: then.Add(2 * time.Second), CPU: 4 * time.Second, Memory: 3 << 20, MemoryLimit: 12 << 20,
			NetworkIn: 1200, NetworkOut: 1e6, BlockRead: 0, BlockWrite: 2e9, PIDs: 5,
		},
	}
	want := map[string]string{
		"Container": "abababababab", "ID": "abababababab", "Name": "web", "CPUPerc": "150.00%", "MemUsage": "3MiB / 12MiB", "MemPerc": "25.00%",
		"NetIO": "1.2kB / 1MB", "BlockIO": "0B / 2GB", "PIDs": "5",
	}
	if diff := cmp.Diff(want, m.row(false)); diff != "" {
		t.Errorf("row (-want +got):\n%s", diff)
	}
	m = measured{id: m.id, given: "w", name: "web"} // does not run
	want = map[string]string{
		"Container": "w", "ID": m.id, "Name": "web", "CPUPerc": "0.00%", "MemUsage": "0B / 0B", "MemPerc": "0.00%",
		"NetIO": "0B / 0B", "BlockIO": "0B / 0B", "PIDs": "0",
	}
	if diff := cmp.Diff(want, m.row(true)); diff != "" {
		t.Errorf("row of one that does not run (-want +got):\n%s", diff)
	}
}
