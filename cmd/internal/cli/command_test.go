package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"cooper/builder"
	"cooper/dockerfile"
	"cooper/run"
)

// execute runs a command in dir and returns what it printed and its status.
// It must fail, or end, before it opens the store.
func execute(t *testing.T, dir string, c Constructor, args ...string) (stdout, stderr string, status int) {
	t.Helper()
	t.Chdir(dir)
	tmp := t.TempDir()
	open := func(name string) *os.File {
		f, err := os.Create(filepath.Join(tmp, name))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		return f
	}
	e := &Env{Stdin: open("in"), Stdout: open("out"), Stderr: open("err"), LookupEnv: lookup, stay: true}
	status = Execute(context.Background(), e, c, args)
	read := func(name string) string {
		text, err := os.ReadFile(filepath.Join(tmp, name))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	return read("out"), read("err"), status
}

func TestMistakes(t *testing.T) {
	dir := t.TempDir()
	for name, content := range map[string]string{"sub/app.Dockerfile": "FROM scratch\n", "file": "", "empty/x": ""} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		name   string
		c      Constructor
		args   []string
		status int
		stderr string
	}{
		{"build without path", NewBuild, nil, 1, `build: requires 1 argument: the directory to build, usually . (the current one)

Usage:  build [OPTIONS] PATH | URL | -

Run 'build --help' for more information
`},
		{"build with two paths", NewBuild, []string{"a", "b"}, 1, `build: requires 1 argument, got 2: a b

Usage:  build [OPTIONS] PATH | URL | -

Run 'build --help' for more information
`},
		{"unknown flag", NewCooper, []string{"build", "--nope", "."}, 125, `cooper build: unknown flag: --nope

Usage:  cooper build [OPTIONS] PATH | URL | -

Run 'cooper build --help' for more information
`},
		{"misspelled flag", NewBuild, []string{"--tagg=x", "."}, 125, `build: unknown flag: --tagg (did you mean --tag?)

Usage:  build [OPTIONS] PATH | URL | -

Run 'build --help' for more information
`},
		{"unknown command", NewCooper, []string{"histroy"}, 1, `cooper: unknown command "histroy" for "cooper"

Did you mean this?
	history
`},
		{"unknown command of a group", NewCooper, []string{"image", "nope"}, 1, `cooper image: unknown command "nope" for "cooper image"

Usage:  cooper image COMMAND

Run 'cooper image --help' for more information
`},
		{"no context", NewBuild, []string{"missing"}, 1, "ERROR: unable to prepare context: path \"missing\" not found\n"},
		{"context is a file", NewBuild, []string{"file"}, 1, `ERROR: unable to prepare context: "file" is not a directory
PATH is the directory with the files to build from. To name the Dockerfile: build -f file .
`},
		{"standard input twice", NewBuild, []string{"-f", "-", "-"}, 1, "ERROR: invalid argument: can't use stdin for both build context and dockerfile\n"},
		{"URL with password", NewBuild, []string{"-q", "https://me:secret@example.com/x.git?ref=a&ref=b"}, 1, "ERROR: failed to load the build context: https://me:xxxxx@example.com/x.git?ref=a&ref=b: query \"ref\" has multiple values\n"},
		{"URL that is an option", NewBuild, []string{"-q", "ssh://-oProxyCommand=x/y.git"}, 1, "ERROR: failed to load the build context: invalid git URL \"ssh://-oProxyCommand=x/y.git\"\n"},
		{"bad tag", NewBuild, []string{"-t", "UPPER", "sub"}, 1, "ERROR: invalid tag \"UPPER\": repository must be lower case\n"},
		{"bad compression", NewBuild, []string{"--compression-format=lzma", "sub"}, 1, "ERROR: unsupported compression \"lzma\": want gzip, zstd or uncompressed\n"},
		{"flag of buildx", NewBuild, []string{"--policy=x", "sub"}, 1, "ERROR: --policy=x is not supported: name the images to build from instead, --build-context NAME=docker-image://OTHER\n"},
		{"flag of buildah", NewBuild, []string{"--pid", "host", "sub"}, 1, "ERROR: --pid=host is not supported: steps see their own processes only\n"},
		{"flag of buildah without value", NewBuild, []string{"--stdin", "sub"}, 1, "ERROR: --stdin is not supported: steps read nothing; give files with --volume or --secret\n"},
		{"flags of kaniko", NewBuild, []string{"--context", ".", "--destination=x"}, 1, "ERROR: --context=. is not supported: the context is the last argument\n"},
		{"provenance", NewBuild, []string{"--provenance=mode=max", "sub"}, 1, "ERROR: --provenance=mode=max is not supported: no provenance attestation is made; leave it out or give --provenance=false\n"},
		{"attestation", NewBuild, []string{"--attest=type=sbom", "sub"}, 1, "ERROR: --attest type=sbom is not supported: no attestations are made; leave it out or add disabled=true\n"},
		{"attestations and private namespaces turned off", NewBuild, []string{"--provenance=false", "--sbom=disabled=true", "--attest=type=provenance,disabled=true", "--pid=private", "--userns=host", "--stdin=false", "--unsetannotation", "x", "missing"}, 1, "ERROR: unable to prepare context: path \"missing\" not found\n"},
		{"device alias without device", NewBuild, []string{"--allow=security.insecure,alias=x", "sub"}, 1, "ERROR: invalid entitlement \"alias=x\": want network.host, security.insecure, device, device=PATH or device=NAME[,alias=NAME]\n"},
		{"bad progress", NewBuild, []string{"--progress=x", "sub"}, 1, "ERROR: invalid progress type \"x\": want auto, plain, tty, quiet or rawjson\n"},
		{"run without image", NewRun, nil, 125, `run: requires at least 1 argument

Usage:  run [OPTIONS] IMAGE [COMMAND] [ARG...]

Run 'run --help' for more information
`},
		{"run with a bad value", NewCooper, []string{"run", "-m", "x", "app"}, 125, "cooper run: invalid --memory \"x\": want a size such as 512m or 2g\n"},
		{"terminal without one", NewRun, []string{"-it", "app"}, 1, `run: the input device is not a TTY
Leave out -t, or give it a terminal as standard input.
`},
	} {
		t.Run(c.name, func(t *testing.T) {
			stdout, stderr, status := execute(t, dir, c.c, c.args...)
			if stdout != "" || status != c.status {
				t.Errorf("%q: status %d, standard output %q; want %d and nothing", c.args, status, stdout, c.status)
			}
			if diff := cmp.Diff(c.stderr, stderr); diff != "" {
				t.Errorf("%q (-want +got):\n%s", c.args, diff)
			}
		})
	}
}

