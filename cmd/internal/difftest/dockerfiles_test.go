package difftest

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
)

var recordFrom = flag.String("record", "", "record want.json by the buildkitd and buildctl in this directory")

const casesDir = "../../../testdata/dockerfiles"

// outcome is what a builder made of a case.
type outcome struct {
	id  string // of the image, among the builder's
	err error  // its message, or why the test failed
	// again is what the same build gave once more, from its cache: not the
	// same image if another case made the same layers at the same time.
	again string
}

// TestDockerfiles builds every case by bin/build in one store, and once more from
// the cache. It compares both images with want.json.
func TestDockerfiles(t *testing.T) {
	all := selected(t)
	if *recordFrom != "" {
		recordAll(t, all)
		return
	}
	o := newOurs(t)
	outcomes := buildAll(t, all, o.build)
	ids := []string{o.base(t)}
	for _, out := range outcomes {
		if out.err == nil {
			ids = append(ids, out.id, out.again)
		}
	}
	images := o.dump(t, ids)
	base := images[ids[0]]
	for i, c := range all {
		t.Run(c.name, func(t *testing.T) {
			if c.rootOnly != "" && os.Geteuid() != 0 {
				t.Skip(c.rootOnly)
			}
			problems := check(&c, outcomes[i], images, base)
			switch {
			case c.todo == "":
				for _, p := range problems {
					t.Error(p)
				}
			case problems == nil:
				t.Error("passes: remove the file todo")
			default:
				t.Skip(c.todo)
			}
		})
	}
}

// selected are the cases that -run names, since the builds are made before the
// subtests start.
func selected(t *testing.T) []testCase {
	t.Helper()
	dir, err := filepath.Abs(casesDir)
	if err != nil {
		t.Fatal(err)
	}
	all, err := cases(dir)
	if err != nil {
		t.Fatal(err)
	}
	_, pattern, found := strings.Cut(flag.Lookup("test.run").Value.String(), "/")
	if !found {
		return all
	}
	want, err := regexp.Compile(pattern)
	if err != nil {
		t.Fatal(err)
	}
	var some []testCase
	for _, c := range all {
		if want.MatchString(c.name) {
			some = append(some, c)
		}
	}
	return some
}

// check says how what we made of a case differs from what is wanted.
func check(c *testCase, out outcome, images map[string]*built, base *built) []string {
	if c.fails != nil {
		return checkError(c, out.err)
	}
	if out.err != nil {
		return []string{out.err.Error()}
	}
	want, err := c.want()
	if err != nil {
		return []string{err.Error()}
	}
	problems := compare("built", want, images[out.id], base)
	if out.again != out.id && problems == nil {
		problems = compare("built once more, from the cache", want, images[out.again], base)
	}
	return problems
}

func checkError(c *testCase, err error) []string {
	if err == nil {
		return []string{fmt.Sprintf("builds, want error %q", c.fails)}
	}
	var problems []string
	for _, line := range c.fails {
		if want := strings.TrimPrefix(line, "ours: "); !strings.Contains(err.Error(), want) {
			problems = append(problems, fmt.Sprintf("error %q, want %q in it", err, want))
		}
	}
	return problems
}

// compare says how b differs from want.
func compare(how string, want image, b, base *built) []string {
	if b.Err != "" {
		return []string{how + ": " + b.Err}
	}
	got, err := b.relative(want.Source, base)
	if err != nil {
		return []string{how + ": " + err.Error()}
	}
	var problems []string
	for _, p := range slices.Sorted(maps.Keys(want.Files)) {
		if got.Files[p] != want.Files[p] {
			problems = append(problems, fmt.Sprintf("%s: %s is %s, want %s", how, p, cmp.Or(got.Files[p], "missing"), want.Files[p]))
		}
	}
	for _, p := range slices.Sorted(maps.Keys(got.Files)) {
		if _, ok := want.Files[p]; !ok {
			problems = append(problems, fmt.Sprintf("%s: %s is %s, want no such file", how, p, got.Files[p]))
		}
	}
	got.Files = want.Files
	if d := gocmp.Diff(want, got); d != "" {
		problems = append(problems, fmt.Sprintf("%s: image (-want +got):\n%s", how, d))
	}
	return problems
}

