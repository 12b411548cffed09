package builder

import (
	"context"
	"slices"
	"strings"
)

// jobs has a place for each step that may run at once; nil has no bound.
type jobs chan struct{}

func newJobs(n int) jobs {
	if n <= 0 {
		return nil
	}
	return make(jobs, n)
}

// enter waits for a place. A step must not wait for another one while it has
// it.
func (j jobs) enter(ctx context.Context) error {
	if j == nil {
		return nil
	}
	select {
	case j <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (j jobs) leave() {
	if j != nil {
		<-j
	}
}

// noCache reports whether the stage's steps run whatever the cache holds.
func (s *stage) noCache() bool {
	return s.o.NoCache || slices.ContainsFunc(s.o.NoCacheFilter, func(name string) bool {
		return strings.EqualFold(name, s.spec.Name) && name != ""
	})
}
