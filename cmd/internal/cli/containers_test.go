package cli

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"cooper/run"
)

func TestStatusText(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	at := func(d time.Duration) time.Time { return now.Add(-d) }
	for _, tt := range []struct {
		st   run.State
		want string
	}{
		{run.State{Status: run.StatusCreated}, "Created"},
		{run.State{Status: run.StatusRunning, Started: at(90 * time.Second)}, "Up About a minute"},
		{run.State{Status: run.StatusRunning, Started: at(2 * time.Hour), Health: &run.HealthState{Status: "starting"}}, "Up 2 hours (health: starting)"},
		{run.State{Status: run.StatusRunning, Started: at(2 * time.Hour), Health: &run.HealthState{Status: "unhealthy"}}, "Up 2 hours (unhealthy)"},
		{run.State{Status: run.StatusPaused, Started: at(time.Hour)}, "Up About an hour (Paused)"},
		{run.State{Status: run.StatusExited, ExitCode: 137, Finished: at(3 * time.Second)}, "Exited (137) 3 seconds ago"},
		{run.State{Status: run.StatusRestarting, ExitCode: 1, Finished: at(0)}, "Restarting (1) Less than a second ago"},
	} {
		if got := statusText(tt.st, now); got != tt.want {
			t.Errorf("statusText(%+v) = %q, want %q", tt.st, got, tt.want)
		}
	}
}

func TestPortsText(t *testing.T) {
	port := func(ip string, host, container uint16, protocol string) run.PortMapping {
		p := run.PortMapping{HostPort: host, ContainerPort: container, Protocol: protocol}
		if ip != "" {
			p.HostIP = netip.MustParseAddr(ip)
		}
		return p
	}
	for _, tt := range []struct {
		name string
		o    run.ContainerOptions
		st   run.State
		want string
	}{
		{"none", run.ContainerOptions{}, run.State{Status: run.StatusRunning}, ""},
		{"exposed", run.ContainerOptions{Exposed: []string{"443/tcp", "80/tcp", "81/tcp", "53/udp"}},
			run.State{Status: run.StatusRunning}, "80-81/tcp, 443/tcp, 53/udp"},
		{"everywhere", run.ContainerOptions{Exposed: []string{"80/tcp"}},
			run.State{Status: run.StatusRunning, Ports: []run.PortMapping{port("", 8080, 80, "tcp")}}, "0.0.0.0:8080->80/tcp, [::]:8080->80/tcp"},
		{"range", run.ContainerOptions{}, run.State{Status: run.StatusPaused, Ports: []run.PortMapping{
			port("127.0.0.1", 9002, 92, "tcp"), port("127.0.0.1", 9000, 90, "tcp"), port("127.0.0.1", 9001, 91, "tcp"), port("127.0.0.1", 1, 99, "tcp"),
		}}, "127.0.0.1:9000-9002->90-92/tcp, 127.0.0.1:1->99/tcp"},
		{"stopped", run.ContainerOptions{Exposed: []string{"80/tcp"}}, run.State{Status: run.StatusExited}, ""},
		{"of the host", run.ContainerOptions{NetworkMode: "host", Exposed: []string{"80/tcp"}}, run.State{Status: run.StatusRunning}, ""},
	} {
		if got := portsText(tt.o, tt.st); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
}

func TestContainerFilters(t *testing.T) {
	health := func(status string) *run.HealthState { return &run.HealthState{Status: status} }
	options := map[string]run.ContainerOptions{
		"web": {Labels: map[string]string{"tier": "front", "x": ""}, NetworkMode: "blue", Ports: []run.PortMapping{{ContainerPort: 80, Protocol: "tcp"}},
			Exposed: []string{"443/tcp"}, Created: time.Unix(300, 0)},
		"db": {Labels: map[string]string{"tier": "back"}, NetworkMode: "bridge", Created: time.Unix(200, 0),
			Mounts: []run.ContainerMount{{Type: "volume", Name: "data", Destination: "/var/lib"}}},
		"old": {NetworkMode: "host", Created: time.Unix(100, 0)},
	}
	states := map[string]run.State{
		"web": {Status: run.StatusRunning, Health: health("healthy")},
		"db":  {Status: run.StatusPaused},
		"old": {Status: run.StatusExited, ExitCode: 3},
	}
	for filters, want := range map[string]string{
		"":                             "web db old",
		"name=b$":                      "web db",
		"name=^/db$":                   "db",
		"name=web name=old":            "web old",
		"label=tier":                   "web db",
		"label=tier=back":              "db",
		"label=tier label=x":           "web",
		"status=exited":                "old",
		"status=running status=paused": "web db",
		"status=running label=tier":    "web",
		"exited=3":                     "old",
		"exited=0":                     "",
		"health=healthy":               "web",
		"health=none":                  "db old",
		"network=blue":                 "web",
		"volume=data":                  "db",
		"volume=/var/lib":              "db",
		"publish=80":                   "web",
		"publish=70-90/tcp":            "web",
		"publish=80/udp":               "",
		"publish=443":                  "",
		"expose=443":                   "web",
		"before=db":                    "old",
		"since=old":                    "web db",
		"since=old before=web":         "db",
		"id=aaaa":                      "web db old",
		"id=b":                         "",
	} {
		f, err := parseContainerFilters(strings.Fields(filters), false)
		if err != nil {
			t.Errorf("%q: %v", filters, err)
			continue
		}
		var all []listed
		for _, name := range []string{"web", "db", "old"} {
			o := options[name]
			o.Name, o.ID = name, strings.Repeat("a", 64)
			all = append(all, listed{options: o, state: states[name]})
		}
		if err := f.resolve(t.Context(), nil, all); err != nil {
			t.Errorf("%q: %v", filters, err)
			continue
		}
		var got []string
		for _, c := range all {
			if f.match(c) {
				got = append(got, c.options.Name)
			}
		}
		if diff := cmp.Diff(want, strings.Join(got, " ")); diff != "" {
			t.Errorf("%q (-want +got):\n%s", filters, diff)
		}
	}
}

func TestContainerFiltersRefused(t *testing.T) {
	for filter, want := range map[string]string{
		"name":            "want KEY=VALUE",
		"colour=red":      "with one of the keys ancestor",
		"status=up":       "want one of created",
		"health=fine":     "want starting",
		"exited=x":        "exited=x",
		"publish=http":    "want PORT",
		"publish=90-80":   "want PORT",
		"name=(":          "missing closing",
		"until=yesterday": "keys",
	} {
		if _, err := parseContainerFilters([]string{filter}, false); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("filter %q: %v, want an error with %q", filter, err, want)
		}
	}
	if _, err := parseContainerFilters([]string{"until=24h", "label!=keep"}, true); err != nil {
		t.Errorf("filters of prune: %v", err)
	}
	if _, err := parseContainerFilters([]string{"name=x"}, true); err == nil {
		t.Error("prune takes the filter name")
	}
}