func TestFindDockerfile(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	for _, name := range []string{"both/Dockerfile", "both/Containerfile", "other/Containerfile", "none/x", "none/deploy/Dockerfile", "Dockerfile.top"} {
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct{ dir, file, want, fail, hint string }{
		{"both", "", "both/Dockerfile", "", ""},
		{"other", "", "other/Containerfile", "", ""},
		{"none", "", "", "no Dockerfile or Containerfile in none", "Name it: build -f FILE none"},
		{"both", "Dockerfile.top", "Dockerfile.top", "", ""},
		{"none", "deploy/Dockerfile", "", "deploy/Dockerfile: no such file", "-f is relative to the current directory. Did you mean: build -f none/deploy/Dockerfile none"},
		{"none", "none", "", "none is a directory", ""},
		{"none", "missing", "", "missing: no such file", ""},
	} {
		got, err := findDockerfile(c.dir, c.file)
		if got != c.want || !failsWith(err, c.fail) {
			t.Errorf("findDockerfile(%q, %q) = %q, %v; want %q, %q", c.dir, c.file, got, err, c.want, c.fail)
		}
		if hint := hintFor(err); hint != c.hint {
			t.Errorf("findDockerfile(%q, %q) hints %q, want %q", c.dir, c.file, hint, c.hint)
		}
	}
}

// The ignore file named after the Dockerfile stands beside it and counts before
// the context's; a Dockerfile on standard input has none of its own.
func TestReadIgnore(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	for name, content := range map[string]string{
		"ctx/.dockerignore": "from-context", "ctx/.containerignore": "x", "deploy/app.Dockerfile.dockerignore": "from-file",
		"only/.containerignore": "y",
	} {
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct{ context, dockerfile, beside, want string }{
		{"ctx", "app.Dockerfile", "deploy", "app.Dockerfile.dockerignore"},
		{"ctx", "app.Dockerfile", "ctx", ".dockerignore"},
		{"ctx", "Dockerfile", "", ".dockerignore"},
		{"only", "Dockerfile", "only", ".containerignore"},
		{"deploy", "Dockerfile", "deploy", ""},
	} {
		o := builder.Options{ContextDir: c.context, DockerfileName: c.dockerfile}
		if err := (&sources{o: &o}).readIgnore(c.beside); err != nil {
			t.Fatal(err)
		}
		if o.IgnoreName != c.want {
			t.Errorf("readIgnore(%v) found %q, want %q", c, o.IgnoreName, c.want)
		}
	}
}

func TestReport(t *testing.T) {
	source := []byte("FROM debian\nRUN make\n")
	step := &builder.StepError{
		File: "Dockerfile", Source: source, Location: dockerfile.Location{Start: 2, End: 2}, Step: "[2/2] RUN make",
		Command: []string{"/bin/sh", "-c", "make"}, ExitCode: 127, Tail: []string{"making", "\x1b[2Jmake: not found"},
	}
	for _, c := range []struct {
		name   string
		c      Constructor
		err    error
		status int
		want   []string // parts of the message, in order
	}{
		{"nothing", NewBuild, nil, 0, nil},
		{"plain", NewBuild, errors.New("x"), 1, []string{"ERROR: x\n"}},
		{"step", NewBuild, fmt.Errorf("wrapped: %w", step), 1, []string{
			"------\n > [2/2] RUN make:\nmaking\n", "make: not found\n------\n",
			"Dockerfile:2\n--------------------\n", ">>> RUN make\n",
			`ERROR: wrapped: process "/bin/sh -c make" did not complete successfully: exit code: 127`, "Exit code 127 means",
		}},
		{"dockerfile", NewBuild, &dockerfile.Error{File: "Dockerfile", Source: source, Location: dockerfile.Location{Start: 1, End: 1}, Err: errors.New("bad")}, 1, []string{
			"Dockerfile:1\n", ">>> FROM debian\n", "ERROR: bad\n",
		}},
		{"interrupted", NewBuild, fmt.Errorf("step: %w", interruption{signal: 2}), 130, []string{"ERROR: step: interrupted\n"}},
		{"container's status", NewRun, &exitStatus{status: 42}, 42, nil},
		{"several", NewRun, &exitStatus{status: 125, err: errors.Join(errors.New("a"), errors.New("b"))}, 125, []string{"run: a\nrun: b\n"}},
		{"not found", NewRun, &exitStatus{status: 127, err: &run.StartError{Code: 127, Err: errors.New("no such program")}}, 127, []string{"run: no such program\n"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			f, err := os.Create(filepath.Join(t.TempDir(), "err"))
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			e := &Env{Stderr: f}
			if got := report(e, c.c(e), c.err); got != c.status {
				t.Errorf("report(%v) = %d, want %d", c.err, got, c.status)
			}
			text, err := os.ReadFile(f.Name())
			if err != nil {
				t.Fatal(err)
			}
			rest := string(text)
			for _, part := range c.want {
				_, after, found := strings.Cut(rest, part)
				if !found {
					t.Fatalf("report(%v) printed\n%s\nwithout %q at its place", c.err, text, part)
				}
				rest = after
			}
			if len(c.want) == 0 && rest != "" {
				t.Errorf("report(%v) printed %q", c.err, rest)
			}
		})
	}
}
