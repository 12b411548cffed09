package builder

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"cooper/dockerfile"
	"cooper/layers"
	_ "cooper/layers/rootless" // an ordinary user tests in a namespace
	"cooper/registry"
	"cooper/run"
)

func TestMain(m *testing.M) {
	run.Init()
	layers.Init()
	os.Exit(m.Run())
}

// bench is a store with one base image, and a builder on it.
type bench struct {
	t       testing.TB
	b       *Builder
	context string

	mu     sync.Mutex
	events []Event
}

// newBench makes a store on a tmpfs where there is one, since the disks of
// test machines are slow, with busybox as localhost/base.
func newBench(t testing.TB) *bench {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root, or a user namespace that could not be made")
	}
	dir, err := os.MkdirTemp(tmpfs(), "cooper-builder-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	ctx := context.Background()
	store, err := layers.Open(ctx, layers.Options{Root: filepath.Join(dir, "root"), RunRoot: filepath.Join(dir, "run")})
	if err != nil {
		t.Fatal(err)
	}
	rt := run.NewRuntime(run.RuntimeOptions{StateDir: filepath.Join(dir, "state")})
	bn := &bench{t: t, context: filepath.Join(dir, "context")}
	bn.b = &Builder{
		Store: store, Registry: &registry.Client{Store: store}, Runtime: rt,
		Events: func(e Event) {
			bn.mu.Lock()
			defer bn.mu.Unlock()
			e.Data = bytes.Clone(e.Data)
			bn.events = append(bn.events, e)
		},
	}
	t.Cleanup(func() {
		if err := errors.Join(rt.Close(), store.Close()); err != nil {
			t.Error(err)
		}
	})
	if err := os.Mkdir(bn.context, 0o755); err != nil {
		t.Fatal(err)
	}
	bn.base(store)
	return bn
}

func tmpfs() string {
	if st, err := os.Stat("/dev/shm"); err == nil && st.IsDir() {
		return "/dev/shm"
	}
	return ""
}

// base puts busybox into the store as localhost/base.
func (bn *bench) base(store *layers.Store) {
	bn.t.Helper()
	busybox, err := os.ReadFile("/bin/busybox")
	if err != nil {
		bn.t.Skip("busybox-static is not installed: " + err.Error())
	}
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	dir := func(name string, mode int64) {
		w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: name + "/", Mode: mode})
	}
	file := func(name string, mode int64, data string) {
		w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: mode, Size: int64(len(data))})
		w.Write([]byte(data))
	}
	for _, d := range []string{"bin", "etc", "old"} {
		dir(d, 0o755)
	}
	dir("tmp", 0o1777)
	file("bin/busybox", 0o755, string(busybox))
	for _, name := range strings.Fields("sh cat ls echo mkdir rm sleep touch id true false ln chmod stat env pwd hostname mv wc kill truncate mkfifo") {
		w.WriteHeader(&tar.Header{Typeflag: tar.TypeSymlink, Name: "bin/" + name, Linkname: "busybox"})
	}
	file("etc/passwd", 0o644, "root:x:0:0:root:/root:/bin/sh\nweb:x:33:34:web:/srv:/bin/sh\n")
	file("etc/group", 0o644, "root:x:0:\nweb:x:34:\nstaff:x:50:\n")
	file("old/gone", 0o644, "gone")
	w.WriteHeader(&tar.Header{Typeflag: tar.TypeSymlink, Name: "link", Linkname: "old"})
	w.Close()
	ctx := context.Background()
	l, err := store.Apply(ctx, "", &buf)
	if err != nil {
		bn.t.Fatal(err)
	}
	config := dockerspec.DockerOCIImage{Image: ocispec.Image{
		Platform: ocispec.Platform{OS: "linux", Architecture: goarch()},
		RootFS:   ocispec.RootFS{Type: "layers", DiffIDs: []digest.Digest{l.DiffID}},
		History:  []ocispec.History{{CreatedBy: "base"}},
	}}
	config.Config.Cmd = []string{"/bin/sh"}
	config.Config.Env = []string{"PATH=/bin"}
	if _, err := store.CreateImage(ctx, layers.ImageOptions{Names: []string{"localhost/base:latest"}, Layer: l.ID, Config: config}); err != nil {
		bn.t.Fatal(err)
	}
}

