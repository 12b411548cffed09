package builder

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const epochDockerfile = `FROM localhost/base
WORKDIR /srv/made
COPY dir /srv/copied/
COPY <<EOF /srv/here
text
EOF
RUN mkdir /srv/run && echo hi > /srv/run/file && rm -r /old && stat -c %Y /srv/here > /srv/seen
ENV A=b
`

// TestReproducible: two builds at different times in different stores give the
// same image to the byte.
func TestReproducible(t *testing.T) {
	context := t.TempDir()
	if err := os.MkdirAll(filepath.Join(context, "dir", "sub"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(context, "dir", "sub", "file"), []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	type made struct{ ID, Digest, Created, Seen string }
	var got []made
	for i := range 2 {
		if i > 0 {
			time.Sleep(1100 * time.Millisecond)
		}
		bn := newBench(t)
		r := bn.mustBuild(epochDockerfile, func(o *Options) {
			o.ContextDir = context
			o.BuildArgs = map[string]string{"SOURCE_DATE_EPOCH": "1700000000"}
			o.RewriteTimestamp = true
		})
		got = append(got, made{r.Image.ID, r.Image.Digest.String(), r.Image.Config.Created.String(), bn.read(r, "srv/seen")})
		for _, h := range r.Image.Config.History[1:] {
			if h.Created.Unix() != 1700000000 {
				t.Errorf("%s was created at %s, want the epoch", h.CreatedBy, h.Created)
			}
		}
	}
	if got[0].Created != "2023-11-14 22:13:20 +0000 UTC" || got[0].Seen != "1700000000\n" {
		t.Errorf("the first build = %+v, want times of the epoch", got[0])
	}
	if diff := cmp.Diff(got[0], got[1]); diff != "" {
		t.Errorf("the second build differs: %s", diff)
	}
}

// TestEpoch: without rewriting, the epoch is that of the history and of what
// the build makes up, and another epoch is another layer.
func TestEpoch(t *testing.T) {
	bn := newBench(t)
	text := "FROM localhost/base\nWORKDIR /srv/made\nRUN stat -c %Y /srv/made > /seen\n"
	for _, c := range []struct{ epoch, created string }{
		{"1600000000", "2020-09-13T12:26:40Z"}, {"1500000000", "2017-07-14T02:40:00Z"}, {"1600000000", "2020-09-13T12:26:40Z"},
	} {
		r := bn.mustBuild(text, func(o *Options) { o.BuildArgs = map[string]string{"SOURCE_DATE_EPOCH": c.epoch} })
		seen, created := bn.read(r, "seen"), r.Image.Config.Created.Format(time.RFC3339)
		if seen != c.epoch+"\n" || created != c.created {
			t.Errorf("epoch %s: WORKDIR has the time %q, the image %s, want %s", c.epoch, seen, created, c.created)
		}
	}
	stamp := time.Unix(1400000000, 0)
	r := bn.mustBuild(text, func(o *Options) { o.Timestamp = &stamp })
	if got := r.Image.Config.Created; !got.Equal(stamp) {
		t.Errorf("with a timestamp the image is created at %s, want %s", got, stamp)
	}
	if _, err := bn.build(text, func(o *Options) { o.BuildArgs = map[string]string{"SOURCE_DATE_EPOCH": "nonsense"} }); err == nil {
		t.Error("SOURCE_DATE_EPOCH=nonsense is accepted")
	}
	r = bn.mustBuild(text, func(o *Options) { o.BuildArgs = map[string]string{"SOURCE_DATE_EPOCH": "context"} })
	if got := time.Since(*r.Image.Config.Created); got > time.Hour {
		t.Errorf("a directory has no time, but the image's is %s ago", got)
	}
}
