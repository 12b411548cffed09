package remote

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// ErrNoGit is returned where git is needed and the system has none. It is the
// only program that a build calls.
var ErrNoGit = errors.New("git repositories need the program git, which was not found in PATH: install it (apt-get install git), or clone the repository yourself and build the directory")

// gitEnv are the variables of the user's that git sees: how to reach servers,
// and nothing else.
var gitEnv = []string{
	"PATH", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "no_proxy", "all_proxy",
	"GIT_SSL_CAINFO", "GIT_SSL_CAPATH", "SSL_CERT_FILE", "SSL_CERT_DIR",
}

// gitConfig holds for every call. Nothing of a repository is run, and git
// leaves no process behind.
var gitConfig = []string{
	"-c", "core.hooksPath=/dev/null",
	"-c", "core.fsmonitor=false",
	"-c", "core.sshCommand=",
	"-c", "credential.helper=",
	"-c", "init.defaultBranch=master",
	"-c", "advice.detachedHead=false",
	"-c", "protocol.file.allow=user", // no submodule from this machine
	"-c", "protocol.ext.allow=never",
	"-c", "submodule.recurse=false",
	"-c", "fetch.recurseSubmodules=false",
	"-c", "gc.auto=0",
	"-c", "maintenance.auto=false",
	"-c", "core.symlinks=true",
	"-c", "core.autocrlf=false",
}

// git runs git for one remote.
type git struct {
	c      *Client
	remote string
	// dir is the repository, worktree where its files go; "" is none.
	dir, worktree string
	// local allows remotes that are directories.
	local bool
	// auth is the header for the remote's server, with what is before it in
	// the configuration: "http.https://host/.extraheader=Authorization: ...".
	auth string
}

// gitError is a failed call; what git said comes with it.
type gitError struct {
	err    error
	stderr string
}

func (e *gitError) Error() string {
	text := strings.TrimSpace(e.stderr)
	if text == "" {
		return e.err.Error()
	}
	return fmt.Sprintf("git stderr:\n%s", text)
}

func (e *gitError) Unwrap() error { return e.err }

// newGit returns git for remote with the secrets that its server wants.
func (c *Client) newGit(remote string) (*git, error) {
	if err := checkRemote(remote); err != nil {
		return nil, err
	}
	g := &git{c: c, remote: remote}
	u, err := url.Parse(remote)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" {
		return g, nil
	}
	name, value, err := c.secret("GIT_AUTH_HEADER."+u.Host, "GIT_AUTH_TOKEN."+u.Host, "GIT_AUTH_HEADER", "GIT_AUTH_TOKEN")
	if err != nil {
		return nil, fmt.Errorf("secret %s: %w", name, err)
	}
	if name == "" {
		return g, nil
	}
	header := strings.TrimSpace(string(value))
	if strings.HasPrefix(name, "GIT_AUTH_TOKEN") {
		header = "basic " + base64.StdEncoding.EncodeToString([]byte("x-access-token:"+header))
	}
	if strings.ContainsAny(header, "\r\n\x00") {
		return nil, fmt.Errorf("secret %s is more than one line", name)
	}
	g.auth = "http." + u.Scheme + "://" + u.Host + "/.extraheader=Authorization: " + header
	return g, nil
}

// in returns git for a repository and its files.
func (g *git) in(dir, worktree string) *git {
	n := *g
	n.dir, n.worktree = dir, worktree
	return &n
}

