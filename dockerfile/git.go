package dockerfile

import (
	"errors"
	"fmt"
	"net/url"
	"path"
	"strconv"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
)

// GitRef is a git repository as a source of files.
type GitRef struct {
	Remote         string // what to give to git: "https://github.com/x/y.git"
	Ref            string `json:",omitempty"` // commit, tag or branch; "" = the default branch
	Subdir         string `json:",omitempty"` // relative to the repository; "" = all of it
	Checksum       string `json:",omitempty"` // commit that Ref must be; "" = any
	KeepGitDir     bool   `json:",omitempty"`
	SkipSubmodules bool   `json:",omitempty"`
	FetchByCommit  bool   `json:",omitempty"` // fetch Checksum itself and don't compare it with Ref
	MTime          string `json:",omitempty"` // time of the files: "checkout" or "commit"; "" = checkout

	keepGitDir *bool // nil when the URL doesn't say
}

// ParseGitRef reads a git URL with its options, in fragment form
// ("https://host/repo.git#ref:subdir") or query form
// ("?ref=..&subdir=.."). It returns false when s is no git repository; a http
// URL is one only when its path ends in ".git".
func ParseGitRef(s string) (*GitRef, bool, error) { return parseGitRef(s) }

func parseGitRef(s string) (*GitRef, bool, error) {
	remote, query, fragment, ok := splitGitURL(s)
	if !ok {
		return nil, false, nil
	}
	ref := &GitRef{Remote: remote}
	if fragment != "" {
		name, subdir, _ := strings.Cut(fragment, ":")
		ref.Ref = name
		ref.Subdir = strings.TrimPrefix(path.Join("/", subdir), "/")
	}
	if err := ref.query(query); err != nil {
		return nil, true, err
	}
	return ref, true, nil
}

// splitGitURL takes options off a git URL. It accepts URLs for git, and
// user@host:path as ssh does.
func splitGitURL(s string) (remote string, query url.Values, fragment string, ok bool) {
	scheme, _, isURL := strings.Cut(s, "://")
	if isURL && scheme != "" && all(scheme, isAlnum) {
		u, err := url.Parse(s)
		if err != nil {
			return "", nil, "", false
		}
		switch u.Scheme {
		case "http", "https":
			ok = strings.HasSuffix(u.Path, ".git")
		case "ssh", "git":
			ok = true
		}
		query, fragment = u.Query(), u.Fragment
		u.Fragment, u.RawFragment, u.RawQuery, u.ForceQuery = "", "", "", false
		return u.String(), query, fragment, ok
	}
	user, rest, ok := strings.Cut(s, "@")
	host, file, ok2 := strings.Cut(rest, ":")
	name := func(extra string) func(byte) bool {
		return func(c byte) bool { return isAlnum(c) || strings.IndexByte(extra, c) >= 0 }
	}
	if !ok || !ok2 || user == "" || host == "" || strings.Contains(file, "\n") || !all(user, name("-_")) || !all(host, name("-.")) {
		return "", nil, "", false
	}
	file, fragment, _ = strings.Cut(file, "#")
	file, raw, _ := strings.Cut(file, "?")
	query, err := url.ParseQuery(raw)
	return user + "@" + host + ":" + file, query, fragment, err == nil
}

// query applies the options of the query form.
func (g *GitRef) query(query url.Values) error {
	tag, branch := "", ""
	for _, k := range sortedKeys(query) {
		v := query[k]
		if len(v) > 1 {
			return fmt.Errorf("query %q has multiple values", k)
		}
		var err error
		switch k {
		case "keep-git-dir":
			var keep bool
			keep, err = boolOption(k, v[0])
			g.keepGitDir, g.KeepGitDir = &keep, keep
		case "submodules":
			var with bool
			with, err = boolOption(k, v[0])
			g.SkipSubmodules = !with
		case "fetch-by-commit":
			g.FetchByCommit, err = boolOption(k, v[0])
		default:
			if v[0] == "" {
				return fmt.Errorf("query %q has no value", k)
			}
			err = g.textOption(k, v[0], &tag, &branch)
		}
		if err != nil {
			return err
		}
	}
	if tag != "" && branch != "" {
		return errors.New("branch conflicts with tag")
	}
	if err := g.setRef(tag, "refs/tags/"); err != nil {
		return err
	}
	return g.setRef(branch, "refs/heads/")
}

func (g *GitRef) textOption(k, v string, tag, branch *string) error {
	switch k {
	case "ref":
		return g.setRef(v, "")
	case "tag":
		*tag = v
	case "branch":
		*branch = v
	case "subdir":
		if g.Subdir != "" && g.Subdir != v {
			return fmt.Errorf("subdir conflicts: %q vs %q", g.Subdir, v)
		}
		g.Subdir = v
	case "checksum", "commit":
		g.Checksum = v
	case "mtime":
		if v != "checkout" && v != "commit" {
			return fmt.Errorf(`invalid mtime value: %q (must be "checkout" or "commit")`, v)
		}
		g.MTime = v
	default:
		return fmt.Errorf("unexpected query %q", k)
	}
	return nil
}

func (g *GitRef) setRef(ref, prefix string) error {
	if ref == "" {
		return nil
	}
	if !strings.HasPrefix(ref, prefix) {
		ref = prefix + ref
	}
	if g.Ref != "" && g.Ref != ref {
		return fmt.Errorf("ref conflicts: %q vs %q", g.Ref, ref)
	}
	g.Ref = ref
	return nil
}

// boolOption reads a switch, which is on when it has no value.
func boolOption(k, v string) (bool, error) {
	if v == "" {
		return true, nil
	}
	b, err := strconv.ParseBool(v)
	if err != nil {
		return false, fmt.Errorf("invalid %s value: %q", k, v)
	}
	return b, nil
}

// applyFlags joins what the flags of ADD say with what the URL says.
func (g *GitRef) applyFlags(c *instructions.AddCommand) error {
	if c.KeepGitDir != nil {
		if g.keepGitDir != nil && *g.keepGitDir != *c.KeepGitDir {
			return errors.New("inconsistent keep-git-dir configuration")
		}
		g.KeepGitDir = *c.KeepGitDir
	}
	if c.Checksum != "" && g.Checksum != "" && c.Checksum != g.Checksum {
		return fmt.Errorf("checksum mismatch %q != %q", c.Checksum, g.Checksum)
	}
	if g.Checksum == "" {
		g.Checksum = c.Checksum
	}
	return nil
}
