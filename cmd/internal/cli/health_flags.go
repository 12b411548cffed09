package cli

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/spf13/pflag"

	"cooper/run"
)

// healthFlags are the flags about a container's health check.
type healthFlags struct {
	command                                       string
	interval, timeout, startPeriod, startInterval time.Duration
	retries                                       int
	none                                          bool
	given                                         bool // one of them but none
}

func (f *healthFlags) declare(fs *pflag.FlagSet) {
	fs.StringVar(&f.command, "health-cmd", "", "Check the container's health by `COMMAND`")
	fs.DurationVar(&f.interval, "health-interval", 0, "Check every `DURATION` (default 30s)")
	fs.DurationVar(&f.timeout, "health-timeout", 0, "End a check after `DURATION` (default 30s)")
	fs.DurationVar(&f.startPeriod, "health-start-period", 0, "Don't count failures for `DURATION` after the start")
	fs.DurationVar(&f.startInterval, "health-start-interval", 0, "Check every `DURATION` in that time (default 5s)")
	fs.IntVar(&f.retries, "health-retries", 0, "Be unhealthy after `N` failures in a row (default 3)")
	fs.BoolVar(&f.none, "no-healthcheck", false, "Leave out the image's health check")
	markSections(fs, sectionHealth, append(healthFlagNames, "no-healthcheck")...)
}

var healthFlagNames = []string{"health-cmd", "health-interval", "health-timeout", "health-start-period", "health-start-interval", "health-retries"}

// check looks at the flags once they are parsed.
func (f *healthFlags) check() error {
	f.given = f.command != "" || f.interval != 0 || f.timeout != 0 || f.startPeriod != 0 || f.startInterval != 0 || f.retries != 0
	if f.none && f.given {
		return errors.New("--no-healthcheck conflicts with --health-* options")
	}
	for _, d := range []struct {
		flag  string
		value time.Duration
	}{
		{"interval", f.interval}, {"timeout", f.timeout},
		{"start-period", f.startPeriod}, {"start-interval", f.startInterval},
	} {
		if d.value < 0 {
			return fmt.Errorf("--health-%s cannot be negative", d.flag)
		}
		if d.value > 0 && d.value < time.Millisecond {
			return fmt.Errorf("--health-%s cannot be less than 1ms", d.flag)
		}
	}
	if f.retries < 0 {
		return errors.New("--health-retries cannot be negative")
	}
	return nil
}

// config is the health check of a container of the image; nil is none.
func (f *healthFlags) config(image dockerspec.DockerOCIImageConfig) *run.HealthConfig {
	h := run.ImageHealth(image)
	if f.none {
		return nil
	}
	if h == nil {
		h = &run.HealthConfig{}
	}
	if f.command != "" {
		h.Written = healthCommand(f.command)
		h.Test = run.HealthTest(h.Written, nil)
	}
	if len(h.Test) == 0 {
		return nil
	}
	h.Interval, h.Timeout = cmp.Or(f.interval, h.Interval), cmp.Or(f.timeout, h.Timeout)
	h.StartPeriod, h.StartInterval = cmp.Or(f.startPeriod, h.StartPeriod), cmp.Or(f.startInterval, h.StartInterval)
	h.Retries = cmp.Or(f.retries, h.Retries)
	return h
}

// healthCommand is --health-cmd as docker-image-spec writes it: for the shell or, as
// with podman, a JSON array. "none" is no check.
func healthCommand(s string) []string {
	var list []string
	if strings.HasPrefix(s, "[") && json.Unmarshal([]byte(s), &list) == nil {
		if len(list) > 0 && (list[0] == "CMD" || list[0] == "CMD-SHELL" || list[0] == "NONE") {
			return list
		}
		return append([]string{"CMD"}, list...)
	}
	if s == "none" {
		return []string{"NONE"}
	}
	return []string{"CMD-SHELL", s}
}