func TestParseTime(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for text, want := range map[string]time.Time{
		"10m":                           now.Add(-10 * time.Minute),
		"1h30m":                         now.Add(-90 * time.Minute),
		"1767323045":                    time.Unix(1767323045, 0),
		"1767323045.25":                 time.Unix(1767323045, 250_000_000),
		"2026-01-02T03:04:05Z":          now,
		"2026-01-02T03:04:05.5+01:00":   now.Add(-time.Hour + 500*time.Millisecond),
		"2026-01-02":                    time.Date(2026, 1, 2, 0, 0, 0, 0, time.Local),
		"2026-01-02T03:04":              time.Date(2026, 1, 2, 3, 4, 0, 0, time.Local),
		"2026-01-02 03:04:05 +0000 UTC": now,
	} {
		if got, err := parseTime(text, now); err != nil || !got.Equal(want) {
			t.Errorf("parseTime(%q) = %v, %v, want %v", text, got, err, want)
		}
	}
	for _, text := range []string{"", "soon", "10", "2026-13-01", "1.0000000001", "99999999999999999999"} {
		if got, err := parseTime(text, now); err == nil && text != "10" {
			t.Errorf("parseTime(%q) = %v, want an error", text, got)
		}
	}
}

func TestEventFilters(t *testing.T) {
	events := []run.Event{
		{Type: "container", Action: "start", ID: "abcdef", Attributes: map[string]string{"name": "web", "image": "app", "tier": "front"}},
		{Type: "container", Action: "health_status: healthy", ID: "abcdef", Attributes: map[string]string{"name": "web", "image": "app"}},
		{Type: "network", Action: "connect", ID: "123456", Attributes: map[string]string{"name": "blue", "container": "abcdef"}},
	}
	for filters, want := range map[string]string{
		"":                          "start health_status: healthy connect",
		"type=network":              "connect",
		"event=start":               "start",
		"event=health_status":       "health_status: healthy",
		"event=start event=connect": "start connect",
		"container=web":             "start health_status: healthy",
		"container=abcd":            "start health_status: healthy",
		"container=abcdef":          "start health_status: healthy connect",
		"network=blue":              "connect",
		"label=tier=front":          "start",
		"image=app event=start":     "start",
	} {
		match, err := parseEventFilters(strings.Fields(filters))
		if err != nil {
			t.Errorf("%q: %v", filters, err)
			continue
		}
		var got []string
		for _, e := range events {
			if match(e) {
				got = append(got, e.Action)
			}
		}
		if diff := cmp.Diff(want, strings.Join(got, " ")); diff != "" {
			t.Errorf("%q (-want +got):\n%s", filters, diff)
		}
	}
}
