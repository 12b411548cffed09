package dockerfile_test

import (
	"encoding/json"
	"path/filepath"
	"testing"
	"unicode/utf8"

	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"golang.org/x/tools/txtar"

	"cooper/dockerfile"
)

// FuzzParse parses and plans anything. The seeds are the Dockerfiles of
// TestPlan.
func FuzzParse(f *testing.F) {
	files, err := filepath.Glob("testdata/plan/*.txtar")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range files {
		archive, err := txtar.ParseFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(getFile(archive, "Dockerfile"), "RUN x", "1")
	}
	f.Add([]byte("FROM a\nRUN x\n"), "COPY --from=a . .", "context")
	f.Fuzz(func(t *testing.T, src []byte, trigger, arg string) {
		if len(src) > 4096 || len(trigger) > 512 {
			return
		}
		file, err := dockerfile.Parse("Dockerfile", src)
		if err != nil {
			checkError(t, err)
			return
		}
		o := dockerfile.PlanOptions{
			BuildArgs: map[string]string{"A": arg, "SOURCE_DATE_EPOCH": arg},
			Contexts:  map[string]string{"b": "", "alpine": ""},
			Images:    map[dockerfile.ImageRequest]*dockerspec.DockerOCIImage{},
		}
		for range 1000 {
			plan, err := file.Plan(o)
			if err != nil {
				checkError(t, err)
				return
			}
			if len(plan.Missing) == 0 {
				checkPlan(t, plan)
				return
			}
			for _, r := range plan.Missing {
				img := &dockerspec.DockerOCIImage{}
				img.Config.OnBuild = []string{trigger}
				o.Images[r] = img
			}
		}
		t.Fatal("planning asks for more and more images")
	})
}

func checkError(t *testing.T, err error) {
	if err.Error() == "" {
		t.Error("error without a text")
	}
	if e, ok := err.(*dockerfile.Error); ok {
		_ = e.Excerpt()
	}
}

// checkPlan looks for what every plan has to keep to.
func checkPlan(t *testing.T, plan *dockerfile.Plan) {
	for id, st := range plan.Stages {
		if st.ID != id || st.Base.Stage >= id {
			t.Errorf("stage %d has id %d and base %d", id, st.ID, st.Base.Stage)
		}
		for _, s := range st.Steps {
			data, err := json.Marshal(s.Op)
			if err != nil || !utf8.Valid(data) {
				t.Errorf("op %#v as JSON: %v", s.Op, err)
			}
			switch op := s.Op.(type) {
			case *dockerfile.Copy:
				checkSource(t, op.From, id)
				checkPaths(t, append(op.Sources, op.Dest)...)
			case *dockerfile.Run:
				for _, m := range op.Mounts {
					if m.From != nil {
						checkSource(t, *m.From, id)
					}
					if m.Target != "" {
						checkPaths(t, m.Target)
					}
				}
				checkPaths(t, op.Dir)
			case *dockerfile.Workdir:
				checkPaths(t, op.Path)
			}
		}
	}
}

func checkSource(t *testing.T, s dockerfile.Source, id int) {
	other := s.Scratch || s.Context || s.Named != nil || s.Image != nil
	if s.Stage >= id || (s.Stage < 0) != other {
		t.Errorf("source %+v in stage %d", s, id)
	}
}

func checkPaths(t *testing.T, paths ...string) {
	for _, p := range paths {
		if !filepath.IsAbs(p) {
			t.Errorf("path %q is not absolute", p)
		}
	}
}

func BenchmarkParse(b *testing.B) {
	src := benchSource(b)
	b.SetBytes(int64(len(src)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := dockerfile.Parse("Dockerfile", src); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkPlan(b *testing.B) {
	src := benchSource(b)
	f, err := dockerfile.Parse("Dockerfile", src)
	if err != nil {
		b.Fatal(err)
	}
	o := dockerfile.PlanOptions{Images: map[dockerfile.ImageRequest]*dockerspec.DockerOCIImage{}}
	plan, err := f.Plan(o)
	if err != nil {
		b.Fatal(err)
	}
	for _, r := range plan.Missing {
		o.Images[r] = &dockerspec.DockerOCIImage{}
	}
	b.SetBytes(int64(len(src)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := f.Plan(o); err != nil {
			b.Fatal(err)
		}
	}
}

// benchSource is an ordinary Dockerfile of two stages and 40 steps.
func benchSource(b *testing.B) []byte {
	archive, err := txtar.ParseFile("testdata/bench.txtar")
	if err != nil {
		b.Fatal(err)
	}
	return getFile(archive, "Dockerfile")
}
