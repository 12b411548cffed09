package remote

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"cooper/dockerfile"
)

// Checkout makes a tree of the files of ref at commit, which Resolve has found.
func (c *Client) Checkout(ctx context.Context, ref *dockerfile.GitRef, commit Commit) (_ *Tree, err error) {
	if err := errors.Join(checkGitRef(ref), checkCommit(ref, commit)); err != nil {
		return nil, err
	}
	g, err := c.newGit(ref.Remote)
	if err != nil {
		return nil, err
	}
	t, err := c.newTree()
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, t.Close())
		}
	}()
	m, err := c.mirror(ctx, g, len(commit.ID) == 64)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, m.lock.Close()) }()
	if err := m.fetch(ctx, commit); err != nil {
		return nil, fmt.Errorf("failed to fetch remote %s: %w", RedactURL(ref.Remote), err)
	}
	if t.Time, err = m.time(ctx, commit.ID); err != nil {
		return nil, err
	}
	if err := m.checkOut(ctx, ref, commit, t.Dir); err != nil {
		return nil, fmt.Errorf("failed to checkout remote %s: %w", RedactURL(ref.Remote), err)
	}
	t.Key = commit.Key(ref)
	return t, t.settle(ref)
}

// settle makes the tree what was asked for: a part of the repository, the modes
// that git means whatever the umask, the times of the commit.
func (t *Tree) settle(ref *dockerfile.GitRef) error {
	root, err := os.OpenRoot(t.Dir)
	if err != nil {
		return err
	}
	defer root.Close()
	subdir := cleanSubdir(ref.Subdir)
	if err := checkSubdir(root, subdir); err != nil {
		return err
	}
	var times time.Time
	if ref.MTime == "commit" {
		times = t.Time
	}
	t.Dir = filepath.Join(t.Dir, subdir)
	part, err := root.OpenRoot(path.Join(".", subdir))
	if err != nil {
		return err
	}
	defer part.Close()
	return normalize(part, times)
}

func cleanSubdir(dir string) string { return strings.TrimPrefix(path.Join("/", dir), "/") }

// checkSubdir accepts a path of directories only: a link could lead anywhere.
func checkSubdir(root *os.Root, subdir string) error {
	if subdir == "" {
		return nil
	}
	at := ""
	for part := range strings.SplitSeq(subdir, "/") {
		at = path.Join(at, part)
		info, err := root.Lstat(at)
		if err != nil {
			return fmt.Errorf("invalid subdir %s: %w", subdir, err)
		}
		if !info.IsDir() {
			return fmt.Errorf("invalid subdir %s: git subpath %q contains non-directory %q", subdir, subdir, at)
		}
	}
	return nil
}

// normalize gives files the modes that they have with a umask of 022, and the
// time t unless that is zero.
func normalize(root *os.Root, t time.Time) error {
	var dirs []string
	err := fs.WalkDir(root.FS(), ".", func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.Type()&fs.ModeSymlink == 0 {
			info, err := d.Info()
			if err != nil {
				return err
			}
			mode := info.Mode().Perm() & 0o700
			mode |= (mode>>3 | mode>>6) & 0o055
			if mode != info.Mode().Perm() {
				if err := root.Chmod(p, mode); err != nil {
					return err
				}
			}
		}
		if d.IsDir() {
			dirs = append(dirs, p)
			return nil
		}
		return setTime(root, p, t)
	})
	if err != nil {
		return err
	}
	for i := len(dirs) - 1; i >= 0; i-- {
		if err := setTime(root, dirs[i], t); err != nil {
			return err
		}
	}
	return nil
}

func setTime(root *os.Root, name string, t time.Time) error {
	if t.IsZero() {
		return nil
	}
	dir, err := root.Open(path.Dir(name))
	if err != nil {
		return err
	}
	defer dir.Close()
	ts := []unix.Timespec{unix.NsecToTimespec(t.UnixNano()), unix.NsecToTimespec(t.UnixNano())}
	return unix.UtimesNanoAt(int(dir.Fd()), path.Base(name), ts, unix.AT_SYMLINK_NOFOLLOW)
}

// mirror is the bare repository that holds what was fetched from a remote
// before. It is locked until lock is closed.
type mirror struct {
	*git
	lock *os.File
}

// lockPoll is how often a repository that another process uses is tried again.
const lockPoll = 20 * time.Millisecond

func (c *Client) mirror(ctx context.Context, g *git, sha256Objects bool) (_ *mirror, err error) {
	dir, err := c.Store.Dir("git")
	if err != nil {
		return nil, err
	}
	base := filepath.Join(dir, fmt.Sprintf("%x", sha256.Sum256([]byte(g.remote))))
	lock, err := os.OpenFile(base+".lock", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, lock.Close())
		}
	}()
	for unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB) != nil {
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-time.After(lockPoll):
		}
	}
	m := &mirror{g.in(base+".git", ""), lock}
	if _, err := os.Stat(filepath.Join(m.dir, "cooper-ready")); err == nil {
		// What a killed process may have left is nobody's now.
		err := os.Remove(filepath.Join(m.dir, "shallow.lock"))
		if errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
		return m, err
	}
	return m, m.init(ctx, sha256Objects)
}

