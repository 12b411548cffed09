package builder

import (
	"fmt"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
)

// Every step says what it reads before anything runs, whether it is in the
// cache or not.
func TestPlannedInputs(t *testing.T) {
	bn := newBench(t)
	bn.write("f", "f")
	bn.write("named/n", "n")
	const text = `FROM base AS a
ENV X=1
COPY f /f
RUN --mount=type=cache,target=/c --mount=type=bind,target=/src true
FROM scratch AS s
COPY f /s
FROM named AS tree
FROM a
COPY --from=s /s /s2
COPY <<END /inline
END
RUN --mount=from=base,target=/b --mount=from=s,target=/s --mount=from=tree,target=/t true
`
	want := []string{
		"[a 1/3] FROM docker.io/library/base:latest <- []",
		"[a 2/3] COPY f /f <- [[a 1/3] FROM docker.io/library/base:latest]",
		"[a 3/3] RUN --mount=type=cache,target=/c --mount=type=bind,target=/src true <- [[a 2/3] COPY f /f]",
		"[s 1/1] COPY f /s <- []",
		"[context named] " + bn.context + "/named <- []",
		"[stage-3 1/3] COPY --from=s /s /s2 <- [[a 3/3] RUN --mount=type=cache,target=/c --mount=type=bind,target=/src true [s 1/1] COPY f /s]",
		"[stage-3 2/3] COPY <<END /inline <- [[stage-3 1/3] COPY --from=s /s /s2]",
		"[stage-3 3/3] RUN --mount=from=base,target=/b --mount=from=s,target=/s --mount=from=tree,target=/t true <- " +
			"[[stage-3 2/3] COPY <<END /inline [a 1/3] FROM docker.io/library/base:latest [s 1/1] COPY f /s [context named] " + bn.context + "/named]",
	}
	for _, how := range []string{"built", "from the cache"} {
		bn.mustBuild(text, func(o *Options) { o.NamedContexts = map[string]string{"named": bn.context + "/named"} })
		var got []string
		names, begun := map[int]string{}, map[int]bool{}
		for _, e := range bn.events {
			switch e.Kind {
			case Planned:
				inputs := []string{}
				for _, in := range e.Inputs {
					inputs = append(inputs, names[in])
				}
				names[e.Node] = e.Name
				got = append(got, fmt.Sprint(e.Name, " <- ", inputs))
			case Started:
				if e.Node != 0 && (names[e.Node] != e.Name || begun[e.Node]) {
					t.Errorf("%s: %q began as %q, again: %v", how, names[e.Node], e.Name, begun[e.Node])
				}
				begun[e.Node] = true
			}
		}
		if diff := gocmp.Diff(want, got); diff != "" {
			t.Errorf("%s: the plan (-want +got):\n%s", how, diff)
		}
		for n, name := range names {
			if !begun[n] {
				t.Errorf("%s: %q did not begin", how, name)
			}
		}
	}
}