// write puts a file into the build context.
func (bn *bench) write(name, data string) {
	bn.t.Helper()
	p := filepath.Join(bn.context, name)
	if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
		bn.t.Fatal(err)
	}
	if err := os.WriteFile(p, []byte(data), 0o644); err != nil {
		bn.t.Fatal(err)
	}
}

// build builds a Dockerfile, forgetting earlier events.
func (bn *bench) build(text string, change ...func(*Options)) (*Result, error) {
	bn.events = nil
	o := Options{ContextDir: bn.context, Dockerfile: []byte(text)}
	for _, c := range change {
		c(&o)
	}
	return bn.b.Build(context.Background(), o)
}

func (bn *bench) mustBuild(text string, change ...func(*Options)) *Result {
	bn.t.Helper()
	r, err := bn.build(text, change...)
	if err != nil {
		var se *StepError
		if errors.As(err, &se) {
			bn.t.Fatalf("build: %v\n%s\n%s", err, se.Excerpt(), strings.Join(se.Tail, "\n"))
		}
		bn.t.Fatal("build: ", err)
	}
	return r
}

// ended lists the names of the vertexes that ended in kind.
func (bn *bench) ended(kind Kind) []string {
	var out []string
	for _, e := range bn.events {
		if e.Kind == kind {
			out = append(out, e.Name)
		}
	}
	return out
}

// read returns the content of a file of the image, or the error's text.
func (bn *bench) read(r *Result, name string) string {
	bn.t.Helper()
	v, err := bn.b.Store.View(r.Image.Layer)
	if err != nil {
		bn.t.Fatal(err)
	}
	defer v.Close()
	data, err := v.ReadFile(name)
	if err != nil {
		return "error: " + err.Error()
	}
	return string(data)
}

// stat describes a file of the image as "mode uid:gid".
func (bn *bench) stat(r *Result, name string) string {
	bn.t.Helper()
	v, err := bn.b.Store.View(r.Image.Layer)
	if err != nil {
		bn.t.Fatal(err)
	}
	defer v.Close()
	i, err := v.Lstat(name)
	if err != nil {
		return "error: " + err.Error()
	}
	return fmt.Sprintf("%o %d:%d", i.Mode, i.UID, i.GID)
}

func TestBuildRunsAndCopies(t *testing.T) {
	bn := newBench(t)
	bn.write("a.txt", "alpha")
	bn.write("dir/b.txt", "beta")
	r := bn.mustBuild(`FROM base
ARG WHO=world
ENV GREETING="hello $WHO"
WORKDIR /srv/app
COPY a.txt dir ./
RUN echo "$GREETING" > greeting && rm -r /old && id -u > uid
USER web
RUN id > /tmp/who; pwd >> /tmp/who
CMD ["cat", "greeting"]
`)
	for name, want := range map[string]string{
		"srv/app/a.txt":    "alpha",
		"srv/app/b.txt":    "beta",
		"srv/app/greeting": "hello world\n",
		"srv/app/uid":      "0\n",
		"tmp/who":          "uid=33(web) gid=34(web) groups=34(web)\n/srv/app\n",
		"old/gone":         "error: open old/gone: no such file or directory",
	} {
		if got := bn.read(r, name); got != want {
			t.Errorf("%s = %q, want %q", name, got, want)
		}
	}
	c := r.Image.Config
	if !slices.Equal(c.Config.Cmd, []string{"cat", "greeting"}) || c.Config.User != "web" || c.Config.WorkingDir != "/srv/app" {
		t.Errorf("config = %+v", c.Config)
	}
	if got := len(c.RootFS.DiffIDs); got != 5 {
		t.Errorf("image has %d layers, want 5", got)
	}
	for _, name := range []string{"dev", "proc", "sys", "etc/resolv.conf", "etc/hosts", "etc/hostname"} {
		if got := bn.stat(r, name); !strings.HasPrefix(got, "error") {
			t.Errorf("%s is in the image: %s", name, got)
		}
	}
}

