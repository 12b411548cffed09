package remote

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"strings"

	"github.com/opencontainers/go-digest"

	"cooper/dockerfile"
)

// Commit is what a reference of a repository means right now.
type Commit struct {
	// ID is the object that the reference names: a commit or, for an
	// annotated tag, the tag.
	ID string
	// Peeled is the commit of an annotated tag, else "".
	Peeled string
	// Ref is the reference in full: "refs/heads/main"; "" for a bare commit.
	Ref string
}

// commit is the ID of the commit itself.
func (c Commit) commit() string {
	if c.Peeled != "" {
		return c.Peeled
	}
	return c.ID
}

// Key names the files that Checkout would give for ref at c.
func (c Commit) Key(ref *dockerfile.GitRef) digest.Digest {
	// The repository's URL and the name of the reference matter only when
	// they end up in .git.
	parts := []string{"git", c.commit(), ref.Subdir, fmt.Sprint(ref.SkipSubmodules)}
	if keepsGitDir(ref) {
		parts = append(parts, c.ID, c.Ref, RedactURL(ref.Remote))
	}
	return digest.FromString(strings.Join(parts, "\x00"))
}

// keepsGitDir reports whether the checkout has a .git: that of a part of a
// repository would be of no use.
func keepsGitDir(ref *dockerfile.GitRef) bool { return ref.KeepGitDir && cleanSubdir(ref.Subdir) == "" }

// Resolve asks the remote what ref means. A full commit ID is not looked up.
// Within the life of the Client the answer stays the same.
func (c *Client) Resolve(ctx context.Context, ref *dockerfile.GitRef) (Commit, error) {
	if err := checkGitRef(ref); err != nil {
		return Commit{}, err
	}
	if isCommitID(ref.Ref) {
		commit := Commit{ID: ref.Ref}
		return commit, checkCommit(ref, commit)
	}
	if ref.FetchByCommit {
		return byCommit(ref)
	}
	key := ref.Remote + "#" + ref.Ref
	c.mu.Lock()
	commit, ok := c.commits[key]
	c.mu.Unlock()
	if !ok {
		var err error
		if commit, err = c.lookUp(ctx, ref); err != nil {
			return Commit{}, err
		}
		c.mu.Lock()
		if c.commits == nil {
			c.commits = map[string]Commit{}
		}
		c.commits[key] = commit
		c.mu.Unlock()
	}
	return commit, checkCommit(ref, commit)
}

// byCommit trusts the checksum to be what the reference means.
func byCommit(ref *dockerfile.GitRef) (Commit, error) {
	switch {
	case ref.Checksum == "":
		return Commit{}, errors.New("fetch-by-commit requires a checksum or a commit SHA ref")
	case !isCommitID(ref.Checksum):
		return Commit{}, fmt.Errorf("fetch-by-commit requires a full commit SHA checksum, got %q", ref.Checksum)
	}
	commit := Commit{ID: ref.Checksum, Ref: ref.Ref}
	if commit.Ref != "" && !strings.HasPrefix(commit.Ref, "refs/") {
		commit.Ref = "refs/heads/" + commit.Ref
	}
	return commit, nil
}

// lookUp asks the remote.
func (c *Client) lookUp(ctx context.Context, ref *dockerfile.GitRef) (Commit, error) {
	g, err := c.newGit(ref.Remote)
	if err != nil {
		return Commit{}, err
	}
	name := ref.Ref
	if name == "" {
		if name, err = g.defaultBranch(ctx); err != nil {
			return Commit{}, err
		}
	}
	out, err := g.run(ctx, "ls-remote", "--", ref.Remote, name, name+"^{}")
	if err != nil {
		return Commit{}, fmt.Errorf("failed to fetch remote %s: %w", RedactURL(ref.Remote), err)
	}
	commit, ok := pick(out, name)
	if !ok {
		return Commit{}, fmt.Errorf("repository does not contain ref %s, output: %q", name, out)
	}
	return commit, nil
}

var branchName = regexp.MustCompile(`(?m)^ref: (refs/heads/\S+)\tHEAD$`)

func (g *git) defaultBranch(ctx context.Context) (string, error) {
	out, err := g.run(ctx, "ls-remote", "--symref", "--", g.remote, "HEAD")
	if err != nil {
		return "", fmt.Errorf("error fetching default branch for repository %s: %w", RedactURL(g.remote), err)
	}
	if m := branchName.FindStringSubmatch(out); m != nil && checkRefName(m[1]) == nil {
		return m[1], nil
	}
	if strings.HasSuffix(out, "\tHEAD\n") {
		return "HEAD", nil // detached
	}
	return "", fmt.Errorf("could not find default branch for repository: %s", RedactURL(g.remote))
}

