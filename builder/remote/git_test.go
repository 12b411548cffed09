package remote

import (
	"context"
	"encoding/base64"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"cooper/dockerfile"
)

// newRepository makes app.git: two commits on master, a branch, two tags.
func newRepository(t testing.TB) (s *gitServer, first, second string) {
	s = newGitServer(t)
	s.git("app.git", "init", "-q", "-b", "master")
	s.write("app.git", "file", "one", 0o640)
	s.write("app.git", "sub/run", "#!/bin/sh", 0o700)
	if err := os.Symlink("file", filepath.Join(s.dir, "app.git/link")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("sub", filepath.Join(s.dir, "app.git/linkdir")); err != nil {
		t.Fatal(err)
	}
	first = s.commit("app.git", "first")
	s.git("app.git", "tag", "light")
	s.git("app.git", "tag", "-a", "-m", "annotated", "heavy")
	s.git("app.git", "branch", "feature/x")
	s.write("app.git", "file", "two", 0o640)
	second = s.commit("app.git", "second")
	return s, first, second
}

const (
	filesOne = "file 644 \"one\"\nlink -> file\nlinkdir -> sub\nsub/ 755\nsub/run 755 \"#!/bin/sh\""
	filesTwo = "file 644 \"two\"\nlink -> file\nlinkdir -> sub\nsub/ 755\nsub/run 755 \"#!/bin/sh\""
)

func TestCheckout(t *testing.T) {
	s, first, second := newRepository(t)
	heavy := s.git("app.git", "rev-parse", "heavy")
	c := newClient(t)
	for _, tc := range []struct{ name, url, want string }{
		{"default branch", "", filesTwo},
		{"branch", "#master", filesTwo},
		{"branch with slash", "#feature/x", filesOne},
		{"full ref", "#refs/heads/feature/x", filesOne},
		{"light tag", "#light", filesOne},
		{"annotated tag", "#heavy", filesOne},
		{"tag by query", "?tag=heavy", filesOne},
		{"branch by query", "?branch=feature/x", filesOne},
		{"commit", "#" + first, filesOne},
		{"subdirectory", "#light:sub", `run 755 "#!/bin/sh"`},
		{"subdirectory by query", "?ref=light&subdir=sub", `run 755 "#!/bin/sh"`},
		{"subdirectory that climbs", "#light:../../sub", `run 755 "#!/bin/sh"`},
		{"checksum", "?branch=master&checksum=" + second[:12], filesTwo},
		{"checksum of the commit behind a tag", "?tag=heavy&checksum=" + first, filesOne},
		{"checksum of the tag itself", "?tag=heavy&checksum=" + heavy, filesOne},
		{"by commit", "?branch=gone&fetch-by-commit=true&checksum=" + first, filesOne},
		{"with .git", "?ref=light&keep-git-dir=true", ".git\n" + filesOne},
		{"part with .git", "?ref=light&subdir=sub&keep-git-dir=true", `run 755 "#!/bin/sh"`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tree, err := c.Open(t.Context(), s.URL+"/app.git"+tc.url, OpenOptions{})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, list(t, tree.Dir)); diff != "" {
				t.Errorf("files (-want +got):\n%s", diff)
			}
			if want := time.Unix(1700000000, 0); !tree.Time.Equal(want) {
				t.Errorf("Time = %v, want %v", tree.Time, want)
			}
			if err := tree.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestCheckoutKeepsNames checks that a kept .git is a working repository that
// knows its branch, its remote without password, and nothing of ours.
func TestCheckoutKeepsNames(t *testing.T) {
	s, _, second := newRepository(t)
	c := newClient(t)
	url := strings.Replace(s.URL, "http://", "http://user:secret@", 1) + "/app.git#master"
	tree, err := c.Open(t.Context(), url, OpenOptions{KeepGitDir: true})
	if err != nil {
		t.Fatal(err)
	}
	defer tree.Close()
	git := func(args ...string) string {
		cmd := exec.Command("git", append([]string{"-c", "safe.directory=*"}, args...)...)
		cmd.Dir = tree.Dir
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("git %q: %v\n%s", args, err, out)
		}
		return strings.TrimSpace(string(out))
	}
	got := []string{git("rev-parse", "HEAD"), git("rev-parse", "master"), git("status", "--porcelain"), git("remote", "get-url", "origin")}
	want := []string{second, second, "", strings.Replace(s.URL, "http://", "http://user:xxxxx@", 1) + "/app.git"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("repository (-want +got):\n%s", diff)
	}
	grep := exec.Command("grep", "-rlE", "secret|cooper", filepath.Join(tree.Dir, ".git"))
	if out, err := grep.Output(); err == nil {
		t.Errorf("the password or our directories are in:\n%s", out)
	}
}

func TestCheckoutCommitTime(t *testing.T) {
	s, _, _ := newRepository(t)
	c := newClient(t)
	tree, err := c.Open(t.Context(), s.URL+"/app.git?mtime=commit", OpenOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer tree.Close()
	for _, name := range []string{".", "file", "sub", "sub/run", "link"} {
		info, err := os.Lstat(filepath.Join(tree.Dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if want := time.Unix(1700000000, 0); !info.ModTime().Equal(want) {
			t.Errorf("time of %s = %v, want %v", name, info.ModTime(), want)
		}
	}
}

func TestCheckoutSubmodules(t *testing.T) {
	s, _, _ := newRepository(t)
	s.git("main.git", "init", "-q", "-b", "master")
	s.git("main.git", "submodule", "add", "-q", s.dir+"/app.git", "lib")
	s.git("main.git", "config", "-f", ".gitmodules", "submodule.lib.url", "../app.git")
	s.commit("main.git", "with a submodule")
	c := newClient(t)
	for query, want := range map[string]string{"": `"two"`, "?submodules=false": ""} {
		tree, err := c.Open(t.Context(), s.URL+"/main.git"+query, OpenOptions{})
		if err != nil {
			t.Fatal(err)
		}
		defer tree.Close()
		got, _ := os.ReadFile(filepath.Join(tree.Dir, "lib/file"))
		if string(got) != strings.Trim(want, `"`) {
			t.Errorf("%q: lib/file = %q, want %s", query, got, want)
		}
	}
}

// TestCheckoutRefusesLocalSubmodules checks that a repository can't have files
// of this machine put into a build.
func TestCheckoutRefusesLocalSubmodules(t *testing.T) {
	s, _, _ := newRepository(t)
	for name, url := range map[string]string{"path": s.dir + "/app.git", "file": "file://" + s.dir + "/app.git", "ext": "ext::sh -c touch% /dev/shm/cooper-pwned"} {
		t.Run(name, func(t *testing.T) {
			repository := "evil-" + name + ".git"
			s.git(repository, "init", "-q", "-b", "master")
			s.git(repository, "submodule", "add", "-q", s.dir+"/app.git", "lib")
			s.git(repository, "config", "-f", ".gitmodules", "submodule.lib.url", url)
			s.commit(repository, "evil")
			tree, err := newClient(t).Open(t.Context(), s.URL+"/"+repository, OpenOptions{})
			if err == nil {
				tree.Close()
				t.Fatal("the submodule was fetched")
			}
			if !strings.Contains(err.Error(), "not allowed") {
				t.Errorf("error = %v, want one about the transport", err)
			}
			if _, err := os.Stat("/dev/shm/cooper-pwned"); err == nil {
				t.Error("a program was run")
			}
		})
	}
}

func TestResolveFollowsBranch(t *testing.T) {
	s, _, second := newRepository(t)
	ref := &dockerfile.GitRef{Remote: s.URL + "/app.git", Ref: "master"}
	c := newClient(t)
	commit, err := c.Resolve(t.Context(), ref)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(Commit{ID: second, Ref: "refs/heads/master"}, commit); diff != "" {
		t.Fatalf("Resolve (-want +got):\n%s", diff)
	}
	// The branch is moved, by force, before it is fetched: the files are
	// still those that were resolved, if the server has them.
	s.write("app.git", "file", "three", 0o644)
	third := s.commit("app.git", "third")
	tree, err := c.Checkout(t.Context(), ref, commit)
	if err != nil {
		t.Fatal(err)
	}
	defer tree.Close()
	if diff := cmp.Diff(filesTwo, list(t, tree.Dir)); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
	again := &Client{Store: c.Store}
	if commit, err = again.Resolve(t.Context(), ref); err != nil || commit.ID != third {
		t.Errorf("Resolve in the next build = %v, %v, want %s", commit, err, third)
	}
}

// TestCheckoutTwice checks that what was fetched is not fetched again.
func TestCheckoutTwice(t *testing.T) {
	s, first, _ := newRepository(t)
	c := newClient(t)
	ref := &dockerfile.GitRef{Remote: s.URL + "/app.git", Ref: first}
	for i := range 2 {
		before := s.requests
		commit, err := c.Resolve(t.Context(), ref)
		if err != nil {
			t.Fatal(err)
		}
		tree, err := c.Checkout(t.Context(), ref, commit)
		if err != nil {
			t.Fatal(err)
		}
		tree.Close()
		if asked := s.requests > before; asked != (i == 0) {
			t.Errorf("checkout %d: %d requests", i+1, s.requests-before)
		}
	}
}

func TestGitErrors(t *testing.T) {
	s, first, second := newRepository(t)
	c := newClient(t)
	for _, tc := range []struct{ url, want string }{
		{s.URL + "/app.git#gone", "repository does not contain ref gone"},
		{s.URL + "/app.git#master:gone", `invalid subdir gone`},
		{s.URL + "/app.git#master:linkdir", `contains non-directory "linkdir"`},
		{s.URL + "/app.git#master:file", `contains non-directory "file"`},
		{s.URL + "/app.git?branch=master&checksum=" + first, "expected checksum to match " + first + ", got " + second},
		{s.URL + "/app.git?checksum=zz", "invalid checksum zz for Git URL, expected hex commit hash"},
		{s.URL + "/app.git?fetch-by-commit=true", "fetch-by-commit requires a checksum or a commit SHA ref"},
		{s.URL + "/gone.git", "error fetching default branch for repository " + s.URL + "/gone.git"},
		{s.URL + "/app.git#--upload-pack=touch${IFS}x", "invalid git ref"},
		{s.URL + "/app.git?ref=master:refs/heads/evil", "invalid git ref"},
		{s.URL + "/app.git?ref=refs/*", "invalid git ref"},
		{"ssh://-oProxyCommand=touch/x.git", "invalid git URL"},
		{"ssh://-x@host/x.git", "invalid git URL"},
		{"ssh://host/-x", "invalid git URL"},
		{"git://user:secret@127.0.0.1:1/x", "failed to fetch remote git://user:xxxxx@127.0.0.1:1/x"},
	} {
		tree, err := c.Open(t.Context(), tc.url, OpenOptions{})
		if err == nil {
			tree.Close()
			t.Errorf("%s: no error, want %q", tc.url, tc.want)
			continue
		}
		want := strings.Replace(tc.want, "failed to fetch remote git", "error fetching default branch for repository git", 1)
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", tc.url, err, want)
		}
		if strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: the error has the password: %v", tc.url, err)
		}
	}
}

func TestGitAuth(t *testing.T) {
	s, _, _ := newRepository(t)
	s.auth = "basic " + base64.StdEncoding.EncodeToString([]byte("x-access-token:token"))
	if _, err := newClient(t).Open(t.Context(), s.URL+"/app.git", OpenOptions{}); err == nil {
		t.Fatal("no error without the token")
	}
	c := newClient(t)
	host := strings.TrimPrefix(s.URL, "http://")
	c.Secret = func(name string) ([]byte, bool, error) {
		return []byte("token\n"), name == "GIT_AUTH_TOKEN."+host, nil
	}
	tree, err := c.Open(t.Context(), s.URL+"/app.git", OpenOptions{})
	if err != nil {
		t.Fatal(err)
	}
	tree.Close()
	c = newClient(t)
	failed := errors.New("no such file")
	c.Secret = func(name string) ([]byte, bool, error) { return nil, false, failed }
	if _, err := c.Open(t.Context(), s.URL+"/app.git", OpenOptions{}); !errors.Is(err, failed) {
		t.Errorf("error = %v, want that of the secret", err)
	}
}

func TestNoGit(t *testing.T) {
	c := newClient(t)
	t.Setenv("PATH", "/nonexistent")
	if _, err := c.Open(t.Context(), "https://localhost/x.git", OpenOptions{}); !errors.Is(err, ErrNoGit) {
		t.Errorf("error = %v, want ErrNoGit", err)
	}
}

func TestGitCancel(t *testing.T) {
	s, _, _ := newRepository(t)
	ctx, cancel := context.WithCancelCause(t.Context())
	stop := errors.New("stop")
	cancel(stop)
	if _, err := newClient(t).Open(ctx, s.URL+"/app.git", OpenOptions{}); !errors.Is(err, stop) {
		t.Errorf("error = %v, want the cause", err)
	}
}

func TestPick(t *testing.T) {
	a, b, c := strings.Repeat("a", 40), strings.Repeat("b", 40), strings.Repeat("c", 40)
	both := a + "\trefs/heads/x\n" + b + "\trefs/tags/x\n" + c + "\trefs/tags/x^{}\n"
	for _, tc := range []struct {
		out, name string
		want      Commit
		ok        bool
	}{
		{both, "x", Commit{ID: a, Ref: "refs/heads/x"}, true},
		{both, "refs/tags/x", Commit{ID: b, Peeled: c, Ref: "refs/tags/x"}, true},
		{both, "heads/x", Commit{ID: a, Ref: "refs/heads/x"}, true},
		{both, "y", Commit{}, false},
		{"", "x", Commit{}, false},
		{"zz\trefs/heads/x\n", "x", Commit{}, false},
		{a + "\trefs/heads/deep/x\n", "x", Commit{}, false},
	} {
		if got, ok := pick(tc.out, tc.name); got != tc.want || ok != tc.ok {
			t.Errorf("pick(%q, %q) = %v, %v, want %v, %v", tc.out, tc.name, got, ok, tc.want, tc.ok)
		}
	}
}

func FuzzGitURL(f *testing.F) {
	for _, s := range []string{
		"https://host/x.git#ref:dir", "git@host:x.git", "ssh://-oProxyCommand=x/y", "git://h/x?ref=--upload-pack=x",
		"github.com/x/y#z", "-u@host:x", "git@host:-x", "ssh://h/%2dx", "http://u:p@h/x.git?tag=a&branch=b",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		ref, isGit, err := GitRef(s)
		if !isGit || err != nil || checkGitRef(ref) != nil {
			return
		}
		for _, arg := range []string{ref.Remote, ref.Ref} {
			if strings.HasPrefix(arg, "-") || strings.ContainsAny(arg, "\x00\n") {
				t.Errorf("%q gives git the argument %q", s, arg)
			}
		}
		if strings.Contains(ref.Ref, ":") {
			t.Errorf("%q gives git the refspec %q", s, ref.Ref)
		}
		if strings.Contains(ref.Remote, "@-") || strings.Contains(ref.Remote, "://-") {
			t.Errorf("%q gives ssh the host of %q", s, ref.Remote)
		}
	})
}
