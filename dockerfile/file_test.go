package dockerfile_test

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"cooper/dockerfile"
)

func TestParseEmpty(t *testing.T) {
	_, err := dockerfile.Parse("Dockerfile", nil)
	e, ok := errors.AsType[*dockerfile.Error](err)
	if !ok || e.Error() != "the Dockerfile cannot be empty" || e.Excerpt() != "" {
		t.Errorf("Parse of nothing = %v", err)
	}
}

func TestStages(t *testing.T) {
	f, err := dockerfile.Parse("Dockerfile", []byte("ARG V=1\n# build makes it\nFROM --platform=$BUILDPLATFORM golang:$V AS build\nRUN x\nFROM build\n"))
	if err != nil {
		t.Fatal(err)
	}
	want := []dockerfile.StageInfo{
		{Index: 0, Name: "build", Base: "golang:$V", Platform: "$BUILDPLATFORM", Description: "makes it", Location: dockerfile.Location{Start: 3, End: 3}},
		{Index: 1, Base: "build", Location: dockerfile.Location{Start: 5, End: 5}},
	}
	if diff := cmp.Diff(want, f.Stages()); diff != "" {
		t.Errorf("Stages (-want +got):\n%s", diff)
	}
}

func TestSuggest(t *testing.T) {
	f, err := dockerfile.Parse("Dockerfile", []byte("FROM x AS builder\nFROM scratch\n"))
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"buidler": "builder", "alpin": "alpine", "nginx": ""} {
		if got, _ := f.Suggest(name); got != want {
			t.Errorf("Suggest(%q) = %q, want %q", name, got, want)
		}
	}
}

// TestPlanTwice plans one File several times: expansion must not change it.
func TestPlanTwice(t *testing.T) {
	f, err := dockerfile.Parse("Dockerfile", []byte("ARG B=x\nFROM scratch\nARG B\nENV A=$B\nCOPY $A <<EOF /$A\n$A\nEOF\nEXPOSE 2 1\n"))
	if err != nil {
		t.Fatal(err)
	}
	plan := func(value string) *dockerfile.Plan {
		p, err := f.Plan(dockerfile.PlanOptions{BuildArgs: map[string]string{"B": value}})
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	first := plan("one")
	if diff := cmp.Diff(plan("two"), first); diff == "" {
		t.Error("build argument has no effect")
	}
	if diff := cmp.Diff(first, plan("one")); diff != "" {
		t.Errorf("second plan differs (-first +second):\n%s", diff)
	}
}
