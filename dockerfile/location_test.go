package dockerfile_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"cooper/dockerfile"
)

func TestExcerpt(t *testing.T) {
	const rule = "--------------------\n"
	src := "l1\nl2\nl3\nl4\nl5\nl6\nl7\nl8"
	for _, tc := range []struct {
		name string
		loc  dockerfile.Location
		want string
	}{
		{"middle", dockerfile.Location{Start: 4, End: 4},
			"D:4\n" + rule + "   2 |     l2\n   3 |     l3\n   4 | >>> l4\n   5 |     l5\n   6 |     l6\n" + rule},
		{"first", dockerfile.Location{Start: 1, End: 1},
			"D:1\n" + rule + "   1 | >>> l1\n   2 |     l2\n   3 |     l3\n" + rule},
		{"last", dockerfile.Location{Start: 8, End: 8},
			"D:8\n" + rule + "   6 |     l6\n   7 |     l7\n   8 | >>> l8\n" + rule},
		{"several", dockerfile.Location{Start: 3, End: 5},
			"D:3\n" + rule + "   2 |     l2\n   3 | >>> l3\n   4 | >>> l4\n   5 | >>> l5\n   6 |     l6\n" + rule},
		{"past the end", dockerfile.Location{Start: 7, End: 99},
			"D:7\n" + rule + "   6 |     l6\n   7 | >>> l7\n   8 | >>> l8\n" + rule},
		{"end left out", dockerfile.Location{Start: 8},
			"D:8\n" + rule + "   6 |     l6\n   7 |     l7\n   8 | >>> l8\n" + rule},
		{"outside", dockerfile.Location{Start: 9, End: 9}, ""},
		{"unknown", dockerfile.Location{}, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if diff := cmp.Diff(tc.want, dockerfile.Excerpt("D", []byte(src), tc.loc)); diff != "" {
				t.Errorf("Excerpt (-want +got):\n%s", diff)
			}
		})
	}
}

func TestLocationString(t *testing.T) {
	for loc, want := range map[dockerfile.Location]string{
		{}:                 "",
		{Start: 3}:         "3",
		{Start: 3, End: 3}: "3",
		{Start: 3, End: 5}: "3-5",
	} {
		if got := loc.String(); got != want {
			t.Errorf("%#v.String() = %q, want %q", loc, got, want)
		}
	}
}
