package remote

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/opencontainers/go-digest"

	"cooper/dockerfile"
)

// IsRemote reports whether where names something that Open gets from elsewhere
// rather than a directory of this machine: a http or https URL or a git
// repository.
func IsRemote(where string) bool {
	if strings.HasPrefix(where, "http://") || strings.HasPrefix(where, "https://") {
		return true
	}
	_, isGit, _ := GitRef(where)
	return isGit
}

// GitRef reads the URL of a repository as docker does for build contexts, where
// github.com/OWNER/NAME is one too; false when where is none.
func GitRef(where string) (*dockerfile.GitRef, bool, error) {
	return dockerfile.ParseGitRef(gitURL(where))
}

// gitURL spells out the one shorthand for a repository that docker has.
func gitURL(where string) string {
	if !strings.HasPrefix(where, "github.com/") {
		return where
	}
	end := strings.IndexAny(where, "?#")
	if end < 0 {
		end = len(where)
	}
	return "https://" + strings.TrimSuffix(where[:end], ".git") + ".git" + where[end:]
}

// OpenOptions are the choices of Open.
type OpenOptions struct {
	// KeepGitDir leaves the .git of a repository even if the URL doesn't
	// ask for it.
	KeepGitDir bool
	// CommitTime gives files of a repository the time of the commit.
	CommitTime bool
	// Progress is that of FetchOptions.
	Progress func(current, total int64)
}

// Open makes a tree of what a URL names: a git repository, or an archive served
// over HTTP. What is no archive makes a tree with that one file, see Tree.File.
func (c *Client) Open(ctx context.Context, where string, o OpenOptions) (*Tree, error) {
	ref, isGit, err := GitRef(where)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", RedactURL(where), err)
	}
	if isGit {
		ref.KeepGitDir = ref.KeepGitDir || o.KeepGitDir
		if o.CommitTime && ref.MTime == "" {
			ref.MTime = "commit"
		}
		commit, err := c.Resolve(ctx, ref)
		if err != nil {
			return nil, err
		}
		return c.Checkout(ctx, ref, commit)
	}
	f, err := c.Fetch(ctx, where, FetchOptions{Progress: o.Progress})
	if err != nil {
		return nil, err
	}
	return c.openFile(ctx, f)
}

// openFile makes a tree of what was fetched.
func (c *Client) openFile(ctx context.Context, f *File) (*Tree, error) {
	file, err := os.Open(f.Path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	r := bufio.NewReaderSize(file, HeaderSize)
	head, err := r.Peek(HeaderSize)
	if err != nil && err != io.EOF {
		return nil, err
	}
	if !IsArchive(head) {
		return c.single(f, r)
	}
	t, err := c.Unpack(ctx, r)
	if err == nil && f.LastModified != "" {
		t.Time = f.ModTime
	}
	return t, err
}

// single makes a tree with the file f alone, whose content is r.
func (c *Client) single(f *File, r io.Reader) (_ *Tree, err error) {
	t, err := c.newTree()
	if err != nil {
		return nil, err
	}
	out, err := os.OpenFile(filepath.Join(t.Dir, "context"), os.O_CREATE|os.O_WRONLY|os.O_EXCL, 0o600)
	if err == nil {
		_, err = io.Copy(out, r)
		if err = errors.Join(err, out.Close()); err == nil {
			err = os.Chtimes(out.Name(), f.ModTime, f.ModTime)
		}
	}
	if err != nil {
		return nil, errors.Join(err, t.Close())
	}
	t.Key, t.Time, t.File = digest.FromString("file\x00"+f.Digest.String()), f.ModTime, "context"
	return t, nil
}
