package dockerfile_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/platforms"
	"github.com/google/go-cmp/cmp"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/tools/txtar"

	"cooper/dockerfile"
)

var update = flag.Bool("update", false, "rewrite the wanted plans")

// TestPlan compares plans with those in testdata/plan. Each archive has a
// Dockerfile, and may have options.json (see planInput), images.json (configs
// by reference or context name) and .dockerignore. The file want is the plan
// or the error.
func TestPlan(t *testing.T) {
	files, err := filepath.Glob("testdata/plan/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatal("no cases", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			archive, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got := planText(t, archive)
			if *update {
				setFile(archive, "want", got)
				if err := os.WriteFile(file, txtar.Format(archive), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if diff := cmp.Diff(string(getFile(archive, "want")), string(got)); diff != "" {
				t.Errorf("plan (-want +got):\n%s", diff)
			}
		})
	}
}

// planInput is options.json.
type planInput struct {
	Target, BuildPlatform, TargetPlatform, Network string
	BuildArgs, Labels, Contexts                    map[string]string
	AllStages, MultiPlatform, Outline, BuildUnused bool
	Edits                                          dockerfile.Edits
	Epoch                                          *int64
}

func (in planInput) options() dockerfile.PlanOptions {
	return dockerfile.PlanOptions{
		Target: in.Target, BuildArgs: in.BuildArgs, Labels: in.Labels, Contexts: in.Contexts, Network: in.Network,
		BuildPlatform: mustPlatform(in.BuildPlatform), TargetPlatform: mustPlatform(in.TargetPlatform),
		AllStages: in.AllStages, BuildUnused: in.BuildUnused, Edits: in.Edits, MultiPlatform: in.MultiPlatform, Outline: in.Outline, Epoch: in.Epoch,
		Images: map[dockerfile.ImageRequest]*dockerspec.DockerOCIImage{},
	}
}

func mustPlatform(s string) ocispec.Platform {
	if s == "" {
		return ocispec.Platform{}
	}
	return platforms.MustParse(s)
}

// planText plans the Dockerfile in the archive, resolving images from
// images.json, and returns the result as text.
func planText(t *testing.T, archive *txtar.Archive) []byte {
	t.Helper()
	var in planInput
	images := map[string]*dockerspec.DockerOCIImage{}
	unmarshal(t, getFile(archive, "options.json"), &in)
	unmarshal(t, getFile(archive, "images.json"), &images)
	o := in.options()
	ignore, err := dockerfile.ParseIgnore(getFile(archive, ".dockerignore"))
	if err != nil {
		t.Fatal(err)
	}
	o.Ignore = ignore

	var b bytes.Buffer
	f, err := dockerfile.Parse("Dockerfile", getFile(archive, "Dockerfile"))
	if err != nil {
		writeError(&b, err)
		return b.Bytes()
	}
	for {
		plan, err := f.Plan(o)
		if err != nil {
			writeWarnings(&b, plan.Warnings)
			writeError(&b, err)
			return b.Bytes()
		}
		if len(plan.Missing) == 0 {
			writePlan(t, &b, plan)
			return b.Bytes()
		}
		for _, r := range plan.Missing {
			fmt.Fprintf(&b, "missing %s %s\n", r, r.Platform)
			img, ok := images[r.Ref+r.Context]
			if !ok && r.Context == "" {
				img = &dockerspec.DockerOCIImage{}
				img.Platform = platforms.MustParse(r.Platform)
				img.Config.Env = []string{"PATH=/bin"}
				img.RootFS.DiffIDs = append(img.RootFS.DiffIDs, "sha256:00")
			}
			o.Images[r] = img
		}
	}
}

func writeError(b *bytes.Buffer, err error) {
	fmt.Fprintf(b, "error: %v\n", err)
	if e, ok := errors.AsType[*dockerfile.Error](err); ok {
		b.WriteString(e.Excerpt())
	}
}