func TestBuildAgainIsCachedAndIdentical(t *testing.T) {
	bn := newBench(t)
	bn.write("a.txt", "alpha")
	const file = "FROM base\nRUN echo x > /x\nCOPY a.txt /\nRUN cat /a.txt > /copy\n"
	first := bn.mustBuild(file)
	second := bn.mustBuild(file)
	if first.Image.ID != second.Image.ID {
		t.Errorf("image ID changed from %s to %s", first.Image.ID, second.Image.ID)
	}
	want := []string{"[1/4] FROM localhost/base:latest", "[2/4] RUN echo x > /x", "[3/4] COPY a.txt /", "[4/4] RUN cat /a.txt > /copy"}
	got := bn.ended(Cached)
	for i := range got {
		got[i] = strings.ReplaceAll(got[i], "docker.io/library/base", "localhost/base")
	}
	if !slices.Equal(got, want) {
		t.Errorf("cached %q, want %q", got, want)
	}
}

func TestBuildNoticesChangedContent(t *testing.T) {
	bn := newBench(t)
	bn.write("a.txt", "alpha")
	bn.write("b.txt", "beta")
	const file = "FROM base\nCOPY b.txt /\nCOPY a.txt /\nRUN cat /a.txt > /copy\n"
	bn.mustBuild(file)
	bn.write("a.txt", "gamma") // same size
	r := bn.mustBuild(file)
	if got := bn.read(r, "copy"); got != "gamma" {
		t.Errorf("/copy = %q, want the changed content", got)
	}
	if cached := strings.Join(bn.ended(Cached), "\n"); !strings.Contains(cached, "COPY b.txt") || strings.Contains(cached, "COPY a.txt") {
		t.Errorf("cached:\n%s", cached)
	}
	now := time.Now().Add(time.Hour)
	if err := os.Chtimes(filepath.Join(bn.context, "a.txt"), now, now); err != nil {
		t.Fatal(err)
	}
	bn.mustBuild(file)
	if done := bn.ended(Done); slices.ContainsFunc(done, func(s string) bool { return strings.Contains(s, "COPY") }) {
		t.Errorf("a touched file was copied again: %q", done)
	}
}

func TestCopyFromUnchangedOutputStaysCached(t *testing.T) {
	bn := newBench(t)
	file := func(comment string) string {
		return "FROM base AS one\nRUN echo out > /out # " + comment + "\nFROM base\nCOPY --from=one /out /\nRUN cat /out > /two\n"
	}
	bn.mustBuild(file("first"))
	bn.mustBuild(file("second"))
	cached := strings.Join(bn.ended(Cached), "\n")
	if !strings.Contains(cached, "COPY --from=one") || !strings.Contains(cached, "RUN cat /out") {
		t.Errorf("cached:\n%s", cached)
	}
}

func TestFailingStepSaysWhere(t *testing.T) {
	bn := newBench(t)
	_, err := bn.build("FROM base\n\nRUN echo before; \\\n  exit 7\n")
	var se *StepError
	if !errors.As(err, &se) {
		t.Fatalf("error = %v, want a StepError", err)
	}
	if se.ExitCode != 7 || se.Location != (dockerfile.Location{Start: 3, End: 4}) || !slices.Equal(se.Tail, []string{"before"}) {
		t.Errorf("error = %+v", se)
	}
	if want := `process "/bin/sh -c echo before;   exit 7" did not complete successfully: exit code: 7`; se.Error() != want {
		t.Errorf("error = %q, want %q", se.Error(), want)
	}
}

func TestMissingSourceNamesTheLine(t *testing.T) {
	bn := newBench(t)
	if err := os.Symlink("/etc/passwd", filepath.Join(bn.context, "out")); err != nil {
		t.Fatal(err)
	}
	for source, want := range map[string]string{
		"nothere": `"/nothere": not found in the build context`,
		"../x":    `"../x": not found: COPY can't reach outside the build context; move the file into it, or name its directory with --build-context`,
		"out":     `"/out": not found in the build context`,
		"ouy":     `"/ouy": not found in the build context (did you mean /out?)`,
	} {
		_, err := bn.build("FROM base\nCOPY " + source + " /x/\n")
		var se *StepError
		if !errors.As(err, &se) || se.Error() != want || se.Location.Start != 2 {
			t.Errorf("COPY %s: error = %v, want %q at line 2", source, err, want)
		}
	}
}

func TestCopyDestinations(t *testing.T) {
	bn := newBench(t)
	bn.write("f", "file")
	bn.write("d/one", "1")
	bn.write("d/sub/two", "2")
	tests := []struct{ name, copy, want, content string }{
		{"file to file", "COPY f /x", "x", "file"},
		{"file into new directory", "COPY f /new/", "new/f", "file"},
		{"file into existing directory", "COPY f /old", "old/f", "file"},
		{"file through symlink", "COPY f /link/", "old/f", "file"},
		{"directory contents", "COPY d /x", "x/sub/two", "2"},
		{"directory merged", "COPY d /old", "old/gone", "gone"},
		{"wildcard", "COPY d/* /x/", "x/two", "2"},
		{"unmatched wildcard beside a file", "COPY f none* /x/", "x/f", "file"},
		{"heredoc", "COPY <<EOF /x\nbody\nEOF", "x", "body\n"},
		{"excluded", "COPY --exclude=sub d /x", "x/sub/two", "error: open x/sub/two: no such file or directory"},
		{"not excluded", "COPY --exclude=sub d /x", "x/one", "1"},
		{"parents", "COPY --parents d/sub/two /x/", "x/d/sub/two", "2"},
		{"parents from a pivot", "COPY --parents d/./sub/* /x/", "x/sub/two", "2"},
		{"whole context", "COPY . /c", "c/d/one", "1"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := bn.mustBuild("FROM base\n" + tt.copy + "\n")
			if got := bn.read(r, tt.want); got != tt.content {
				t.Errorf("%s = %q, want %q", tt.want, got, tt.content)
			}
		})
	}
}

func TestCopyOwnerAndMode(t *testing.T) {
	bn := newBench(t)
	bn.write("f", "file")
	if err := os.Chown(filepath.Join(bn.context, "f"), 1234, 1234); err != nil {
		t.Fatal(err)
	}
	for flags, want := range map[string]string{
		"":                            "100644 0:0",
		"--chown=web":                 "100644 33:34",
		"--chown=web:staff":           "100644 33:50",
		"--chown=7":                   "100644 7:7",
		"--chown=7:root":              "100644 7:0",
		"--chmod=4755":                "104755 0:0",
		"--chmod=u=rwX,go=":           "100600 0:0",
		"--chmod=600 --chown=web:web": "100600 33:34",
	} {
		r := bn.mustBuild("FROM base\nCOPY " + flags + " f /x\n")
		if got := bn.stat(r, "x"); got != want {
			t.Errorf("COPY %s: %s, want %s", flags, got, want)
		}
	}
}

func TestIgnoreFileHidesFiles(t *testing.T) {
	bn := newBench(t)
	for _, f := range []string{"keep", "drop.log", "dir/keep", "dir/drop.log", "all/a", "all/b"} {
		bn.write(f, f)
	}
	ignore, err := dockerfile.ParseIgnore([]byte("**/*.log\nall\n!all/b\n"))
	if err != nil {
		t.Fatal(err)
	}
	with := func(o *Options) { o.Ignore = ignore }
	r := bn.mustBuild("FROM base\nCOPY . /c/\n", with)
	for name, there := range map[string]bool{"keep": true, "drop.log": false, "dir/keep": true, "dir/drop.log": false, "all/a": false, "all/b": true} {
		if got := bn.read(r, "c/"+name) == name; got != there {
			t.Errorf("%s in the image: %v, want %v", name, got, there)
		}
	}
	if _, err := bn.build("FROM base\nCOPY drop.log /\n", with); err == nil || !strings.Contains(err.Error(), "ignore file") {
		t.Errorf("copying an ignored file: %v, want an error naming the ignore file", err)
	}
}

