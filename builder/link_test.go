package builder

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestLink: a linked layer does not depend on what is below, meets no symbolic
// link there and stays cached when that changes.
func TestLink(t *testing.T) {
	bn := newBench(t)
	bn.write("a", "content")
	text := func(below string) string {
		return "FROM localhost/base\nRUN " + below + "\nCOPY --link a /link/sub/a\nRUN cat /link/sub/a > /seen\n"
	}
	first := bn.mustBuild(text("true"))
	if got := bn.read(first, "seen") + bn.read(first, "link/sub/a"); got != "contentcontent" {
		t.Errorf("the file is %q, want content", got)
	}
	if got := bn.read(first, "old/sub/a"); got == "content" {
		t.Error("COPY --link followed a symbolic link of the base")
	}
	second := bn.mustBuild(text("echo changed > /below"))
	want := "[3/4] COPY --link a /link/sub/a"
	if got := bn.ended(Cached); !slices.Contains(got, want) {
		t.Errorf("cached are %q, want %q among them", got, want)
	}
	diffs := func(r *Result) []string {
		var out []string
		for _, d := range r.Image.Config.RootFS.DiffIDs {
			out = append(out, d.String())
		}
		return out
	}
	a, b := diffs(first), diffs(second)
	if len(a) != 4 || len(b) != 4 || a[1] == b[1] || a[2] != b[2] {
		t.Errorf("the layers are %q and %q, want the third alike and the second not", a, b)
	}
	if got := bn.read(second, "below") + bn.read(second, "link/sub/a"); got != "changed\ncontent" {
		t.Errorf("after the change below: %q", got)
	}
	again := bn.mustBuild(text("echo changed > /below"))
	if diff := cmp.Diff(second.Image.ID, again.Image.ID); diff != "" {
		t.Errorf("the same build gives another image: %s", diff)
	}
	bn.write("a", "other")
	if r := bn.mustBuild(text("true")); bn.read(r, "seen") != "other" {
		t.Errorf("a changed source is not copied: %q", bn.read(r, "seen"))
	}
}
