package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
)

// size says how large everything is.
type size struct {
	steps     int
	files     int
	fileBytes int
	bigBytes  int64

	containers  int
	streamBytes int64
	connections int
}

var (
	fullSize = size{
		steps: 20, files: 20000, fileBytes: 4000, bigBytes: 512 << 20,
		containers: 50, streamBytes: 4 << 30, connections: 10000,
	}
	quickSize = size{
		steps: 3, files: 200, fileBytes: 4000, bigBytes: 4 << 20,
		containers: 3, streamBytes: 64 << 20, connections: 200,
	}
)

// benchCase is something that every tool can do: a build of a context, or what a
// probe measures.
type benchCase struct {
	name string
	// title says what is measured, seconds unless it names a unit.
	title string
	// dir is the context, made by context; a probe needs none.
	dir     string
	context func(dir string) error
	// base, when not nil, makes the context of an image "tree-base" that the
	// case's Dockerfile builds upon.
	base func(dir string) error
	// unchanged means that the same build was done just before.
	unchanged bool
	// load means that the image in the context is loaded, and nothing built.
	load bool
	// probe measures running containers instead of a build.
	probe probe
	// rounds is how often that is done, without a warm-up; 0 means as often
	// as asked for, after one.
	rounds int
	// floors do the same work without any tool.
	floors []floor
}

// probe measures a tool. The program is this one, where every user can start it.
type probe func(ctx context.Context, program string, t *tool) (float64, error)

// floor is a shell command, the context being $1 and an empty directory $2, or
// what a func measures with the program's server.
type floor struct {
	name, script string
	measure      func(context.Context) (float64, error)
}

func cases(s size) []benchCase {
	tree := func(dockerfile string) func(string) error {
		return func(dir string) error { return writeTree(dir, dockerfile, s) }
	}
	file := func(dockerfile string) func(string) error {
		return func(dir string) error { return writeDockerfile(dir, dockerfile) }
	}
	copyFloors := []floor{
		{name: "cp -a", script: `cp -a "$1" "$2/copy"`},
		{name: "cp -a, tar, sha256sum", script: `cp -a "$1" "$2/copy" && tar -C "$2/copy" -cf - . | sha256sum >"$2/sum"`},
	}
	builds := []benchCase{
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
			floors:    []floor{{name: "find -printf", script: `find "$1" -printf '%s%T@\n' >"$2/list"`}},
		},
		{
			name:    "load",
			title:   fmt.Sprintf("load of an image of %d files", s.files),
			context: func(dir string) error { return writeArchive(dir, s) },
			load:    true,
			floors:  []floor{{name: "tar -x", script: `tar -x -C "$2" -f "$1/layer.tar"`}},
		},
		{
			name:    "parallel",
			title:   "4 stages of 1 s, cold",
			context: file(stages(4)),
		},
	}
	return append(builds, lives(s)...)
}

// stages is n stages that take a second each, and one that takes a file of each.
func stages(n int) string {
	var b, last strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "FROM busybox-base AS s%d\nRUN sleep 1 && echo %d > /f%[1]d\n", i, i)
		fmt.Fprintf(&last, "COPY --from=s%d /f%[1]d /\n", i)
	}
	return b.String() + "FROM busybox-base\n" + last.String()
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