func writePlan(t *testing.T, b *bytes.Buffer, plan *dockerfile.Plan) {
	t.Helper()
	for _, use := range plan.Images {
		fmt.Fprintf(b, "uses %s %s as %q base=%t line %s\n", use.Request, use.Request.Platform, use.Name, use.Base, use.Location)
	}
	if plan.Epoch != nil {
		fmt.Fprintf(b, "epoch %s\n", marshal(t, plan.Epoch))
	}
	if len(plan.Skipped) > 0 {
		fmt.Fprintf(b, "skipped %q\n", plan.Skipped)
	}
	if len(plan.UnusedBuildArgs) > 0 {
		fmt.Fprintf(b, "unused build arguments %q\n", plan.UnusedBuildArgs)
	}
	writeWarnings(b, plan.Warnings)
	if plan.Outline != nil {
		fmt.Fprintf(b, "outline %s\n", indent(t, plan.Outline))
		return
	}
	for _, st := range plan.Stages {
		fmt.Fprintf(b, "\nstage %d (%d %q) line %s %s\n", st.ID, st.Index, st.Name, st.Location, platforms.FormatAll(st.Platform))
		fmt.Fprintf(b, "  base %s\n", marshal(t, st.Base))
		if len(st.After) > 0 {
			fmt.Fprintf(b, "  after %v\n", st.After)
		}
		for _, s := range st.Steps {
			writeStep(t, b, s)
		}
		fmt.Fprintf(b, "  config %s\n", marshal(t, st.Config))
	}
}

func writeWarnings(b *bytes.Buffer, warnings []dockerfile.Warning) {
	for _, w := range warnings {
		fmt.Fprintf(b, "warning %s\n", w)
	}
}

func writeStep(t *testing.T, b *bytes.Buffer, s dockerfile.Step) {
	t.Helper()
	text := s.Text
	if s.Name != "" {
		text = s.Name
	}
	fmt.Fprintf(b, "  %s: %s\n", s.Location, text)
	fmt.Fprintf(b, "    %q empty=%t onbuild=%t\n", s.CreatedBy, s.EmptyLayer, s.OnBuild)
	if _, ok := s.Op.(*dockerfile.Metadata); ok {
		return
	}
	fmt.Fprintf(b, "    %s %s\n", strings.TrimPrefix(fmt.Sprintf("%T", s.Op), "*dockerfile."), marshal(t, s.Op))
	switch op := s.Op.(type) {
	case *dockerfile.Copy:
		fmt.Fprintf(b, "    from %s spelled %q\n", marshal(t, op.From), op.Spelled)
		for _, f := range op.Files {
			fmt.Fprintf(b, "    file %s %q\n", f.Name, f.Data)
		}
	case *dockerfile.Run:
		for _, m := range op.Mounts {
			if m.From != nil {
				fmt.Fprintf(b, "    mount %s from %s\n", m.Target, marshal(t, m.From))
			}
		}
		for _, f := range op.Files {
			fmt.Fprintf(b, "    file %s %q\n", f.Name, f.Data)
		}
		if len(op.ProxyEnv) > 0 {
			fmt.Fprintf(b, "    proxy %q\n", op.ProxyEnv)
		}
	}
}

func marshal(t *testing.T, v any) []byte {
	t.Helper()
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		t.Fatal(err)
	}
	return bytes.TrimSpace(b.Bytes())
}

func indent(t *testing.T, v any) []byte {
	t.Helper()
	data, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func unmarshal(t *testing.T, data []byte, v any) {
	t.Helper()
	if len(data) == 0 {
		return
	}
	if err := json.Unmarshal(data, v); err != nil {
		t.Fatal(err)
	}
}

func getFile(a *txtar.Archive, name string) []byte {
	for _, f := range a.Files {
		if f.Name == name {
			return f.Data
		}
	}
	return nil
}

func setFile(a *txtar.Archive, name string, data []byte) {
	for i, f := range a.Files {
		if f.Name == name {
			a.Files[i].Data = data
			return
		}
	}
	a.Files = append(a.Files, txtar.File{Name: name, Data: data})
}