// init makes the repository. One that was not finished is made anew.
func (m *mirror) init(ctx context.Context, sha256Objects bool) error {
	if err := os.RemoveAll(m.dir); err != nil {
		return err
	}
	args := []string{"init", "--quiet", "--bare", "--template="}
	if sha256Objects {
		args = append(args, "--object-format=sha256")
	}
	if _, err := m.run(ctx, args...); err != nil {
		return fmt.Errorf("make a repository: %w", err)
	}
	return os.WriteFile(filepath.Join(m.dir, "cooper-ready"), nil, 0o600)
}

// has reports whether the commit is here.
func (m *mirror) has(ctx context.Context, id string) bool {
	_, err := m.run(ctx, "cat-file", "-e", id+"^{commit}")
	return err == nil
}

// fetch gets the commit with no more of the past than the server makes us take.
func (m *mirror) fetch(ctx context.Context, commit Commit) error {
	if m.has(ctx, commit.ID) {
		return nil
	}
	var first error
	for _, try := range fetches(commit) {
		args := append([]string{"fetch", "--force"}, try.options...)
		_, err := m.run(ctx, append(args, "--", m.remote, try.refspec)...)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err == nil && m.has(ctx, commit.ID) {
			return nil
		}
		if first == nil {
			first = err
		}
	}
	if first != nil {
		return first
	}
	return fmt.Errorf("commit %s can not be found in the repository", commit.ID)
}

// fetching is one way to fetch.
type fetching struct {
	options []string
	refspec string
}

// fetches are the ways to get a commit, cheapest first. A reference may have
// moved on since it was resolved, and not every server hands out commits by
// their ID.
func fetches(commit Commit) []fetching {
	const all = "+refs/heads/*:refs/cooper/heads/*"
	var list []fetching
	if commit.Ref != "" {
		list = append(list, fetching{[]string{"--depth=1", "--no-tags"}, "+" + commit.Ref + ":refs/cooper/fetched"})
	}
	return append(list,
		fetching{[]string{"--depth=1", "--no-tags"}, commit.ID},
		fetching{[]string{"--tags"}, all},
		fetching{[]string{"--tags", "--unshallow"}, all},
	)
}

// time is when the commit was made.
func (m *mirror) time(ctx context.Context, id string) (time.Time, error) {
	out, err := m.run(ctx, "log", "-1", "--format=%ct", id+"^{commit}", "--")
	if err != nil {
		return time.Time{}, err
	}
	seconds, err := strconv.ParseInt(strings.TrimSpace(out), 10, 64)
	if err != nil {
		return time.Time{}, fmt.Errorf("failed to parse commit timestamp %q", out)
	}
	return time.Unix(seconds, 0), nil
}

// checkOut writes the commit's files and those of its submodules into dir. It
// works in a repository of its own in there, so that submodules leave nothing
// in the mirror.
func (m *mirror) checkOut(ctx context.Context, ref *dockerfile.GitRef, commit Commit, dir string) error {
	gitDir := filepath.Join(dir, ".git")
	keep := keepsGitDir(ref)
	g := m.in(gitDir, dir)
	if err := m.clone(ctx, g, commit, keep); err != nil {
		return err
	}
	if _, err := g.run(ctx, "remote", "add", "origin", ref.Remote); err != nil {
		return err
	}
	if !ref.SkipSubmodules && isFile(filepath.Join(dir, ".gitmodules")) {
		if _, err := g.run(ctx, "submodule", "update", "--init", "--recursive", "--depth=1"); err != nil {
			return fmt.Errorf("failed to update submodules for %s: %w", RedactURL(ref.Remote), err)
		}
	}
	if !keep {
		return removeGitDirs(dir)
	}
	if _, err := g.run(ctx, "remote", "set-url", "origin", "--", RedactURL(ref.Remote)); err != nil {
		return err
	}
	if _, err := g.run(ctx, "reflog", "expire", "--all", "--expire=now"); err != nil {
		return err
	}
	err := os.Remove(filepath.Join(gitDir, "FETCH_HEAD"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// clone makes g's repository and checks the commit out. Without keep it borrows
// the mirror's objects, with keep it gets its own.
func (m *mirror) clone(ctx context.Context, g *git, commit Commit, keep bool) error {
	args := []string{"init", "--quiet", "--template="}
	if len(commit.ID) == 64 {
		args = append(args, "--object-format=sha256")
	}
	if _, err := g.run(ctx, args...); err != nil {
		return err
	}
	if !keep {
		info := filepath.Join(g.dir, "objects", "info")
		if err := os.MkdirAll(info, 0o700); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(info, "alternates"), []byte(filepath.Join(m.dir, "objects")+"\n"), 0o600); err != nil {
			return err
		}
		_, err := g.run(ctx, "checkout", "--quiet", "--force", commit.commit(), "--")
		return err
	}
	// A fetch by file:// copies objects; by path it would share them.
	if _, err := m.run(ctx, "update-ref", "refs/cooper/wanted", commit.ID); err != nil {
		return err
	}
	local := *g
	local.local = true
	spec := "+refs/cooper/wanted"
	if commit.Ref != "" && commit.Ref != "HEAD" {
		spec += ":" + commit.Ref
	}
	if _, err := local.run(ctx, "fetch", "--quiet", "--update-head-ok", "--no-tags", "--depth=1", "--", "file://"+m.dir, spec); err != nil {
		return err
	}
	_, err := g.run(ctx, "checkout", "--quiet", "--force", "--detach", "FETCH_HEAD", "--")
	return err
}

// removeGitDirs removes the repository at the top of dir. Those of submodules
// are in it; what stays of them is a file that names the place, as with
// BuildKit.
func removeGitDirs(dir string) error { return removeAll(filepath.Join(dir, ".git")) }