func TestAddUnpacksInsideTheImage(t *testing.T) {
	bn := newBench(t)
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	add := func(h tar.Header, data string) {
		h.Size = int64(len(data))
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		w.Write([]byte(data))
	}
	add(tar.Header{Typeflag: tar.TypeReg, Name: "plain", Mode: 0o600, Uid: 5, Gid: 6}, "plain")
	add(tar.Header{Typeflag: tar.TypeReg, Name: "../../up", Mode: 0o644}, "up")
	add(tar.Header{Typeflag: tar.TypeSymlink, Name: "etc", Linkname: "/etc"}, "")
	add(tar.Header{Typeflag: tar.TypeReg, Name: "etc/through", Mode: 0o644}, "through")
	add(tar.Header{Typeflag: tar.TypeLink, Name: "hard", Linkname: "plain"}, "")
	add(tar.Header{Typeflag: tar.TypeLink, Name: "below", Linkname: "etc/group"}, "")
	w.Close()
	bn.write("a.tar", buf.String())
	r := bn.mustBuild("FROM base\nADD a.tar /dst/\n")
	for name, want := range map[string]string{"dst/plain": "plain", "dst/up": "up", "etc/through": "through", "dst/hard": "plain",
		"dst/below": "root:x:0:\nweb:x:34:\nstaff:x:50:\n"} {
		if got := bn.read(r, name); got != want {
			t.Errorf("%s = %q, want %q", name, got, want)
		}
	}
	if got, want := bn.stat(r, "dst/plain"), "100600 5:6"; got != want {
		t.Errorf("dst/plain: %s, want %s", got, want)
	}
	if _, err := os.Stat("/etc/through"); err == nil {
		t.Fatal("the archive wrote into the host's /etc")
	}
}

func TestStagesRunInParallel(t *testing.T) {
	bn := newBench(t)
	bn.mustBuild(`FROM base AS a
RUN sleep 1
FROM base AS b
RUN sleep 1; true
FROM base
COPY --from=a /etc/passwd /a
COPY --from=b /etc/passwd /b
`)
	started := map[string]time.Time{}
	done := map[string]time.Time{}
	for _, e := range bn.events {
		switch e.Kind {
		case Started:
			started[e.Name] = e.Time
		case Done:
			done[e.Name] = e.Time
		}
	}
	a, b := "[a 2/2] RUN sleep 1", "[b 2/2] RUN sleep 1; true"
	if !started[a].Before(done[b]) || !started[b].Before(done[a]) || started[a].IsZero() {
		t.Errorf("stages did not overlap: %v %v", started, done)
	}
}

func TestCancelKillsTheStep(t *testing.T) {
	bn := newBench(t)
	cause := errors.New("stop it")
	ctx, cancel := context.WithCancelCause(context.Background())
	events := bn.b.Events
	bn.b.Events = func(e Event) {
		events(e)
		if e.Kind == Log && bytes.Contains(e.Data, []byte("ready")) {
			cancel(cause)
		}
	}
	start := time.Now()
	_, err := bn.b.Build(ctx, Options{Dockerfile: []byte("FROM base\nRUN echo ready; sleep 1000\n")})
	if !errors.Is(err, cause) {
		t.Errorf("error = %v, want the cause", err)
	}
	if d := time.Since(start); d > 30*time.Second {
		t.Errorf("cancelling took %v", d)
	}
	staging, _ := filepath.Glob(filepath.Join(bn.b.Store.Root(), "overlay", "staging", "*"))
	if len(staging) > 0 {
		t.Errorf("left behind: %v", staging)
	}
}

// What a step has written may take minutes to become a layer: nobody who gives
// up waits for that.
func TestCancelLeavesALargeLayer(t *testing.T) {
	bn := newBench(t)
	cause := errors.New("stop it")
	ctx, cancel := context.WithCancelCause(context.Background())
	events := bn.b.Events
	bn.b.Events = func(e Event) {
		events(e)
		if e.Kind == Done && strings.Contains(e.Name, "RUN") {
			cancel(cause)
		}
	}
	start := time.Now()
	_, err := bn.b.Build(ctx, Options{Dockerfile: []byte("FROM base\nRUN truncate -s 100G /large\n")})
	if !errors.Is(err, cause) {
		t.Errorf("error = %v, want the cause", err)
	}
	if d := time.Since(start); d > patience+20*time.Second {
		t.Errorf("cancelling took %v", d)
	}
}