// buildAll builds the cases, several at once.
func buildAll(t *testing.T, all []testCase, build func(c *testCase, dir string) outcome) []outcome {
	t.Helper()
	dir := scratch(t)
	outcomes := make([]outcome, len(all))
	next := make(chan int)
	var wg sync.WaitGroup
	for range 2 * runtime.NumCPU() {
		wg.Go(func() {
			for i := range next {
				c := &all[i]
				if c.rootOnly != "" && os.Geteuid() != 0 {
					continue
				}
				at := filepath.Join(dir, c.name)
				if err := c.stage(at); err != nil {
					outcomes[i] = outcome{err: err}
				} else {
					outcomes[i] = build(c, at)
				}
			}
		})
	}
	for i := range all {
		next <- i
	}
	close(next)
	wg.Wait()
	return outcomes
}

// scratch returns a directory on a tmpfs where there is one.
func scratch(t *testing.T) string {
	t.Helper()
	under := os.TempDir()
	if os.Getenv("TMPDIR") == "" {
		if _, err := os.Stat("/dev/shm"); err == nil {
			under = "/dev/shm"
		}
	}
	dir, err := os.MkdirTemp(under, "cooper-difftest-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// ours is the build command with a store of its own.
type ours struct {
	dir  string
	bin  string
	from string // the base's build context
}

func newOurs(t *testing.T) *ours {
	t.Helper()
	bin, err := filepath.Abs("../../../bin/build")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(bin); err != nil {
		t.Skipf("no command to test, make build makes it: %v", err)
	}
	o := &ours{dir: filepath.Join(scratch(t), "store"), bin: bin, from: "busybox-base=oci-layout://" + baseLayout(t) + ":latest"}
	t.Cleanup(func() {
		if out, err := o.self("remove", nil).CombinedOutput(); err != nil {
			t.Errorf("remove the store: %v\n%s", err, out)
		}
	})
	return o
}

// baseLayout returns the OCI layout of the base image.
func baseLayout(t *testing.T) string {
	t.Helper()
	script, err := filepath.Abs("../../../scripts/bases")
	if err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(script, "busybox-base").CombinedOutput(); err != nil {
		t.Skipf("no base image: %v\n%s", err, out)
	}
	out, err := exec.Command(script, "-p", "busybox-base").Output()
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(strings.TrimSpace(string(out)), "busybox-base")
}

// self is this test binary, doing a task with the store.
func (o *ours) self(task string, stdin []byte) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe", o.dir)
	cmd.Env = append(os.Environ(), storeTask+"="+task)
	cmd.Stdin = bytes.NewReader(stdin)
	return cmd
}

// run builds once and returns the image's ID.
func (o *ours) run(dockerfile, context string, args []string) (string, error) {
	cmd := exec.Command(o.bin, append([]string{
		"-q", "--root", o.dir + "/root", "--runroot", o.dir + "/run",
		"--build-context", o.from, "-f", dockerfile,
	}, append(args, context)...)...)
	cmd.Dir = context
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%w: %s", err, stderr.Bytes())
	}
	return strings.TrimSpace(strings.TrimPrefix(stdout.String(), "sha256:")), nil
}

func (o *ours) build(c *testCase, dir string) outcome {
	df, context := filepath.Join(dir, "df", "Dockerfile"), filepath.Join(dir, "context")
	id, err := o.run(df, context, c.args)
	if err != nil {
		return outcome{err: err}
	}
	again, err := o.run(df, context, c.args)
	return outcome{id: id, again: again, err: err}
}

// base builds the bare base image.
func (o *ours) base(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	df := filepath.Join(dir, "Dockerfile")
	if err := os.WriteFile(df, []byte("FROM busybox-base\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	id, err := o.run(df, dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// dump describes images of the store.
func (o *ours) dump(t *testing.T, ids []string) map[string]*built {
	t.Helper()
	in, err := json.Marshal(ids)
	if err != nil {
		t.Fatal(err)
	}
	out, err := o.self("dump", in).Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		t.Fatalf("describe the images: %v\n%s", err, exit.Stderr)
	}
	images := map[string]*built{}
	if err == nil {
		err = json.Unmarshal(out, &images)
	}
	if err != nil {
		t.Fatal(err)
	}
	return images
}