// pick finds name in what ls-remote printed. As in a checkout, a branch comes
// before a tag of the same name.
func pick(out, name string) (Commit, bool) {
	found := map[string]string{}
	for line := range strings.Lines(out) {
		id, ref, ok := strings.Cut(strings.TrimSuffix(line, "\n"), "\t")
		if ok && isCommitID(id) {
			found[ref] = id
		}
	}
	tag := "refs/tags/" + strings.TrimPrefix(name, "refs/tags/")
	for _, ref := range []string{"refs/" + strings.TrimPrefix(name, "refs/"), "refs/heads/" + strings.TrimPrefix(name, "refs/heads/"), tag, name} {
		if id := found[ref]; id != "" {
			commit := Commit{ID: id, Ref: ref}
			if ref == tag {
				commit.Peeled = found[tag+"^{}"]
			}
			return commit, true
		}
	}
	return Commit{}, false
}

// checkCommit compares c with the checksum that ref asks for.
func checkCommit(ref *dockerfile.GitRef, c Commit) error {
	switch {
	case ref.Checksum == "", strings.HasPrefix(c.ID, ref.Checksum), strings.HasPrefix(c.Peeled, ref.Checksum):
		return nil
	case c.Peeled != "":
		return fmt.Errorf("expected checksum to match %s, got %s or %s", ref.Checksum, c.ID, c.Peeled)
	}
	return fmt.Errorf("expected checksum to match %s, got %s", ref.Checksum, c.ID)
}

var (
	hexadecimal = regexp.MustCompile(`^[a-fA-F0-9]+$`)
	commitID    = regexp.MustCompile(`^([a-f0-9]{40}|[a-f0-9]{64})$`)
)

func isCommitID(s string) bool { return commitID.MatchString(s) }

// checkGitRef refuses what git could take for something else.
func checkGitRef(ref *dockerfile.GitRef) error {
	if err := checkRemote(ref.Remote); err != nil {
		return err
	}
	if ref.Ref != "" {
		if err := checkRefName(ref.Ref); err != nil {
			return err
		}
	}
	if ref.Checksum != "" && !hexadecimal.MatchString(ref.Checksum) {
		return fmt.Errorf("invalid checksum %s for Git URL, expected hex commit hash", ref.Checksum)
	}
	return nil
}

// checkRefName holds the rules of git check-ref-format. What they forbid has a
// meaning in a pattern or in a refspec.
func checkRefName(name string) error {
	bad := strings.HasPrefix(name, "-") || strings.HasPrefix(name, "/") || strings.HasSuffix(name, "/") ||
		strings.HasSuffix(name, ".") || strings.HasSuffix(name, ".lock") ||
		strings.Contains(name, "..") || strings.Contains(name, "//") || strings.Contains(name, "@{") ||
		strings.ContainsAny(name, " ~^:?*[\\\x7f")
	for _, r := range name {
		bad = bad || r < ' '
	}
	if bad {
		return fmt.Errorf("invalid git ref %q", name)
	}
	return nil
}

// checkRemote refuses a URL that git, or ssh behind it, could take for an option
// or for a program to run.
func checkRemote(remote string) error {
	refuse := func() error { return fmt.Errorf("invalid git URL %q", RedactURL(remote)) }
	for _, r := range remote {
		if r < ' ' || r == 0x7f {
			return refuse()
		}
	}
	scheme, _, isURL := strings.Cut(remote, "://")
	if !isURL {
		// user@host:path, as the parser knows it
		user, rest, ok := strings.Cut(remote, "@")
		host, path, ok2 := strings.Cut(rest, ":")
		if !ok || !ok2 || user == "" || host == "" || user[0] == '-' || host[0] == '-' || strings.HasPrefix(path, "-") || strings.Contains(user, ":") {
			return refuse()
		}
		return nil
	}
	switch scheme {
	case "http", "https", "ssh", "git":
	default:
		return refuse()
	}
	u, err := url.Parse(remote)
	if err != nil || u.Host == "" || strings.HasPrefix(u.Host, "-") || strings.HasPrefix(u.User.Username(), "-") ||
		strings.HasPrefix(strings.TrimLeft(u.Path, "/"), "-") && scheme == "ssh" {
		return refuse()
	}
	return nil
}

// RedactURL hides the password in a URL; in one with a user but no password the
// user may be the token.
func RedactURL(s string) string {
	scheme, rest, ok := strings.Cut(s, "://")
	if !ok {
		return s
	}
	host, path, hasPath := strings.Cut(rest, "/")
	i := strings.LastIndexByte(host, '@')
	if i < 0 {
		return s
	}
	user, _, hasPassword := strings.Cut(host[:i], ":")
	switch {
	case hasPassword:
		host = user + ":xxxxx" + host[i:]
	case scheme == "http" || scheme == "https":
		host = "xxxxx" + host[i:]
	}
	if hasPath {
		path = "/" + path
	}
	return scheme + "://" + host + path
}