func goarch() string { return runtime.GOARCH }

func TestRunMounts(t *testing.T) {
	bn := newBench(t)
	bn.write("src/in", "from the context")
	bn.write("src/hidden.log", "hidden")
	bn.write("secret", "s3cret")
	ignore, err := dockerfile.ParseIgnore([]byte("**/*.log\nsecret\n"))
	if err != nil {
		t.Fatal(err)
	}
	with := func(o *Options) {
		o.Ignore = ignore
		o.Secrets = map[string]Secret{"pw": {File: filepath.Join(bn.context, "secret")}}
	}
	r := bn.mustBuild(`FROM base AS one
RUN mkdir /out && echo made > /out/made && ln -s out /via
FROM base
RUN --mount=type=bind,target=/ctx ls /ctx /ctx/src > /listing && ! touch /ctx/x
RUN --mount=type=bind,rw,source=src,target=/ctx touch /ctx/in /ctx/new && cat /ctx/in > /in
RUN --mount=type=bind,from=one,source=/via,target=/one cat /one/made > /made
RUN --mount=type=bind,from=one,source=/out/made,target=/etc/one cat /etc/one > /made2
RUN --mount=type=cache,target=/cache,mode=0700,uid=33 echo cached > /cache/f; stat -c '%a %u' /cache > /cachestat
RUN --mount=type=cache,target=/cache,mode=0700,uid=33 cat /cache/f > /cached
RUN --mount=type=cache,id=seeded,from=one,source=/out,target=/cache cat /cache/made > /seeded
RUN --mount=type=tmpfs,target=/t touch /t/x
RUN --mount=type=secret,id=pw,uid=33 stat -c '%a %u' /run/secrets/pw > /secretstat; cat /run/secrets/pw | wc -c > /secretsize
RUN --mount=type=secret,id=pw,env=PW test "$PW" = s3cret
RUN --mount=type=secret,id=none test ! -e /run/secrets/none
RUN --mount=type=bind,target=/w --mount=type=cache,target=/w/src/cache touch /w/src/cache/x
`, with)
	for name, want := range map[string]string{
		"listing": "/ctx:\nsrc\n\n/ctx/src:\nin\n", "in": "from the context", "made": "made\n", "made2": "made\n",
		"cachestat": "700 33\n", "cached": "cached\n", "seeded": "made\n", "secretstat": "400 33\n", "secretsize": "6\n",
	} {
		if got := bn.read(r, name); got != want {
			t.Errorf("%s = %q, want %q", name, got, want)
		}
	}
	for _, name := range []string{"ctx", "one", "cache", "t", "w", "run", "etc/one"} {
		if got := bn.stat(r, name); !strings.HasPrefix(got, "error") {
			t.Errorf("%s was left in the image: %s", name, got)
		}
	}
	if _, err := os.Stat(filepath.Join(bn.context, "src/new")); err == nil {
		t.Error("a bind mount wrote into the context")
	}
	if _, err := bn.build("FROM base\nRUN --mount=type=secret,id=none,required true\n"); err == nil || !strings.Contains(err.Error(), "--secret") {
		t.Errorf("missing secret: %v", err)
	}
}

func TestBindMountIsAnInput(t *testing.T) {
	bn := newBench(t)
	bn.write("in", "one")
	const file = "FROM base\nRUN --mount=type=bind,target=/ctx cat /ctx/in > /out\n"
	bn.mustBuild(file)
	bn.mustBuild(file)
	if cached := bn.ended(Cached); len(cached) != 2 {
		t.Errorf("cached %q, want both steps", cached)
	}
	bn.write("in", "two")
	if got := bn.read(bn.mustBuild(file), "out"); got != "two" {
		t.Errorf("out = %q after the context changed", got)
	}
}