// run calls git and returns its standard output. If it fails, its standard error
// is part of the error.
func (g *git) run(ctx context.Context, args ...string) (string, error) {
	path, err := exec.LookPath("git")
	if err != nil {
		return "", ErrNoGit
	}
	env, err := g.environ()
	if err != nil {
		return "", err
	}
	cmd := exec.CommandContext(ctx, path, gitConfig...)
	if g.dir != "" {
		cmd.Args = append(cmd.Args, "--git-dir="+g.dir)
	}
	if g.worktree != "" {
		cmd.Args = append(cmd.Args, "--work-tree="+g.worktree)
	}
	cmd.Args = append(cmd.Args, args...)
	cmd.Env = env
	cmd.Dir = "/"
	if g.worktree != "" {
		cmd.Dir = g.worktree
	}
	// git's own children would live on: all of its process group is ended.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 5 * time.Second
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err = cmd.Run()
	switch {
	case err == nil:
		return stdout.String(), nil
	case ctx.Err() != nil:
		return "", context.Cause(ctx)
	}
	return "", &gitError{err, g.redact(stderr.String())}
}

// redact takes the remote's user and password out of what git says.
func (g *git) redact(text string) string {
	_, rest, isURL := strings.Cut(g.remote, "://")
	host, _, _ := strings.Cut(rest, "/")
	if i := strings.LastIndexByte(host, '@'); isURL && i >= 0 {
		text = strings.ReplaceAll(text, host[:i+1], "")
	}
	return text
}

// environ is all that git gets to see.
func (g *git) environ() ([]string, error) {
	ssh, err := g.sshCommand()
	if err != nil {
		return nil, err
	}
	protocols := "http:https:ssh:git"
	if g.local {
		protocols = "file"
	}
	env := []string{
		"HOME=/dev/null", "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=/dev/null", "GIT_ATTR_NOSYSTEM=1",
		"GIT_TERMINAL_PROMPT=0", "GIT_ASKPASS=", "SSH_ASKPASS=", "LC_ALL=C",
		"GIT_ALLOW_PROTOCOL=" + protocols, "GIT_SSH_COMMAND=" + ssh, "GIT_SSH_VARIANT=ssh",
	}
	if g.auth != "" {
		// In the environment, since everyone may read the arguments.
		key, value, _ := strings.Cut(g.auth, "=")
		env = append(env, "GIT_CONFIG_COUNT=1", "GIT_CONFIG_KEY_0="+key, "GIT_CONFIG_VALUE_0="+value)
	}
	for _, name := range gitEnv {
		if v, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+v)
		}
	}
	sock := g.c.SSHAuthSock
	if sock == "" {
		sock = os.Getenv("SSH_AUTH_SOCK")
	}
	if sock != "" {
		env = append(env, "SSH_AUTH_SOCK="+sock)
	}
	return env, nil
}

// sshCommand is how git calls ssh: never asking anything, with the user's own
// keys and known hosts. The keys of hosts that nobody knows are noted in a file
// of ours and must be the same the next time. In a user namespace ssh looks for
// the files of root, so the user's are named one by one.
func (g *git) sshCommand() (string, error) {
	dir, err := g.c.Store.Dir("git")
	if err != nil {
		return "", err
	}
	words := []string{"ssh", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=accept-new"}
	hosts := sshQuote(filepath.Join(dir, "known_hosts"))
	if home := os.Getenv("HOME"); filepath.IsAbs(home) {
		home = filepath.Join(home, ".ssh")
		if config := filepath.Join(home, "config"); isFile(config) {
			words = append(words, "-F", config)
		}
		for _, key := range []string{"id_ed25519", "id_ecdsa", "id_rsa"} {
			if path := filepath.Join(home, key); isFile(path) {
				words = append(words, "-o", "IdentityFile="+sshQuote(path))
			}
		}
		if path := filepath.Join(home, "known_hosts"); isFile(path) {
			hosts += " " + sshQuote(path)
		}
	}
	words = append(words, "-o", "UserKnownHostsFile="+hosts)
	for i, w := range words {
		words[i] = shellQuote(w)
	}
	return strings.Join(words, " "), nil
}

func isFile(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}

// sshQuote protects spaces in a value of ssh's configuration.
func sshQuote(s string) string { return `"` + strings.ReplaceAll(s, `"`, "") + `"` }

// shellQuote makes s one word for the shell by which git starts ssh.
func shellQuote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }
