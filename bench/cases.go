package main

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
)

// size says how large the contexts are.
type size struct {
	steps     int
	files     int
	fileBytes int
	bigBytes  int64
}

var (
	fullSize  = size{steps: 20, files: 20000, fileBytes: 4000, bigBytes: 512 << 20}
	quickSize = size{steps: 3, files: 200, fileBytes: 4000, bigBytes: 4 << 20}
)

// benchCase is one command line that every tool has its own spelling of: a
// build of a context, or a run of the base image.
type benchCase struct {
	name  string
	title string
	// dir is the context, made by context.
	dir     string
	context func(dir string) error
	// base, when not nil, makes the context of an image "tree-base" that the
	// case's Dockerfile builds upon.
	base func(dir string) error
	// unchanged means that the same build was done just before.
	unchanged bool
	// run is the command to run in the base image instead of a build.
	run []string
	// floors are shell commands that do the same work without any tool; the
	// context is $1, an empty directory $2.
	floors []floor
}

type floor struct{ name, script string }

func cases(s size) []benchCase {
	tree := func(dockerfile string) func(string) error {
		return func(dir string) error { return writeTree(dir, dockerfile, s) }
	}
	file := func(dockerfile string) func(string) error {
		return func(dir string) error { return writeDockerfile(dir, dockerfile) }
	}
	copyFloors := []floor{
		{"cp -a", `cp -a "$1" "$2/copy"`},
		{"cp -a, tar, sha256sum", `cp -a "$1" "$2/copy" && tar -C "$2/copy" -cf - . | sha256sum >"$2/sum"`},
	}
	return []benchCase{
		{
			name:    "steps",
			title:   fmt.Sprintf("%d RUN steps, cold", s.steps),
			context: file("FROM busybox-base\n" + steps(s.steps)),
		},
		{
			name:    "copy",
			title:   fmt.Sprintf("COPY of %d files, cold", s.files),
			context: tree("FROM busybox-base\nCOPY . /src\n"),
			floors:  copyFloors,
		},
		{
			name:  "big",
			title: fmt.Sprintf("COPY of one %d MiB file, cold", s.bigBytes>>20),
			context: func(dir string) error {
				return writeBig(dir, "FROM busybox-base\nCOPY big /big\n", s.bigBytes)
			},
			floors: copyFloors,
		},
		{
			name:    "cp",
			title:   fmt.Sprintf("RUN cp -a of %d files, cold", s.files),
			base:    tree("FROM busybox-base\nCOPY . /src\n"),
			context: file("FROM tree-base\nRUN cp -a /src /dst\n"),
		},
		{
			name:      "unchanged",
			title:     fmt.Sprintf("COPY of %d files, unchanged", s.files),
			context:   tree("FROM busybox-base\nCOPY . /src\n"),
			unchanged: true,
			floors:    []floor{{"find -printf", `find "$1" -printf '%s%T@\n' >"$2/list"`}},
		},
		{
			name:    "run",
			title:   "run --rm true",
			context: file("FROM busybox-base\n"),
			run:     []string{"true"},
		},
	}
}

// steps is n RUN instructions that each change one file.
func steps(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "RUN echo %d > /step-%d\n", i, i)
	}
	return b.String()
}

func writeDockerfile(dir, dockerfile string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "Dockerfile"), []byte(dockerfile), 0o644)
}

// writeTree makes a context of many small files, a hundred to a directory.
// Their content does not compress and is the same in each run.
func writeTree(dir, dockerfile string, s size) error {
	random := rand.NewChaCha8([32]byte{1})
	content := make([]byte, s.fileBytes)
	for i := range s.files {
		sub := filepath.Join(dir, fmt.Sprintf("d%03d", i/100))
		if i%100 == 0 {
			if err := os.MkdirAll(sub, 0o755); err != nil {
				return err
			}
		}
		random.Read(content)
		if err := os.WriteFile(filepath.Join(sub, fmt.Sprintf("f%02d", i%100)), content, 0o644); err != nil {
			return err
		}
	}
	return writeDockerfile(dir, dockerfile)
}

func writeBig(dir, dockerfile string, bytes int64) (err error) {
	if err := writeDockerfile(dir, dockerfile); err != nil {
		return err
	}
	f, err := os.Create(filepath.Join(dir, "big"))
	if err != nil {
		return err
	}
	defer func() {
		if closeErr := f.Close(); err == nil {
			err = closeErr
		}
	}()
	random := rand.NewChaCha8([32]byte{2})
	block := make([]byte, 1<<20)
	for written := int64(0); written < bytes; written += int64(len(block)) {
		random.Read(block)
		if _, err := f.Write(block); err != nil {
			return err
		}
	}
	return nil
}
