package builder

import (
	"slices"
	"testing"
	"time"
)

// TestCacheTTL: results that are too old don't count, whatever time the image
// pretends to be of.
func TestCacheTTL(t *testing.T) {
	bn := newBench(t)
	const text = "FROM localhost/base\nRUN echo x > /x\n"
	const step = "[2/2] RUN echo x > /x"
	epoch := time.Unix(5, 0)
	at := func(ttl time.Duration) func(*Options) {
		return func(o *Options) { o.CacheTTL, o.Timestamp = ttl, &epoch }
	}
	first := bn.mustBuild(text, at(time.Hour))
	if second := bn.mustBuild(text, at(time.Hour)); slices.Contains(bn.ended(Done), step) || second.Image.ID != first.Image.ID {
		t.Errorf("done with a fresh cache: %q, want the step not among them", bn.ended(Done))
	}
	bn.mustBuild(text, at(time.Nanosecond))
	if got := bn.ended(Done); !slices.Contains(got, step) {
		t.Errorf("done with an old cache: %q, want the step among them", got)
	}
}
