package main

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestTable(t *testing.T) {
	got := table([]result{
		{
			title:  "COPY",
			median: map[string]float64{"ours": 0.5, "theirs": 5, "cp -a": 0.25},
			floors: []string{"cp -a"},
		},
		{title: "run", median: map[string]float64{"ours": 0.05}},
	}, []string{"ours", "theirs"})
	want := `| seconds | ours | theirs | floor |
|---|---|---|---|
| COPY | 0.500 | 5.00 (10x) | cp -a 0.250 (0.5x) |
| run | 0.050 | - |  |
`
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("table: (-want +got)\n%s", diff)
	}
}

func TestMedian(t *testing.T) {
	for _, c := range []struct {
		all  []float64
		want float64
	}{
		{[]float64{3}, 3},
		{[]float64{9, 1, 5}, 5},
		{[]float64{4, 1, 2, 3}, 2},
	} {
		if got := median(c.all); got != c.want {
			t.Errorf("median(%v) = %v, want %v", c.all, got, c.want)
		}
	}
}
