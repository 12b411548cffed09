package run

import (
	"context"
	"fmt"
	"strings"

	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"

	"cooper/run/internal/life"
)

// ImageHealth is the health check that an image's config asks for; nil is none.
func ImageHealth(image dockerspec.DockerOCIImageConfig) *HealthConfig {
	h := image.Healthcheck
	if h == nil {
		return nil
	}
	test := HealthTest(h.Test, image.Shell)
	if len(test) == 0 {
		return nil
	}
	return &HealthConfig{
		Test: test, Written: h.Test, Interval: h.Interval, Timeout: h.Timeout,
		StartPeriod: h.StartPeriod, StartInterval: h.StartInterval, Retries: h.Retries,
	}
}

// HealthTest is a check as docker-image-spec writes it, CMD or CMD-SHELL first, as a
// command line; nil is none. The shell is the image's, empty means /bin/sh -c.
func HealthTest(test, shell []string) []string {
	if len(test) < 2 {
		return nil
	}
	switch test[0] {
	case "CMD":
		return test[1:]
	case "CMD-SHELL":
		if len(shell) == 0 {
			shell = []string{"/bin/sh", "-c"}
		}
		return append(append([]string(nil), shell...), test[1])
	}
	return nil
}

// HealthError says why a container did not become healthy.
type HealthError struct {
	// Name is the container's.
	Name string
	// State is the last one seen: unhealthy, or no longer running.
	State State
}

// Output is what the last health check said, "" if there was none.
func (e *HealthError) Output() string {
	h := e.State.Health
	if h == nil || len(h.Log) == 0 {
		return ""
	}
	return strings.TrimSpace(h.Log[len(h.Log)-1].Output)
}

// Error has the last check's output too.
func (e *HealthError) Error() string {
	text := fmt.Sprintf("container %s is unhealthy", e.Name)
	if !e.State.Alive() {
		text = fmt.Sprintf("container %s ended with exit code %d before it became healthy", e.Name, e.State.ExitCode)
	}
	if output := e.Output(); output != "" {
		text += "; its last health check said: " + output
	}
	return text
}

// AwaitHealth waits until the health check of a running container has come to a
// result, and returns nil for healthy, else a *HealthError. A container without a
// check is healthy. Unlike Wait it does not hope that an unhealthy one recovers.
func (c *Container) AwaitHealth(ctx context.Context) error {
	if c.opts().Health == nil {
		return nil
	}
	var last State
	err := c.Watch(ctx, func(st State) bool {
		last = st
		return st.Alive() && (st.Health == nil || st.Health.Status == life.HealthStarting)
	})
	if err != nil {
		return err
	}
	if last.Alive() && last.Health != nil && last.Health.Status == WaitHealthy {
		return nil
	}
	return &HealthError{Name: c.opts().Name, State: last}
}
